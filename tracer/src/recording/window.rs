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
            short_ns: None,
        }
    }

    /// Adds a frame; what is too old, or too much, leaves: what later captures need of it goes into `carry`.
    pub fn push(&mut self, frame: Frame, continued: bool, carry: &mut Carry) {
        let oldest_ns = frame.last_ns.saturating_sub(self.span_ns);
        self.bytes += frame.content.capacity() + FIXED;
        self.frames.push_back((frame, continued));
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
            carry.note(frame, continued);
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

    /// Hands all over, and is empty.
    pub fn take(&mut self) -> VecDeque<(Frame, bool)> {
        (self.bytes, self.short_ns) = (0, None);
        std::mem::take(&mut self.frames)
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

    fn taken(window: &mut Window, carry: &Carry) -> Vec<(Kind, u64)> {
        let held = window.take();
        let frames = carry.frames().chain(held.iter().map(|(frame, _)| frame));
        frames.map(|frame| (frame.kind, frame.last_ns / 1_000_000_000)).collect()
    }

    #[test]
    fn what_is_old_leaves_but_for_what_later_frames_need() {
        let (mut window, mut carry) =
            (Window::new(Duration::from_secs(10), 1 << 20), Carry::default());
        window.push(frame(Kind::Sockets, 1, 10), false, &mut carry);
        window.push(frame(Kind::Sockets, 1, 10), true, &mut carry);
        for second in 2..=20 {
            window.push(frame(Kind::Records, second, 10), false, &mut carry);
        }
        let taken = taken(&mut window, &carry);
        assert_eq!(taken[..2], [(Kind::Sockets, 1); 2]);
        assert_eq!(taken[2], (Kind::Records, 10));
        assert_eq!(taken.len(), 13);
        assert_eq!((window.bytes(), window.short_ns()), (0, None));
    }

    #[test]
    fn it_takes_no_more_memory_than_it_may_and_says_what_it_could_not_keep() {
        let (mut window, mut carry) =
            (Window::new(Duration::from_secs(30), 10_000), Carry::default());
        for second in 1..=20 {
            window.push(frame(Kind::Records, second, 1_000), false, &mut carry);
            assert!(window.bytes() <= 10_000);
        }
        assert!(window.short_ns().is_some_and(|ns| ns > 10_000_000_000));
        assert!(taken(&mut window, &carry).len() < 10);
        window.push(frame(Kind::Records, 60, 10), false, &mut carry);
        assert_eq!(window.short_ns(), None);
    }
}
