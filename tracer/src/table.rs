//! The fold: events in, totals out. No clock, no I/O, no kernel: the same events give the same
//! table, live or replayed.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};

use crate::{
    ceilings::ephemeral_ports::PortUse,
    ends::Ends,
    event::{Errno, Event, Loss, Subject},
    existing::{Existing, Met},
    failures::{FailureKey, FailureRow, MAX_PIDS},
    reason::{Failure, Reason, classify, classify_call},
};

/// Most rows that are kept apart; failures beyond them are counted in [`Table::unlisted`].
pub const MAX_ROWS: usize = 65_536;

/// What a table counts as a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every failure, abandoned connects and failures without a known errno too.
    All,
    /// Failures with one of these errnos.
    Errors(BTreeSet<Errno>),
}

impl Selection {
    /// Whether this failure is wanted.
    #[must_use]
    pub fn wants(&self, failure: Failure) -> bool {
        match self {
            Self::All => true,
            Self::Errors(wanted) => failure.error.is_some_and(|error| wanted.contains(&error)),
        }
    }
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No failure, or none that was selected.
    None,
    /// A selected failure.
    Failure(Failure),
    /// Loss.
    Lost(Loss),
}

impl Change {
    /// The failure, if it is a selected one.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failure(failure) => Some(failure),
            Self::None | Self::Lost(_) => None,
        }
    }
}

/// Totals of a run.
#[derive(Debug)]
pub struct Table {
    selection: Selection,
    rows: HashMap<FailureKey, FailureRow>,
    reasons: BTreeMap<Option<Reason>, u64>,
    seen: u64,
    failures: u64,
    unlisted: u64,
    lost: Loss,
    ends: Ends,
    existing: Existing,
}

impl Table {
    /// An empty table that counts the selected failures.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            rows: HashMap::new(),
            reasons: BTreeMap::new(),
            seen: 0,
            failures: 0,
            unlisted: 0,
            lost: Loss::default(),
            ends: Ends::default(),
            existing: Existing::default(),
        }
    }

    /// Takes a list of the sockets that exist.
    pub fn meet(&mut self, met: &Met) {
        self.existing.meet(met);
    }

    /// The sockets that existed before and haven't ended.
    #[must_use]
    pub fn met(&self) -> Met {
        self.existing.met()
    }

    /// Folds one event in, and completes it with the owner of a socket that existed before.
    pub fn apply(&mut self, event: &mut Event) -> Change {
        self.existing.complete(event);
        let event = &*event;
        let (key, subject, failure) = match event {
            Event::Lost(loss) => {
                self.lost.add(loss);
                return Change::Lost(*loss);
            }
            Event::State(change) => {
                self.seen += 1;
                self.ends.note(change);
                let Some(failure) = classify(change) else { return Change::None };
                (FailureKey::of_change(change, failure), &change.subject, failure)
            }
            Event::CallFailed(failed) => {
                self.seen += 1;
                let failure = classify_call(failed);
                (FailureKey::of_call(failed, failure), &failed.subject, failure)
            }
            Event::TimeWait(entered) => {
                self.seen += 1;
                self.ends.note_time_wait(entered);
                return Change::None;
            }
        };
        if !self.selection.wants(failure) {
            return Change::None;
        }
        self.count(key, subject, failure);
        Change::Failure(failure)
    }

    fn count(&mut self, key: FailureKey, subject: &Subject, failure: Failure) {
        self.failures += 1;
        *self.reasons.entry(failure.reason).or_default() += 1;
        let full = self.rows.len() >= MAX_ROWS;
        let row = match self.rows.entry(key) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(_) if full => {
                self.unlisted += 1;
                return;
            }
            Entry::Vacant(room) => room.insert(FailureRow {
                count: 0,
                pids: BTreeSet::new(),
                first_ns: subject.ts_ns,
                last_ns: subject.ts_ns,
                ports: None,
            }),
        };
        row.count += 1;
        row.first_ns = row.first_ns.min(subject.ts_ns);
        row.last_ns = row.last_ns.max(subject.ts_ns);
        if let Some(owner) = subject.owner
            && row.pids.len() < MAX_PIDS
        {
            row.pids.insert(owner.pid);
        }
    }

    /// Notes the ports in use toward a row's upstream.
    pub fn note_ports(&mut self, key: &FailureKey, ports: PortUse) {
        if let Some(row) = self.rows.get_mut(key) {
            let more = row.ports.is_none_or(|before| ports.used >= before.used);
            row.ports = if more { Some(ports) } else { row.ports };
        }
    }

    /// The rows, most failures first.
    #[must_use]
    pub fn rows(&self) -> Vec<(&FailureKey, &FailureRow)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|(a, x), (b, y)| y.count.cmp(&x.count).then_with(|| a.cmp(b)));
        rows
    }

    /// The rows of a reason, in no order.
    pub fn failing(&self, reason: Reason) -> impl Iterator<Item = (&FailureKey, &FailureRow)> {
        self.rows.iter().filter(move |(key, _)| key.reason == Some(reason))
    }

    /// Whether the totals are lower bounds: events were lost, or left out by a filter on owners that
    /// were not known for want of room.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.lost() > 0 || self.lost.owners > 0 || self.lost.calls > 0
    }

    /// How connections ended, by upstream.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Failures by reason.
    #[must_use]
    pub fn reasons(&self) -> &BTreeMap<Option<Reason>, u64> {
        &self.reasons
    }

    /// Events seen, loss not counted.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Selected failures seen: the sum of all rows and [`Self::unlisted`].
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Failures that found no room for a row of their own.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Events lost, of all kinds together.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.events()
    }

    /// What was lost, by kind; its time is that of the last loss.
    #[must_use]
    pub fn loss(&self) -> Loss {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::{Comm, Known, Owner, State, StateChange};

    fn refused(pid: u32, ts_ns: u64, dport: u16) -> Event {
        Event::State(StateChange {
            subject: Subject {
                ts_ns,
                cookie: Some(1),
                src: Some(Ipv4Addr::new(10, 0, 0, 1).into()),
                sport: Some(40_000),
                dst: Some(Ipv4Addr::new(10, 0, 0, 9).into()),
                dport: Some(dport),
                netns: Some(7),
                cgroup: None,
                owner: Some(Owner {
                    pid,
                    tid: pid,
                    comm: Comm::new([b'a'; 16]),
                    known: Known::Stored,
                }),
            },
            old: State::SYN_SENT,
            new: State::CLOSE,
            age_ns: None,
            sk_err: Some(111),
            returned: None,
            error_taken: false,
            shut_down: false,
            port_held: false,
            sent: true,
            passive: false,
        })
    }

    #[test]
    fn like_failures_share_a_row() {
        let mut table = Table::new(Selection::All);
        for (pid, ts) in [(1, 20), (2, 10), (1, 30)] {
            table.apply(&mut refused(pid, ts, 80));
        }
        table.apply(&mut refused(1, 40, 81));
        let rows = table.rows();
        assert_eq!(rows.len(), 2);
        let (key, row) = rows[0];
        assert_eq!((key.dport, row.count, row.first_ns, row.last_ns), (Some(80), 3, 10, 30));
        assert_eq!(row.pids, BTreeSet::from([1, 2]));
        assert_eq!((table.seen(), table.failures()), (4, 4));
    }

    #[test]
    fn only_selected_errors_count() {
        let mut table = Table::new(Selection::Errors(BTreeSet::from([Errno::EADDRNOTAVAIL])));
        assert_eq!(table.apply(&mut refused(1, 1, 80)), Change::None);
        assert_eq!((table.seen(), table.failures()), (1, 0));
    }

    #[test]
    fn rows_are_bounded_and_nothing_goes_uncounted() {
        let mut table = Table::new(Selection::All);
        for index in 0..MAX_ROWS as u64 + 10 {
            let mut event = refused(1, index, 80);
            let Event::State(change) = &mut event else { unreachable!() };
            change.subject.dst = Some(Ipv4Addr::from(u32::try_from(index).unwrap()).into());
            table.apply(&mut event);
        }
        assert_eq!(table.rows().len(), MAX_ROWS);
        assert_eq!(table.unlisted(), 10);
        assert_eq!(table.failures(), MAX_ROWS as u64 + 10);
    }

    #[test]
    fn a_servers_clients_share_a_row() {
        let mut table = Table::new(Selection::All);
        for client in [50_000, 50_001, 50_002] {
            let mut event = refused(1, 1, client);
            let Event::State(change) = &mut event else { unreachable!() };
            (change.old, change.subject.owner) = (State::ESTABLISHED, None);
            (change.passive, change.subject.sport, change.sk_err) = (true, Some(443), Some(104));
            table.apply(&mut event);
        }
        let rows = table.rows();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].0.sport, rows[0].0.dport, rows[0].1.count), (Some(443), None, 3));
    }

    #[test]
    fn of_an_older_socket_neither_port_is_listed() {
        let mut table = Table::new(Selection::All);
        for client in [50_000, 50_001] {
            let mut event = refused(1, 1, client);
            let Event::State(change) = &mut event else { unreachable!() };
            (change.old, change.subject.owner, change.sk_err) =
                (State::ESTABLISHED, None, Some(104));
            table.apply(&mut event);
        }
        let rows = table.rows();
        assert_eq!((rows.len(), rows[0].1.count), (1, 2));
        assert_eq!((rows[0].0.sport, rows[0].0.dport), (None, None));
        assert!(rows[0].0.dst.is_some());
    }

    #[test]
    fn loss_adds_up() {
        let mut table = Table::new(Selection::All);
        let loss = Loss { ts_ns: 1, states: 2, failures: 3, missed: 1, owners: 4, calls: 5 };
        table.apply(&mut Event::Lost(loss));
        table.apply(&mut Event::Lost(loss));
        assert_eq!((table.lost(), table.loss().owners, table.seen()), (12, 8, 0));
    }
}
