//! Lines of the error log that wait for the answers that they explain.
//!
//! An answer takes one of the newest second that has any and is not later than its own, and of those the oldest: a worker
//! of Nginx stamps both by one clock, the failed try's line before that of the answer. So a line that no answer will take
//! (its request is not logged) does not stand before those that come after it. Where answers have no time, they take
//! the oldest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::logs::Class;

/// Most runs of like lines of a status that are kept; of more, the oldest are forgotten.
const MAX_RUNS: usize = 1 << 16;

/// A second (since 1970), and the order in which it came.
type Place = (i64, u64);

/// The lines, by the status that an answer has for such a try.
#[derive(Debug, Default)]
pub struct Queue {
    of: BTreeMap<u16, Lines>,
    pushed: u64,
}

#[derive(Debug, Default)]
struct Lines {
    runs: BTreeMap<Place, Run>,
    by_upstream: HashMap<String, BTreeSet<Place>>,
}

/// Like lines of a second, one after the other.
#[derive(Debug)]
struct Run {
    upstream: String,
    class: Class,
    count: u64,
}

impl Queue {
    /// A line toward an upstream, of this second; one without a time is as old as can be.
    pub fn push(&mut self, status: u16, upstream: &str, class: Class, at: Option<i64>) {
        self.pushed += 1;
        let at = at.unwrap_or(i64::MIN);
        let lines = self.of.entry(status).or_default();
        if let Some(places) = lines.by_upstream.get(upstream)
            && let Some(last) = places.range((at, 0)..=(at, u64::MAX)).next_back()
            && let Some(run) = lines.runs.get_mut(last)
            && run.class == class
        {
            run.count += 1;
            return;
        }
        let place = (at, self.pushed);
        lines.runs.insert(place, Run { upstream: upstream.to_owned(), class, count: 1 });
        lines.by_upstream.entry(upstream.to_owned()).or_default().insert(place);
        if lines.runs.len() > MAX_RUNS
            && let Some(oldest) = lines.runs.first_key_value().map(|(place, _)| *place)
        {
            lines.remove(oldest);
        }
    }

    /// Takes a line toward this upstream for an answer of this second.
    pub fn pop(&mut self, status: u16, upstream: &str, by: Option<i64>) -> Option<Class> {
        let lines = self.of.get_mut(&status)?;
        let places = lines.by_upstream.get(upstream)?;
        let place = chosen(by, |from, to| {
            let mut range = places.range(from..=to);
            (range.next().copied(), range.next_back().copied())
        })?;
        lines.take(place).map(|(_, class)| class)
    }

    /// Takes one of all, and says where it is to.
    pub fn pop_any(&mut self, status: u16, by: Option<i64>) -> Option<(String, Class)> {
        let lines = self.of.get_mut(&status)?;
        let place = chosen(by, |from, to| {
            let mut range = lines.runs.range(from..=to).map(|(place, _)| *place);
            (range.next(), range.next_back())
        })?;
        lines.take(place)
    }

    /// Forgets what is older than a second.
    pub fn forget(&mut self, before: i64) {
        for lines in self.of.values_mut() {
            while let Some((&place, _)) = lines.runs.first_key_value()
                && place.0 < before
            {
                lines.remove(place);
            }
        }
    }
}

/// The oldest place of the newest second that is not later; without a time the oldest of all. `ends`: the first place
/// and another last one between two.
fn chosen(
    by: Option<i64>,
    ends: impl Fn(Place, Place) -> (Option<Place>, Option<Place>),
) -> Option<Place> {
    let (first, last) = ends((i64::MIN, 0), (by.unwrap_or(i64::MAX), u64::MAX));
    let newest = last.or(first)?.0;
    if by.is_none() { first } else { ends((newest, 0), (newest, u64::MAX)).0 }
}

impl Lines {
    fn take(&mut self, place: Place) -> Option<(String, Class)> {
        let run = self.runs.get_mut(&place)?;
        let taken = (run.upstream.clone(), run.class);
        run.count -= 1;
        if run.count == 0 {
            self.remove(place);
        }
        Some(taken)
    }

    fn remove(&mut self, place: Place) {
        let Some(run) = self.runs.remove(&place) else { return };
        if let Some(places) = self.by_upstream.get_mut(&run.upstream) {
            places.remove(&place);
            if places.is_empty() {
                self.by_upstream.remove(&run.upstream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_within_a_second() {
        let mut queue = Queue::default();
        for (upstream, class) in
            [("a", Class::Refused), ("a", Class::Refused), ("b", Class::Reset), ("a", Class::Reset)]
        {
            queue.push(502, upstream, class, Some(7));
        }
        let any = |queue: &mut Queue| queue.pop_any(502, Some(7));
        assert_eq!(queue.pop(502, "a", Some(7)), Some(Class::Refused));
        assert_eq!(any(&mut queue), Some(("a".to_owned(), Class::Refused)));
        assert_eq!(any(&mut queue), Some(("b".to_owned(), Class::Reset)));
        assert_eq!((queue.pop(502, "b", Some(7)), queue.pop(504, "a", Some(7))), (None, None));
        assert_eq!(any(&mut queue), Some(("a".to_owned(), Class::Reset)));
        assert_eq!(any(&mut queue), None);
    }

    #[test]
    fn the_newest_second_that_is_not_later() {
        let mut queue = Queue::default();
        let seconds =
            [(3, Class::Other), (5, Class::Refused), (5, Class::Reset), (6, Class::BadAnswer)];
        for (at, class) in seconds {
            queue.push(502, "a", class, Some(at));
        }
        assert_eq!(queue.pop(502, "a", Some(2)), None);
        assert_eq!(queue.pop(502, "a", Some(5)), Some(Class::Refused));
        assert_eq!(queue.pop(502, "a", Some(5)), Some(Class::Reset));
        queue.push(502, "a", Class::Refused, None);
        assert_eq!(queue.pop(502, "a", None), Some(Class::Refused), "the oldest");
        queue.forget(4);
        assert_eq!(queue.pop(502, "a", Some(5)), None, "forgotten");
        assert_eq!(queue.pop_any(502, Some(9)), Some(("a".to_owned(), Class::BadAnswer)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut queue = Queue::default();
        for index in 0..MAX_RUNS as u64 {
            queue.push(502, &(index % 8192).to_string(), Class::Refused, Some(1));
            queue.push(502, "a", Class::Reset, i64::try_from(index).ok());
        }
        let lines = &queue.of[&502];
        let placed: usize = lines.by_upstream.values().map(BTreeSet::len).sum();
        assert_eq!((lines.runs.len(), placed), (MAX_RUNS, MAX_RUNS));
        queue.forget(i64::MAX);
        assert!(queue.of[&502].by_upstream.is_empty());
    }
}
