//! What we cost ourselves: processor time, memory, frames.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// Spans that the longest frame is told of.
const SPANS: usize = 60;

/// Our own usage, since the last time that somebody asked.
#[derive(Debug)]
pub struct Usage {
    asked: Instant,
    cpu: Duration,
    last_frame: Duration,
    /// The longest frame of each span; the newest last.
    longest: VecDeque<Duration>,
}

impl Default for Usage {
    fn default() -> Self {
        let longest = VecDeque::from([Duration::ZERO]);
        Self { asked: Instant::now(), cpu: cpu_time(), last_frame: Duration::ZERO, longest }
    }
}

impl Usage {
    /// Processor time since the last call, percent of one core, and resident memory in bytes.
    pub fn since_last(&mut self) -> (f64, u64) {
        let (now, cpu) = (Instant::now(), cpu_time());
        let used = cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu));
        let passed = now - std::mem::replace(&mut self.asked, now);
        self.longest.push_back(Duration::ZERO);
        if self.longest.len() > SPANS {
            self.longest.pop_front();
        }
        let percent = if passed.is_zero() { 0.0 } else { 100.0 * used.div_duration_f64(passed) };
        (percent, resident())
    }

    /// A frame took so much processor time.
    pub fn frame(&mut self, time: Duration) {
        self.last_frame = time;
        if let Some(longest) = self.longest.back_mut() {
            *longest = time.max(*longest);
        }
    }

    /// The last frame and the longest of the last minute, microseconds.
    #[must_use]
    pub fn frames(&self) -> (u64, u64) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let longest = self.longest.iter().max().copied().unwrap_or_default();
        (us(self.last_frame), us(longest))
    }
}

/// Makes the C library's allocator give memory back: a look at a busy host takes a lot of it, again and again, on
/// several threads. To be called first.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate wraps these functions of glibc")]
pub fn keep_little_memory() {
    // SAFETY: mallopt(3) takes no pointer; there is no other thread yet.
    unsafe {
        // By default there are many, each as large as the most that a thread on it ever had.
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
        // What is larger is mapped apart, and unmapped when it is freed.
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Gives memory that is not used any more back to the system.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate wraps this function of glibc")]
pub fn give_memory_back() {
    // SAFETY: malloc_trim(3) takes no pointer, and may be called at any time, from any thread.
    unsafe { nix::libc::malloc_trim(0) };
}

/// Other C libraries do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn keep_little_memory() {}

/// Other C libraries do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_memory_back() {}

/// Processor time of the calling thread.
#[must_use]
pub fn thread_time() -> Duration {
    duration(ClockId::ThreadCPUTime)
}

fn cpu_time() -> Duration {
    duration(ClockId::ProcessCPUTime)
}

fn duration(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The second number of `/proc/self/statm`, in pages.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}
