//! Makes a capture of many events, those of a real incident again and again, and measures what a report of it takes.
//!
//! ```sh
//! cargo run --release --example big_capture FILE [EVENTS]
//! ```

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::{
    fs::File,
    io::{self, BufWriter},
    mem::offset_of,
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use socklife::{
    capture::{
        Item,
        block::Encoder,
        content::End,
        frame::{Frame, Kind},
        reader::Reader,
        writer::Writer,
    },
    report::fold,
};
use tracer_ebpf::{RAW_EVENT_SIZE, RawEvent};

const INCIDENTS: &[u8] = include_bytes!("../fixtures/incidents-v1.socklife");

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(file) = arguments.next() else { bail!("big_capture FILE [EVENTS]") };
    let events = arguments.next().map_or(Ok(50_000_000), |events| events.parse::<u64>())?;
    let begun = Instant::now();
    let bytes = make(Path::new(&file), events)?;
    println!("made {} MB in {:.1} s", bytes / 1_000_000, begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let report = fold::of(Path::new(&file))?;
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let millions = report.events as f64 / seconds / 1e6;
    println!(
        "report of {} events and {} samples: {seconds:.1} s, {millions:.1} million events a second",
        report.events, report.samples
    );
    println!(
        "{} failures, {} incidents, {} steps",
        report.failed,
        report.incidents.len(),
        report.timeline.steps.len()
    );
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).context("no VmHWM")?;
    println!("{peak}");
    Ok(())
}

/// Bytes of it.
fn make(path: &Path, events: u64) -> Result<u64> {
    let mut reader = Reader::open(INCIDENTS)?;
    let header = reader.header().clone();
    let (mut items, mut last_ns) = (Vec::new(), 0);
    while let Some(item) = reader.next_item()? {
        if let Item::End(end) = &item {
            last_ns = end.at_ns;
        }
        items.push(item);
    }
    let round_ns = last_ns - header.started_ns;
    let mut writer = Writer::new(BufWriter::new(File::create(path)?), &header)?;
    let mut encoder = Encoder::new()?;
    let mut later_ns = 0;
    while writer.events() < events {
        for item in &mut items {
            match item {
                Item::Records(records) => {
                    let shifted = shifted(records, later_ns);
                    encoder.records(&shifted, |frame| writer.put(&frame))?;
                }
                Item::Sample(listing) => {
                    seal(&mut encoder, &mut writer)?;
                    let at_ns = listing.at_ns;
                    listing.at_ns += later_ns;
                    let raw = serde_json::to_vec(listing)?;
                    listing.at_ns = at_ns;
                    let frame = encoder.other(Kind::Sample, at_ns + later_ns, &raw)?;
                    writer.put(&frame)?;
                }
                _ => {}
            }
        }
        later_ns += round_ns;
    }
    seal(&mut encoder, &mut writer)?;
    let bytes = writer.written();
    let (at_ns, why) = (header.started_ns + later_ns, "it was enough".to_owned());
    writer.end(&End { at_ns, why, ..End::default() })?;
    Ok(bytes)
}

fn seal(encoder: &mut Encoder, writer: &mut Writer<impl io::Write>) -> io::Result<()> {
    let block: Option<Frame> = encoder.seal()?;
    block.map_or(Ok(()), |frame| writer.put(&frame))
}

fn shifted(records: &[u8], later_ns: u64) -> Vec<u8> {
    const AT: usize = offset_of!(RawEvent, ts_ns);
    let mut records = records.to_vec();
    for record in records.chunks_exact_mut(RAW_EVENT_SIZE) {
        let time = &mut record[AT..AT + 8];
        let ns = <[u8; 8]>::try_from(&*time).map_or(0, u64::from_le_bytes);
        time.copy_from_slice(&(ns + later_ns).to_le_bytes());
    }
    records
}
