//! Whose turn it is, where not all can be read: anybody may start processes with a proxy's name.

use std::collections::{HashMap, HashSet};

use super::{Located, host::mounts};

/// A process, and no other that has its id later.
pub(super) type Key = (u32, u64);

/// The key of a process.
pub(super) fn key(of: &Located) -> Key {
    (of.process.pid, of.process.started_ns)
}

/// What came of earlier rounds.
#[derive(Debug, Default)]
pub(super) struct Turns {
    round: u64,
    /// Whether it could be read, and in which round.
    last: HashMap<Key, (bool, u64)>,
}

impl Turns {
    /// Begins a round of these: first those that could be read, then whoever waits longest, of them those of this
    /// process's mount namespace.
    pub(super) fn sort<T>(&mut self, all: &mut [T], located: impl Fn(&T) -> Located) {
        self.round += 1;
        let running: HashSet<_> = all.iter().map(|it| key(&located(it))).collect();
        self.last.retain(|key, _| running.contains(key));
        let own = mounts(std::process::id());
        all.sort_by_cached_key(|it| {
            let located = located(it);
            let (was_read, round) = self.last.get(&key(&located)).copied().unwrap_or_default();
            (!was_read, round, own.is_none() || mounts(located.process.pid) != own)
        });
    }

    /// One of this round was tried.
    pub(super) fn note(&mut self, key: Key, was_read: bool) {
        self.last.insert(key, (was_read, self.round));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::host::located;

    #[test]
    fn who_was_read_comes_first_and_then_who_waits_longest() {
        let me = located(std::process::id()).unwrap();
        let of = |pid| {
            let mut other = me;
            other.process.pid = pid;
            other
        };
        // Only this process's own mount namespace is known to be.
        let others = [u32::MAX - 2, u32::MAX - 1, u32::MAX];
        let mut turns = Turns::default();
        let order = |turns: &mut Turns| {
            let mut all: Vec<_> = others.into_iter().map(of).chain([me]).collect();
            turns.sort(&mut all, |it| *it);
            all.iter().map(|it| it.process.pid).collect::<Vec<_>>()
        };
        let [a, b, c] = others;
        let own = me.process.pid;
        assert_eq!(order(&mut turns), [own, a, b, c]);
        turns.note(key(&me), false);
        turns.note(key(&of(a)), false);
        turns.note(key(&of(b)), true);
        assert_eq!(order(&mut turns), [b, c, own, a]);
        turns.note(key(&me), false);
        assert_eq!(order(&mut turns), [b, c, a, own]);
    }
}
