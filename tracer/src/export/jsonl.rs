//! JSON lines: exactly those of `trace --format json`.

use std::io::Write;

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    Format,
    output::Output,
    row::{DAMAGED, Gone},
};
use crate::{
    capture::content::Header,
    event::Event,
    sink::{
        clock::Clock,
        json::{self, Told},
    },
    table::Change,
};

/// Bytes that are written at a time.
const BLOCK: usize = 256 << 10;

#[derive(Serialize)]
struct GoneLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    why: &'static str,
}

/// `--to jsonl`
pub struct Jsonl {
    output: Output,
    /// Each line names its host, since there are several captures.
    several: bool,
    host: Option<String>,
    clock: Clock,
    block: Vec<u8>,
}

impl Jsonl {
    /// Into `output`; `several`: captures.
    #[must_use]
    pub fn new(output: Output, several: bool) -> Self {
        let clock = Clock::new(0, TimeZone::UTC);
        Self { output, several, host: None, clock, block: Vec::with_capacity(BLOCK + 1024) }
    }

    fn pass_on(&mut self, from: usize) -> Result<()> {
        if self.block.len() >= from {
            self.output.write_all(&self.block).context("can't write")?;
            self.block.clear();
        }
        Ok(())
    }
}

impl Format for Jsonl {
    fn begin(&mut self, header: &Header, host: &str) -> Result<()> {
        self.host = self.several.then(|| host.to_owned());
        self.clock = Clock::new(header.epoch_ns, TimeZone::UTC);
        Ok(())
    }

    fn event(&mut self, event: &Event, change: &Change, cgroup: Option<&str>) -> Result<()> {
        let ts = self.clock.rfc3339(event.ts_ns());
        let told = Told { host: self.host.as_deref(), ts: &ts, cgroup };
        json::event(event, change, told, &mut self.block);
        self.pass_on(BLOCK)
    }

    fn gone(&mut self, gone: Gone) -> Result<()> {
        let Gone { lost, why } = gone;
        let line = GoneLine { host: self.host.as_deref(), event: DAMAGED, lost, why };
        json::line(&line, &mut self.block);
        self.pass_on(BLOCK)
    }

    fn end(mut self: Box<Self>) -> Result<Output> {
        self.pass_on(0)?;
        Ok(self.output)
    }
}
