//! Bytes to lines, in any pieces.

use super::LONGEST;

/// Bytes to lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The begun line; at most [`LONGEST`] bytes.
    pub(super) begun: Vec<u8>,
    /// Everything up to the next end of a line is dropped.
    pub(super) skipping: bool,
    /// Lines that were cut.
    pub(super) cut: u64,
}

impl Lines {
    /// More bytes: gives each line that they end, without its end.
    pub(super) fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.begun.is_empty() && !self.skipping && line.len() <= LONGEST {
                each(line);
                continue;
            }
            self.begin(line, each);
            if !self.skipping {
                each(&self.begun);
            }
            self.begun.clear();
            self.skipping = false;
        }
        self.begin(bytes, each);
    }

    /// More of the begun line; once it is too long, what there is of it is given.
    fn begin(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        if self.skipping {
            return;
        }
        let room = LONGEST - self.begun.len();
        self.begun.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if bytes.len() > room {
            each(&self.begun);
            self.begun.clear();
            self.skipping = true;
            self.cut += 1;
        }
    }

    /// Ends the begun line at a hole. Zero bytes at its end are of the block that the hole begins behind.
    pub(super) fn break_off(&mut self, each: &mut dyn FnMut(&[u8])) {
        let text = self.begun.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.begun.truncate(text);
        self.finish(each);
        self.skipping = false;
    }

    /// Gives the line that has no end.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(&[u8])) {
        if !self.begun.is_empty() {
            each(&self.begun);
            self.begun.clear();
        }
    }
}
