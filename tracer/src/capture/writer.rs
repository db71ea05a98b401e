//! Puts frames one after the other.

use std::io::{self, Write};

use super::{
    block::Encoder,
    content::{End, Header, IndexEntry},
    frame::{Frame, Kind},
};

/// Most blocks that the index names: of more, every second one.
const MAX_INDEX: usize = 65_536;

/// A capture that is being written.
pub struct Writer<W> {
    to: W,
    encoder: Encoder,
    written: u64,
    events: u64,
    sequence: u32,
    index: Vec<IndexEntry>,
}

impl<W: Write> Writer<W> {
    /// Begins with the header, twice: damage to one of them takes nothing away.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(to: W, header: &Header) -> io::Result<Self> {
        let encoder = Encoder::new()?;
        let mut writer =
            Self { to, encoder, written: 0, events: 0, sequence: 0, index: Vec::new() };
        let raw = serde_json::to_vec(header)?;
        let frame = writer.encoder.other(Kind::Header, header.started_ns, &raw)?;
        writer.put(&frame)?;
        writer.put(&frame)?;
        Ok(writer)
    }

    /// Appends a frame, whole or with an error.
    ///
    /// # Errors
    /// It can't be written.
    pub fn put(&mut self, frame: &Frame) -> io::Result<()> {
        let head = frame.head(self.events, self.sequence)?;
        if frame.kind == Kind::Records {
            let (first_ns, last_ns) = (frame.first_ns, frame.last_ns);
            let (offset, events_before) = (self.written, self.events);
            self.index.push(IndexEntry { offset, events_before, first_ns, last_ns });
            if self.index.len() > MAX_INDEX {
                let mut keep = false;
                self.index.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
        }
        // One call: a kill between two would tear a frame that needn't be.
        let mut whole = Vec::with_capacity(head.len() + frame.content.len());
        whole.extend_from_slice(&head);
        whole.extend_from_slice(&frame.content);
        self.to.write_all(&whole)?;
        self.written += frame.length();
        self.events += u64::from(frame.count);
        self.sequence += 1;
        Ok(())
    }

    /// Ends with the index and totals; what of `end` is known here is filled in. Gives where it went, and all
    /// bytes of it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn end(mut self, end: &End) -> io::Result<(W, u64)> {
        let at = self.written;
        let index = std::mem::take(&mut self.index);
        let frame = self.encoder.other(Kind::Index, end.at_ns, &serde_json::to_vec(&index)?)?;
        self.put(&frame)?;
        let end = End { events: self.events, index: Some(at), ..end.clone() };
        let frame = self.encoder.other(Kind::End, end.at_ns, &serde_json::to_vec(&end)?)?;
        self.put(&frame)?;
        self.to.flush()?;
        Ok((self.to, self.written))
    }

    /// Bytes so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Records so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Where it goes.
    pub fn inner(&mut self) -> &mut W {
        &mut self.to
    }
}
