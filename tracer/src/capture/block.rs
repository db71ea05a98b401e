//! Blocks of records and how they are stored: bytes of the same place in a record are alike, so they stand
//! together, and zstd finds them.

use std::io;

use tracer_ebpf::{RAW_EVENT_SIZE, RawEvent};
use zstd::bulk::{Compressor, Decompressor};

use super::frame::{Encoding, Frame, Kind, MAX_RAW};

/// zstd's fastest ordinary level.
const LEVEL: i32 = 1;
/// Records of a full block: what is lost when the host goes down, and the least that is read.
pub const BLOCK: usize = 8192;
/// Records that are turned over at a time, so that all their bytes stay in the cache.
const TURNED: usize = 64;

/// Makes frames; keeps what can be used again.
pub struct Encoder {
    zstd: Compressor<'static>,
    /// Records of the block that isn't full.
    open: Vec<u8>,
    turned: Vec<u8>,
}

impl Encoder {
    /// # Errors
    /// No memory.
    pub fn new() -> io::Result<Self> {
        let zstd = Compressor::new(LEVEL)?;
        Ok(Self { zstd, open: Vec::with_capacity(BLOCK * RAW_EVENT_SIZE), turned: Vec::new() })
    }

    /// Adds whole records to the open block; `each` takes the blocks that are full.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn records(
        &mut self,
        mut records: &[u8],
        mut each: impl FnMut(Frame) -> io::Result<()>,
    ) -> io::Result<()> {
        while !records.is_empty() {
            let room = BLOCK * RAW_EVENT_SIZE - self.open.len();
            let (now, later) = records.split_at(room.min(records.len()));
            self.open.extend_from_slice(now);
            records = later;
            if self.open.len() == BLOCK * RAW_EVENT_SIZE
                && let Some(frame) = self.seal()?
            {
                each(frame)?;
            }
        }
        Ok(())
    }

    /// Records in the open block.
    #[must_use]
    pub fn open(&self) -> u64 {
        (self.open.len() / RAW_EVENT_SIZE) as u64
    }

    /// The open block as a frame; `None`: it is empty.
    ///
    /// # Errors
    /// zstd fails.
    pub fn seal(&mut self) -> io::Result<Option<Frame>> {
        if self.open.is_empty() {
            return Ok(None);
        }
        let times = self.open.chunks_exact(RAW_EVENT_SIZE).map(time_of);
        let (first_ns, last_ns) =
            times.fold((u64::MAX, 0), |(first, last), time| (first.min(time), last.max(time)));
        let count = self.open.len() / RAW_EVENT_SIZE;
        self.turned.resize(self.open.len(), 0);
        transpose(&self.open, &mut self.turned);
        let mut content = self.zstd.compress(&self.turned)?;
        // It was given room for what can't be compressed.
        content.shrink_to_fit();
        let frame = Frame {
            kind: Kind::Records,
            encoding: Encoding::Transposed,
            count: u32::try_from(count).map_err(io::Error::other)?,
            raw: u32::try_from(self.open.len()).map_err(io::Error::other)?,
            first_ns,
            last_ns,
            content,
        };
        self.open.clear();
        Ok(Some(frame))
    }

    /// A frame of anything else.
    ///
    /// # Errors
    /// zstd fails, or it is too large to be read again.
    pub fn other(&mut self, kind: Kind, at_ns: u64, raw: &[u8]) -> io::Result<Frame> {
        if raw.len() > MAX_RAW {
            return Err(io::Error::other(format!("{} bytes are too many for a frame", raw.len())));
        }
        // What one may want to read with `strings`, or after damage, is not compressed.
        let plain = matches!(kind, Kind::Header | Kind::Lost | Kind::End);
        let (encoding, content) = if plain {
            (Encoding::Plain, raw.to_vec())
        } else {
            let mut content = self.zstd.compress(raw)?;
            content.shrink_to_fit();
            (Encoding::Zstd, content)
        };
        let length = u32::try_from(raw.len()).map_err(io::Error::other)?;
        Ok(Frame {
            kind,
            encoding,
            count: 0,
            raw: length,
            first_ns: at_ns,
            last_ns: at_ns,
            content,
        })
    }
}

/// Undoes what [`Encoder`] did.
pub struct Decoder {
    zstd: Decompressor<'static>,
    turned: Vec<u8>,
}

impl Decoder {
    /// # Errors
    /// No memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()?, turned: Vec::new() })
    }

    /// The content of a frame.
    ///
    /// # Errors
    /// It is not what its head says.
    pub fn decode(&mut self, stored: &[u8], encoding: Encoding, raw: usize) -> io::Result<Vec<u8>> {
        if encoding == Encoding::Plain {
            return exactly(stored.to_vec(), raw);
        }
        if encoding == Encoding::Zstd {
            return exactly(self.zstd.decompress(stored, raw)?, raw);
        }
        if !raw.is_multiple_of(RAW_EVENT_SIZE) {
            return Err(io::Error::other("part of a record"));
        }
        self.turned.resize(raw, 0);
        let length = self.zstd.decompress_to_buffer(stored, &mut self.turned[..])?;
        if length != raw {
            return Err(io::Error::other("shorter than its head says"));
        }
        let mut records = vec![0; raw];
        turn_back(&self.turned, &mut records);
        Ok(records)
    }
}

fn exactly(bytes: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(io::Error::other("shorter than its head says"))
    }
}

/// `ts_ns` of a whole record.
pub(crate) fn time_of(record: &[u8]) -> u64 {
    const AT: usize = std::mem::offset_of!(RawEvent, ts_ns);
    record.get(AT..AT + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Records to columns of bytes.
fn transpose(records: &[u8], columns: &mut [u8]) {
    let count = records.len() / RAW_EVENT_SIZE;
    for start in (0..count).step_by(TURNED) {
        let end = (start + TURNED).min(count);
        let rows = &records[start * RAW_EVENT_SIZE..end * RAW_EVENT_SIZE];
        for (at, column) in columns.chunks_exact_mut(count).enumerate() {
            let cells = column[start..end].iter_mut();
            for (cell, row) in cells.zip(rows.chunks_exact(RAW_EVENT_SIZE)) {
                *cell = row[at];
            }
        }
    }
}

/// Columns of bytes to records.
fn turn_back(columns: &[u8], records: &mut [u8]) {
    let count = records.len() / RAW_EVENT_SIZE;
    for start in (0..count).step_by(TURNED) {
        let end = (start + TURNED).min(count);
        let rows = &mut records[start * RAW_EVENT_SIZE..end * RAW_EVENT_SIZE];
        for (at, column) in columns.chunks_exact(count).enumerate() {
            let rows = rows.chunks_exact_mut(RAW_EVENT_SIZE);
            for (row, cell) in rows.zip(&column[start..end]) {
                row[at] = *cell;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_back(count in 0_usize..300, seed in any::<u8>()) {
            let byte = |at: usize| ((at * 31 + at / 97) % 256).to_le_bytes()[0] ^ seed;
            let records: Vec<u8> = (0..count * RAW_EVENT_SIZE).map(byte).collect();
            let mut encoder = Encoder::new().unwrap();
            let mut frames = Vec::new();
            let mut keep = |frame| { frames.push(frame); Ok(()) };
            encoder.records(&records, &mut keep).unwrap();
            if let Some(frame) = encoder.seal().unwrap() {
                keep(frame).unwrap();
            }
            let mut decoder = Decoder::new().unwrap();
            let mut read = Vec::new();
            for frame in frames {
                let raw = frame.raw as usize;
                read.extend(decoder.decode(&frame.content, frame.encoding, raw).unwrap());
            }
            prop_assert_eq!(read, records);
        }
    }

    #[test]
    fn a_block_is_full_at_its_size() {
        let records = vec![7; (2 * BLOCK + 5) * RAW_EVENT_SIZE];
        let mut encoder = Encoder::new().unwrap();
        let mut counts = Vec::new();
        encoder
            .records(&records, |frame| {
                counts.push(frame.count as usize);
                Ok(())
            })
            .unwrap();
        assert_eq!((counts, encoder.open()), (vec![BLOCK; 2], 5));
    }
}
