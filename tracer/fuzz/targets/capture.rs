//! Any bytes: a capture is read to its end or refused, and its events go down the road. Checksums keep a fuzzer
//! from getting anywhere, so what it makes is also put into sound frames.

#![no_main]

use libfuzzer_sys::fuzz_target;
use socklife::{
    capture::{
        block::Encoder,
        content::{End, Header},
        frame::{FORMAT, Kind},
        reader::Reader,
        walk::Walk,
        writer::Writer,
    },
    live::Live,
};

const KINDS: [Kind; 6] =
    [Kind::Lost, Kind::Sockets, Kind::Sample, Kind::Cgroups, Kind::Settings, Kind::End];
/// Bytes of a record, and its layout.
const RECORD: usize = 112;
const ABI: u16 = 1;

fuzz_target!(|bytes: &[u8]| {
    read(bytes.to_vec());
    if let Some(capture) = framed(bytes) {
        read(capture);
    }
});

fn read(bytes: Vec<u8>) {
    if let Ok(mut reader) = Reader::open(&bytes[..]) {
        while let Ok(Some(_)) = reader.next_item() {}
    }
    let Ok(mut walk) = Walk::of(std::io::Cursor::new(bytes)) else { return };
    let mut live = Live::new(None);
    while let Ok(true) = walk.advance(|step| match step {
        socklife::capture::walk::Step::Event(event, change) => live.event(event, change),
        socklife::capture::walk::Step::Sample(listing) => live.listed(*listing),
        _ => {}
    }) {}
    live.shot(1, socklife::live::shot::Ground::default());
}

/// A capture whose frames hold these bytes: each piece begins with a byte for its kind and one for its length.
fn framed(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header { format: FORMAT, abi: ABI, record_size: RECORD, ..Header::default() };
    let mut encoder = Encoder::new().ok()?;
    let mut writer = Writer::new(Vec::new(), &header).ok()?;
    while let [kind, length, rest @ ..] = bytes {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*length) * 4));
        bytes = rest;
        let frame = match KINDS.get(usize::from(*kind)) {
            Some(kind) => encoder.other(*kind, 1, piece).ok()?,
            None => {
                let mut records = piece.to_vec();
                // The first bytes of a record say what it is: else most are refused at once.
                records.resize(piece.len().div_ceil(RECORD).max(1) * RECORD, 0);
                for record in records.chunks_mut(RECORD) {
                    (record[0], record[1]) = (1 + record[0] % 5, 0);
                    record[2..4].copy_from_slice(&112_u16.to_le_bytes());
                }
                encoder.records(&records, |_| Ok(())).ok()?;
                encoder.seal().ok()??
            }
        };
        writer.put(&frame).ok()?;
    }
    writer.end(&End::default()).ok().map(|(capture, _)| capture)
}
