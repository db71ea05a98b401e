//! Captures: the road's records in a file, verbatim, with what else is needed to walk the road again elsewhere.
//! docs/capture-format.md is the contract.
//!
//! [`frame`]: what a capture is a sequence of. [`block`]: how records are stored. [`content`]: what other frames
//! hold. [`writer`], [`reader`]: a whole capture. [`walk`]: down the road again.

pub mod block;
pub mod content;
pub mod frame;
pub mod reader;
pub mod walk;
pub mod writer;

#[cfg(test)]
mod tests;

use std::{fmt, io};

use bytes::Bytes;

use self::{
    content::{CgroupPath, End, Sysctls},
    reader::Newer,
};
use crate::{event::Loss, existing::Met, human::thousands, live::listing::Listing};

/// What comes out of a capture.
#[derive(Debug, PartialEq)]
pub enum Item {
    /// Whole records, as the kernel side wrote them.
    Records(Bytes),
    /// What was lost after the records before it.
    Lost(Loss),
    /// Sockets that existed before, and whose.
    Sockets(Met),
    /// Ceilings, upstreams and processes.
    Sample(Box<Listing>),
    /// Paths of cgroups that later records name.
    Cgroups(Vec<CgroupPath>),
    /// Settings of the host.
    Settings(Sysctls),
    /// A part that can't be read.
    Damage(Damage),
    /// Totals.
    End(End),
}

/// A part of a capture that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that were passed over.
    pub bytes: u64,
    /// Records that are missing for it; `None`: nobody knows.
    pub events: Option<u64>,
    /// Frames that are missing for it; `None`: nobody knows.
    pub frames: Option<u32>,
    /// What is wrong.
    pub why: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes passed over, ", self.why, thousands(self.bytes))?;
        match self.events {
            Some(events) => write!(f, "{} events missing", thousands(events)),
            None => f.write_str("nobody knows how many events are missing"),
        }
    }
}

/// Why a capture can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system.
    #[error("it can't be read: {0}")]
    Io(io::Error),
    /// Another kind of file.
    #[error("it is no capture of socklife (`socklife record` makes them)")]
    NotOne,
    /// Its beginning is gone.
    #[error("it is a capture, but both copies of its header are damaged or missing")]
    NoHeader,
    /// Of a later version.
    #[error("it was written by a newer socklife (format {0}, this one reads up to {max}): use that one", max = frame::FORMAT)]
    Newer(u16),
    /// Records of another layout.
    #[error("its records have layout {abi}, which this socklife doesn't read: use socklife {by}")]
    Abi {
        /// The layout.
        abi: u16,
        /// The version that wrote it.
        by: String,
    },
}

impl From<io::Error> for CaptureError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(Newer(format)) => Self::Newer(*format),
            None => Self::Io(error),
        }
    }
}
