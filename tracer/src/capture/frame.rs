//! Frames: what a capture is a sequence of. docs/capture-format.md is the contract.

use std::io;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

/// Version of the format. A reader refuses what is newer.
pub const FORMAT: u16 = 1;

/// What every frame begins with, and so every capture. Not text, and damaged by what translates line ends.
pub const MARKER: [u8; 8] = *b"\x89SKLF\r\n\x1a";

/// Most bytes of a frame's content: what claims more is damaged.
pub const MAX_RAW: usize = 64 << 20;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Where, when and how it was recorded.
    Header = 1,
    /// Records as the kernel side wrote them.
    Records = 2,
    /// What was lost.
    Lost = 3,
    /// Sockets that existed before, and whose.
    Sockets = 4,
    /// Ceilings, upstreams and processes at one time.
    Sample = 5,
    /// Paths of cgroups.
    Cgroups = 6,
    /// Settings of the host.
    Settings = 7,
    /// Where the blocks of records are.
    Index = 8,
    /// Totals.
    End = 9,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Header,
        Self::Records,
        Self::Lost,
        Self::Sockets,
        Self::Sample,
        Self::Cgroups,
        Self::Settings,
        Self::Index,
        Self::End,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// How a frame's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain = 0,
    /// zstd.
    Zstd = 1,
    /// The first bytes of all records, then the second ones, and so on; and that in zstd.
    Transposed = 2,
}

impl Encoding {
    const ALL: [Self; 3] = [Self::Plain, Self::Zstd, Self::Transposed];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| *encoding as u8 == number)
    }
}

/// The first bytes of a frame as they stand in the file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Raw {
    marker: [u8; 8],
    kind: u8,
    encoding: u8,
    format: U16,
    count: U32,
    stored: U32,
    unpacked: U32,
    first_ns: U64,
    last_ns: U64,
    events_before: U64,
    sequence: U32,
    content_crc: U32,
    reserved: U32,
    head_crc: U32,
}

/// Bytes that a frame's head takes.
pub const HEAD: usize = size_of::<Raw>();

const _: () = assert!(HEAD == 64);
/// What [`Raw::head_crc`] is of.
const CHECKED: usize = HEAD - size_of::<U32>();

/// A frame's head, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// `None`: of a kind that a later version made up.
    pub kind: Option<Kind>,
    /// `None`: likewise.
    pub encoding: Option<Encoding>,
    /// Version of the format.
    pub format: u16,
    /// Records in it.
    pub count: u32,
    /// Bytes that follow.
    pub stored: usize,
    /// Bytes that they become.
    pub raw: usize,
    /// Time of the first record, or of what else it holds: nanoseconds since boot.
    pub first_ns: u64,
    /// Time of the last one.
    pub last_ns: u64,
    /// Records in the capture before it.
    pub events_before: u64,
    /// Frames in the capture before it.
    pub sequence: u32,
    /// CRC-32C of the bytes that follow.
    pub content_crc: u32,
}

impl Head {
    /// Reads one; `None`: these bytes are none, or are damaged.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEAD)?;
        let raw = Raw::read_from_bytes(bytes).ok()?;
        let sound = raw.marker == MARKER
            && raw.head_crc.get() == crc32c::crc32c(&bytes[..CHECKED])
            && raw.stored.get() as usize <= 2 * MAX_RAW
            && raw.unpacked.get() as usize <= MAX_RAW;
        sound.then(|| Self {
            kind: Kind::of(raw.kind),
            encoding: Encoding::of(raw.encoding),
            format: raw.format.get(),
            count: raw.count.get(),
            stored: raw.stored.get() as usize,
            raw: raw.unpacked.get() as usize,
            first_ns: raw.first_ns.get(),
            last_ns: raw.last_ns.get(),
            events_before: raw.events_before.get(),
            sequence: raw.sequence.get(),
            content_crc: raw.content_crc.get(),
        })
    }
}

/// A frame that has no place in a capture yet.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// How.
    pub encoding: Encoding,
    /// Records in it.
    pub count: u32,
    /// Bytes before they were stored.
    pub raw: u32,
    /// Time of the first record, or of what else it holds: nanoseconds since boot.
    pub first_ns: u64,
    /// Time of the last one.
    pub last_ns: u64,
    /// As it is stored.
    pub content: Vec<u8>,
}

impl Frame {
    /// Bytes that it takes in a file.
    #[must_use]
    pub fn length(&self) -> u64 {
        (HEAD + self.content.len()) as u64
    }

    /// Its head, at a place in a capture.
    ///
    /// # Errors
    /// It is too large.
    pub fn head(&self, events_before: u64, sequence: u32) -> io::Result<[u8; HEAD]> {
        let stored = u32::try_from(self.content.len()).map_err(io::Error::other)?;
        let mut raw = Raw {
            marker: MARKER,
            kind: self.kind as u8,
            encoding: self.encoding as u8,
            format: FORMAT.into(),
            count: self.count.into(),
            stored: stored.into(),
            unpacked: self.raw.into(),
            first_ns: self.first_ns.into(),
            last_ns: self.last_ns.into(),
            events_before: events_before.into(),
            sequence: sequence.into(),
            content_crc: crc32c::crc32c(&self.content).into(),
            reserved: 0.into(),
            head_crc: 0.into(),
        };
        raw.head_crc = crc32c::crc32c(&raw.as_bytes()[..CHECKED]).into();
        let mut head = [0; HEAD];
        head.copy_from_slice(raw.as_bytes());
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_and_any_flipped_bit_shows() {
        let frame = Frame {
            kind: Kind::Records,
            encoding: Encoding::Transposed,
            count: 3,
            raw: 336,
            first_ns: 10,
            last_ns: 20,
            content: vec![1, 2, 3],
        };
        let bytes = frame.head(7, 2).unwrap();
        let head = Head::read(&bytes).unwrap();
        assert_eq!((head.kind, head.count, head.stored), (Some(Kind::Records), 3, 3));
        assert_eq!((head.events_before, head.sequence, head.format), (7, 2, FORMAT));
        for bit in 0..HEAD * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::read(&flipped), None, "bit {bit}");
        }
        assert_eq!(Head::read(&bytes[..HEAD - 1]), None);
    }
}
