//! Lines of the error log that wait for the answers that they explain.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::logs::Class;

/// Most runs of like lines of an upstream that are kept in order; of more, the oldest are forgotten.
const MAX_RUNS: usize = 4096;

/// The queues, by upstream.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: HashMap<String, VecDeque<Run>>,
    /// Upstreams by their oldest line.
    oldest: BTreeMap<u64, String>,
    pushed: u64,
}

/// Like lines, one after the other.
#[derive(Debug)]
struct Run {
    class: Class,
    count: u64,
    /// When the first was pushed.
    since: u64,
}

impl Queue {
    /// A line toward an upstream.
    pub fn push(&mut self, upstream: &str, class: Class) {
        self.pushed += 1;
        let since = self.pushed;
        if !self.waiting.contains_key(upstream) {
            self.waiting.insert(upstream.to_owned(), VecDeque::new());
        }
        let Some(runs) = self.waiting.get_mut(upstream) else { return };
        match runs.back_mut() {
            Some(last) if last.class == class => last.count += 1,
            _ => {
                if runs.is_empty() {
                    self.oldest.insert(since, upstream.to_owned());
                }
                runs.push_back(Run { class, count: 1, since });
            }
        }
        if runs.len() > MAX_RUNS
            && let Some(dropped) = runs.pop_front()
        {
            self.oldest.remove(&dropped.since);
            if let Some(next) = runs.front() {
                self.oldest.insert(next.since, upstream.to_owned());
            }
        }
    }

    /// The oldest line toward this upstream.
    pub fn pop(&mut self, upstream: &str) -> Option<Class> {
        let runs = self.waiting.get_mut(upstream)?;
        let first = runs.front_mut()?;
        let class = first.class;
        first.count -= 1;
        if first.count == 0 {
            self.oldest.remove(&first.since);
            runs.pop_front();
            match runs.front() {
                Some(next) => {
                    self.oldest.insert(next.since, upstream.to_owned());
                }
                None => {
                    self.waiting.remove(upstream);
                }
            }
        }
        Some(class)
    }

    /// The oldest line of all, and where to.
    pub fn pop_any(&mut self) -> (Option<String>, Option<Class>) {
        let Some(upstream) = self.oldest.values().next().cloned() else { return (None, None) };
        let class = self.pop(&upstream);
        (Some(upstream), class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out() {
        let mut queue = Queue::default();
        for (upstream, class) in
            [("a", Class::Refused), ("a", Class::Refused), ("b", Class::Reset), ("a", Class::Reset)]
        {
            queue.push(upstream, class);
        }
        assert_eq!(queue.pop("a"), Some(Class::Refused));
        assert_eq!(queue.pop_any(), (Some("a".to_owned()), Some(Class::Refused)));
        assert_eq!(queue.pop_any(), (Some("b".to_owned()), Some(Class::Reset)));
        assert_eq!(queue.pop("b"), None);
        assert_eq!(queue.pop_any(), (Some("a".to_owned()), Some(Class::Reset)));
        assert_eq!(queue.pop_any(), (None, None));
    }

    #[test]
    fn memory_is_bounded() {
        let mut queue = Queue::default();
        for _ in 0..2 * MAX_RUNS {
            queue.push("a", Class::Refused);
            queue.push("a", Class::Reset);
        }
        assert_eq!((queue.waiting["a"].len(), queue.oldest.len()), (MAX_RUNS, 1));
    }
}
