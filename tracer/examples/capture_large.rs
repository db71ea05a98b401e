//! Makes a large capture: the records of a real one, again and again, each round later than the one before.
//!
//! ```sh
//! cargo run --release --example capture_large -- FROM TO EVENTS
//! ```

use std::{fs::File, io::BufWriter};

use anyhow::{Context, Result, bail};
use socklife::capture::{
    Item, block::Encoder, content::End, frame::Kind, reader::Reader, writer::Writer,
};
use tracer_ebpf::{RAW_EVENT_SIZE, RawEvent};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, events] = &arguments[..] else { bail!("capture_large FROM TO EVENTS") };
    let events: usize = events.parse().context("EVENTS is no number")?;
    let mut reader = Reader::open(File::open(from).with_context(|| from.clone())?)?;
    let to = File::create(to).with_context(|| to.clone())?;
    let mut writer = Writer::new(BufWriter::new(to), reader.header())?;
    let mut encoder = Encoder::new()?;
    let mut records = Vec::new();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Records(block) => records.extend_from_slice(&block),
            Item::Cgroups(paths) => {
                writer.put(&encoder.other(Kind::Cgroups, 0, &serde_json::to_vec(&paths)?)?)?;
            }
            _ => {}
        }
    }
    let at = std::mem::offset_of!(RawEvent, ts_ns);
    let time =
        |record: &[u8]| u64::from_le_bytes(record[at..at + 8].try_into().unwrap_or_default());
    let times = || records.chunks_exact(RAW_EVENT_SIZE).map(time);
    let round_ns = times().max().context("no records")? - times().min().unwrap_or(0) + 1_000_000;
    for round in 0..events.div_ceil(records.len() / RAW_EVENT_SIZE) {
        let later = round_ns * round as u64;
        for record in records.chunks_exact(RAW_EVENT_SIZE) {
            let mut record = record.to_vec();
            let moved = time(&record) + later;
            record[at..at + 8].copy_from_slice(&moved.to_le_bytes());
            encoder.records(&record, |frame| writer.put(&frame))?;
        }
    }
    if let Some(frame) = encoder.seal()? {
        writer.put(&frame)?;
    }
    let produced = Some(writer.events());
    writer.end(&End { produced, why: "it was made".to_owned(), ..End::default() })?;
    Ok(())
}
