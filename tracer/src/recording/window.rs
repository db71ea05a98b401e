//! The last seconds, kept in memory until something happens that they are wanted for.

use std::{collections::VecDeque, time::Duration};

use super::carry::Carry;
use crate::capture::frame::{Frame, HEAD, Kind};

/// What a frame takes besides its content.
const FIXED: usize = size_of::<Frame>() + HEAD;

/// The frames of the last seconds. Bounded in time and in memory.
#[derive(Debug)]
pub struct Window {
    frames: VecDeque<(Frame, bool)>,
    bytes: usize,
    span_ns: u64,
    memory: usize,
    /// What later captures need of frames that have left.
    carry: Carry,
    /// Events that left before their time, for want of memory: those of the window now.
    short_ns: Option<u64>,
}

impl Window {
    /// Keeps what is no older than `span`, and no more than `memory` bytes.
    #[must_use]
    pub fn new(span: Duration, memory: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            span_ns: u64::try_from(span.as_nanos()).unwrap_or(u64::MAX),
            memory,
            carry: Carry::default(),
            short_ns: None,
        }
    }

    /// Adds a frame; what is too old, or too much, leaves.
    pub fn push(&mut self, frame: Frame, continued: bool) {
        let now_ns = frame.last_ns;
        self.bytes += frame.content.capacity() + FIXED;
        self.frames.push_back((frame, continued));
        self.advance(now_ns);
    }

    /// It is `now_ns`: what is too old leaves.
    pub fn advance(&mut self, now_ns: u64) {
        let oldest_ns = now_ns.saturating_sub(self.span_ns);
        while let Some((frame, _)) = self.frames.front() {
            let old = frame.last_ns < oldest_ns;
            if !old && self.bytes <= self.memory {
                break;
            }
            if !old && frame.kind == Kind::Records {
                self.short_ns = Some(frame.last_ns);
            }
            let Some((frame, continued)) = self.frames.pop_front() else { break };
            self.bytes -= frame.content.capacity() + FIXED;
            self.carry.note(frame, continued);
        }
        if self.short_ns.is_some_and(|short_ns| short_ns < oldest_ns) {
            self.short_ns = None;
        }
    }

    /// Bytes in use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The time from which on it is whole, where memory did not suffice for all of it: nanoseconds since boot.
    #[must_use]
    pub fn short_ns(&self) -> Option<u64> {
        self.short_ns
    }

    /// Hands over what a capture begins with, and empties itself.
    pub fn take(&mut self, mut each: impl FnMut(&Frame)) {
        self.carry.frames().for_each(&mut each);
        for (frame, continued) in self.frames.drain(..) {
            each(&frame);
            self.carry.note(frame, continued);
        }
        (self.bytes, self.short_ns) = (0, None);
    }

    /// What later captures need of frames that are not in it any more.
    pub fn carried(&self) -> impl Iterator<Item = &Frame> {
        self.carry.frames()
    }

    /// Keeps what later captures need of a frame that is written already.
    pub fn pass(&mut self, frame: Frame, continued: bool) {
        self.carry.note(frame, continued);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::frame::Encoding;

    fn frame(kind: Kind, at_s: u64, bytes: usize) -> Frame {
        let at_ns = at_s * 1_000_000_000;
        let (encoding, content) = (Encoding::Plain, vec![0; bytes]);
        Frame { kind, encoding, count: 1, raw: 0, first_ns: at_ns, last_ns: at_ns, content }
    }

    fn taken(window: &mut Window) -> Vec<(Kind, u64)> {
        let mut taken = Vec::new();
        window.take(|frame| taken.push((frame.kind, frame.last_ns / 1_000_000_000)));
        taken
    }

    #[test]
    fn what_is_old_leaves_but_for_what_later_frames_need() {
        let mut window = Window::new(Duration::from_secs(10), 1 << 20);
        window.push(frame(Kind::Sockets, 1, 10), false);
        window.push(frame(Kind::Sockets, 1, 10), true);
        for second in 2..=20 {
            window.push(frame(Kind::Records, second, 10), false);
        }
        let taken = taken(&mut window);
        assert_eq!(taken[..2], [(Kind::Sockets, 1); 2]);
        assert_eq!(taken[2], (Kind::Records, 10));
        assert_eq!(taken.len(), 13);
        assert_eq!((window.bytes(), window.short_ns()), (0, None));
    }

    #[test]
    fn it_takes_no_more_memory_than_it_may_and_says_what_it_could_not_keep() {
        let mut window = Window::new(Duration::from_secs(30), 10_000);
        for second in 1..=20 {
            window.push(frame(Kind::Records, second, 1_000), false);
            assert!(window.bytes() <= 10_000);
        }
        assert!(window.short_ns().is_some_and(|ns| ns > 10_000_000_000));
        assert!(taken(&mut window).len() < 10);
        window.push(frame(Kind::Records, 60, 10), false);
        assert_eq!(window.short_ns(), None);
    }
}
