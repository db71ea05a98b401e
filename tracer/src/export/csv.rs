//! CSV as RFC 4180 has it, but with line feeds alone: a header line, then a line for each row.

use std::{fmt::Display, io::Write};

use anyhow::{Context, Result};
use csv::Writer;
use jiff::tz::TimeZone;

use super::{
    Format,
    output::Output,
    row::{COLUMNS, Gone, Row},
};
use crate::{
    capture::content::Header,
    event::{Event, Loss},
    sink::clock::Clock,
    table::Change,
};

/// `--to csv`
pub struct Csv {
    writer: Writer<Output>,
    host: String,
    epoch_ns: u64,
    clock: Clock,
    cell: Vec<u8>,
}

impl Csv {
    /// Writes the header line.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(output: Output) -> Result<Self> {
        let mut writer = csv::WriterBuilder::new().buffer_capacity(256 << 10).from_writer(output);
        writer.write_record(COLUMNS).map_err(failed)?;
        let clock = Clock::new(0, TimeZone::UTC);
        Ok(Self { writer, host: String::new(), epoch_ns: 0, clock, cell: Vec::new() })
    }

    fn row(&mut self, row: &Row<&str>) -> Result<()> {
        let mut cells = Cells { writer: &mut self.writer, cell: &mut self.cell };
        let facts = &row.facts;
        let loss = |of: fn(&Loss) -> u64| row.loss().map(of);
        cells.text(Some(row.host))?;
        cells.text(row.ts_ns.map(|ts_ns| self.clock.rfc3339(ts_ns)))?;
        cells.text(Some(facts.event))?;
        cells.text(facts.old)?;
        cells.text(facts.new)?;
        cells.text(facts.substate)?;
        cells.text(row.inferred())?;
        cells.text(row.failed)?;
        cells.text(facts.error)?;
        cells.text(facts.reason)?;
        cells.text(facts.src)?;
        cells.text(facts.sport)?;
        cells.text(facts.dst)?;
        cells.text(facts.dport)?;
        cells.text(facts.family)?;
        cells.text(row.side)?;
        cells.text(facts.pid)?;
        cells.text(facts.comm)?;
        cells.text(row.owner())?;
        cells.text(facts.netns)?;
        cells.text(facts.cgroup)?;
        cells.text(facts.cookie)?;
        cells.text(facts.age_us)?;
        cells.text(row.lost())?;
        cells.text(loss(|it| it.states))?;
        cells.text(loss(|it| it.failures))?;
        cells.text(loss(|it| it.missed))?;
        cells.text(loss(|it| it.owners))?;
        cells.text(loss(|it| it.calls))?;
        cells.text(row.why())?;
        cells.end()
    }
}

impl Format for Csv {
    fn begin(&mut self, header: &Header, host: &str) -> Result<()> {
        host.clone_into(&mut self.host);
        self.epoch_ns = header.epoch_ns;
        Ok(())
    }

    fn event(&mut self, event: &Event, change: &Change, cgroup: Option<&str>) -> Result<()> {
        let host = std::mem::take(&mut self.host);
        let written = self.row(&Row::of(&host, self.epoch_ns, event, change, cgroup));
        self.host = host;
        written
    }

    fn gone(&mut self, gone: Gone) -> Result<()> {
        let host = std::mem::take(&mut self.host);
        let written = self.row(&Row::gone(&host, gone));
        self.host = host;
        written
    }

    fn end(self: Box<Self>) -> Result<Output> {
        let output = self.writer.into_inner();
        output.map_err(csv::IntoInnerError::into_error).context("can't write")
    }
}

/// The cells of a line.
struct Cells<'a> {
    writer: &'a mut Writer<Output>,
    cell: &'a mut Vec<u8>,
}

impl Cells<'_> {
    fn text(&mut self, value: Option<impl Display>) -> Result<()> {
        self.cell.clear();
        if let Some(value) = value {
            write!(self.cell, "{value}")?;
        }
        self.writer.write_field(&*self.cell).map_err(failed)
    }

    fn end(&mut self) -> Result<()> {
        self.writer.write_record(None::<&[u8]>).map_err(failed)
    }
}

/// The system's own error, which says whether the reader is gone.
fn failed(error: csv::Error) -> anyhow::Error {
    let error = match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    };
    anyhow::Error::new(error).context("can't write")
}
