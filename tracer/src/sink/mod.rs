//! Where the road ends: one file for each way to print. A sink only formats; it writes into the
//! buffer that it is given.

pub mod answers_text;
pub mod check_json;
pub mod check_text;
pub mod clock;
mod columns;
pub mod diff_json;
pub mod diff_text;
pub mod facts;
pub mod json;
pub mod output;
pub mod report_html;
pub mod report_json;
pub mod report_text;
pub mod summary;
pub mod text;

use crate::{
    event::Event,
    table::{Change, Table},
};

/// What a sink is told besides the table.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Seconds since the start of the run.
    pub duration_s: f64,
    /// Events that passed the filters in the kernel, seen or lost.
    pub produced: u64,
    /// What the filters ask for and no hook of this kernel shows, as `features` names it.
    pub unseen: Vec<&'static str>,
}

/// Formats the events and totals of a run.
pub trait Sink {
    /// One event, and what it changed.
    fn event(&mut self, event: &Event, change: &Change, out: &mut Vec<u8>);
    /// Totals so far, every `--interval`.
    fn totals(&mut self, table: &Table, totals: &Totals, out: &mut Vec<u8>);
    /// Totals of the run.
    fn end(&mut self, table: &Table, totals: &Totals, out: &mut Vec<u8>) {
        self.totals(table, totals, out);
    }
}
