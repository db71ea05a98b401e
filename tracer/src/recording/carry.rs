//! What the beginning of a capture must have of the time before it: whose sockets there are, paths of cgroups,
//! settings.

use crate::capture::frame::{Frame, Kind};

/// The newest of each.
#[derive(Debug, Default)]
pub struct Carry {
    sockets: Vec<Frame>,
    cgroups: Vec<Frame>,
    settings: Option<Frame>,
}

impl Carry {
    /// Keeps a frame, if later ones need it. `continued`: it is more of the list of sockets before.
    pub fn note(&mut self, frame: Frame, continued: bool) {
        match frame.kind {
            Kind::Sockets => {
                if !continued {
                    self.sockets.clear();
                }
                self.sockets.push(frame);
            }
            // Bounded by who learns them.
            Kind::Cgroups => self.cgroups.push(frame),
            Kind::Settings => self.settings = Some(frame),
            _ => {}
        }
    }

    /// All that is kept, in the order in which it is to be read.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.settings.iter().chain(&self.cgroups).chain(&self.sockets)
    }
}
