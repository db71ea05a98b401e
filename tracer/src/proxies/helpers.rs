//! Work that may hang: on threads of their own, a few at once, that are given up when they are late. A file may be on
//! a file system whose server is gone or means ill (NFS, FUSE), a socket may be held by whoever never answers.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Instant,
};

/// Most at once.
const AT_ONCE: usize = 8;
/// Most that were given up and haven't come back.
const MOST_STUCK: usize = 32;

/// What became of a piece of work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<T> {
    /// It is done.
    Done(T),
    /// It was not done in time, now or earlier, and is still under way.
    Stuck,
    /// There was no time left to begin, or too many are stuck.
    NotBegun,
}

/// A piece of work.
pub(super) type Work<T> = Box<dyn FnOnce() -> T + Send>;

/// Does work for whom it is of, by a key.
#[derive(Debug)]
pub(super) struct Helpers<K, T> {
    /// Whose work is under way.
    busy: HashSet<K>,
    to: Sender<(K, Option<T>)>,
    from: Receiver<(K, Option<T>)>,
}

impl<K, T> Default for Helpers<K, T> {
    fn default() -> Self {
        let (to, from) = channel();
        Self { busy: HashSet::new(), to, from }
    }
}

impl<K: Copy + Eq + Hash + Send + 'static, T: Send + 'static> Helpers<K, T> {
    /// What was late in an earlier round, and is done meanwhile.
    pub(super) fn late(&mut self) -> Vec<(K, T)> {
        let mut late = Vec::new();
        while let Ok((key, result)) = self.from.try_recv() {
            self.busy.remove(&key);
            late.extend(result.map(|result| (key, result)));
        }
        late
    }

    /// Does all of that, in this order, until then. A piece whose key is still under way is not begun again.
    pub(super) fn run(&mut self, work: Vec<(K, Work<T>)>, until: Instant) -> Vec<(K, Outcome<T>)> {
        drop(self.late());
        let (stuck, work): (Vec<_>, Vec<_>) =
            work.into_iter().partition(|(key, _)| self.busy.contains(key));
        let mut outcomes: Vec<_> =
            stuck.into_iter().map(|(key, _)| (key, Outcome::Stuck)).collect();
        let mut work = VecDeque::from(work);
        let mut running = HashSet::new();
        loop {
            while running.len() < AT_ONCE
                && self.busy.len() < AT_ONCE + MOST_STUCK
                && Instant::now() < until
                && let Some((key, piece)) = work.pop_front()
            {
                if self.begin(key, piece) {
                    running.insert(key);
                } else {
                    outcomes.push((key, Outcome::NotBegun));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            let Some((key, result)) =
                (!running.is_empty()).then(|| self.from.recv_timeout(left).ok()).flatten()
            else {
                break;
            };
            self.busy.remove(&key);
            // Others are late ones of an earlier round.
            if running.remove(&key) {
                outcomes.push((key, result.map_or(Outcome::NotBegun, Outcome::Done)));
            }
        }
        outcomes.extend(running.into_iter().map(|key| (key, Outcome::Stuck)));
        outcomes.extend(work.into_iter().map(|(key, _)| (key, Outcome::NotBegun)));
        outcomes
    }

    fn begin(&mut self, key: K, piece: Work<T>) -> bool {
        let to = self.to.clone();
        let work = move || {
            let result = catch_unwind(AssertUnwindSafe(piece)).ok();
            // Nobody may be there any more.
            let _ = to.send((key, result));
        };
        let begun = thread::Builder::new().name("proxies".to_owned()).spawn(work).is_ok();
        if begun {
            self.busy.insert(key);
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sorted(mut outcomes: Vec<(u32, Outcome<u32>)>) -> Vec<(u32, Outcome<u32>)> {
        outcomes.sort_by_key(|(key, _)| *key);
        outcomes
    }

    #[test]
    fn what_hangs_is_given_up_and_not_begun_again_until_it_is_back() {
        let mut helpers = Helpers::<u32, u32>::default();
        let (release, hang) = channel::<()>();
        let hanging: Work<u32> = Box::new(move || {
            let _ = hang.recv();
            7
        });
        let soon = Instant::now() + Duration::from_millis(200);
        let started = Instant::now();
        let outcomes = helpers.run(vec![(1, hanging), (2, Box::new(|| 2))], soon);
        assert_eq!(sorted(outcomes), [(1, Outcome::Stuck), (2, Outcome::Done(2))]);
        let again = || -> Vec<(u32, Work<u32>)> {
            vec![(1, Box::new(|| 1)), (3, Box::new(|| panic!("on purpose")))]
        };
        let outcomes = helpers.run(again(), Instant::now() + Duration::from_secs(10));
        assert_eq!(sorted(outcomes), [(1, Outcome::Stuck), (3, Outcome::NotBegun)]);
        assert!(started.elapsed() < Duration::from_secs(10));
        drop(release);
        let late = loop {
            let late = helpers.late();
            if !late.is_empty() {
                break late;
            }
            thread::yield_now();
        };
        assert_eq!(late, [(1, 7)]);
        let outcomes = helpers.run(again(), Instant::now() + Duration::from_secs(10));
        assert_eq!(sorted(outcomes), [(1, Outcome::Done(1)), (3, Outcome::NotBegun)]);
    }

    #[test]
    fn many_that_hang_take_no_longer_than_one() {
        let mut helpers = Helpers::<u32, ()>::default();
        let started = Instant::now();
        let mut releases = Vec::new();
        for round in 0..6 {
            let work = (0..1000).map(|at| {
                let (release, hang) = channel::<()>();
                releases.push(release);
                let work: Work<()> = Box::new(move || {
                    let _ = hang.recv();
                });
                (round * 1000 + at, work)
            });
            let work = work.collect();
            let outcomes = helpers.run(work, Instant::now() + Duration::from_millis(50));
            let stuck = outcomes.iter().filter(|(_, it)| *it == Outcome::Stuck).count();
            // Five rounds fill what there is; then none is begun any more.
            assert_eq!((stuck, outcomes.len()), (if round < 5 { AT_ONCE } else { 0 }, 1000));
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}
