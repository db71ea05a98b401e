//! While connects fail for want of a local port: how many ports are in use toward that upstream.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    ceilings::ephemeral_ports::{self, PortUse},
    failures::FailureKey,
    kernel::{
        snapshot::Which,
        survey::{Scope, Surveyor},
    },
    proxies::Given,
    reason::Reason,
    table::Table,
};

/// How often at most.
const EVERY: Duration = Duration::from_secs(1);
/// Most rows measured at a time: each lists the sockets of its upstream.
const MAX_ROWS: usize = 16;
/// How long the end of a run waits for a measurement under way.
const LAST_WAIT: Duration = Duration::from_secs(2);

type Sample = Vec<(FailureKey, PortUse)>;

/// Measures on a thread of its own, since it enters other network namespaces.
#[derive(Debug, Default)]
pub struct PortSampler {
    under_way: Option<oneshot::Receiver<Sample>>,
    started: Option<Instant>,
    /// The last failure of each row when it was last measured. Bounded as the table's rows are.
    measured: HashMap<FailureKey, u64>,
    /// Made when it is first needed: it loads programs.
    surveyor: Arc<OnceLock<Surveyor>>,
}

impl PortSampler {
    /// Takes over a measurement that is ready, and starts one when rows have failed since the last.
    pub fn poll(&mut self, table: &mut Table) {
        if let Some(result) = &mut self.under_way {
            match result.try_recv() {
                Ok(sample) => note(table, sample),
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
            self.under_way = None;
        }
        if self.started.is_none_or(|started| started.elapsed() >= EVERY) {
            self.start(table);
        }
    }

    fn start(&mut self, table: &Table) {
        // Not by the clock: an event comes some time after it happened.
        let new = table
            .failing(Reason::PortRangeExhausted)
            .filter(|(key, row)| self.measured.get(key) != Some(&row.last_ns))
            .map(|(key, row)| (*key, row.last_ns));
        let new: Vec<(FailureKey, u64)> = new.take(MAX_ROWS).collect();
        if new.is_empty() {
            return;
        }
        let failing = new.iter().map(|(key, _)| *key).collect();
        self.measured.extend(new);
        self.started = Some(Instant::now());
        let (answer, result) = oneshot::channel();
        let surveyor = Arc::clone(&self.surveyor);
        let measure = move || {
            // Nobody waits any more: the run has ended.
            let _ = answer.send(measure(&surveyor, failing));
        };
        match std::thread::Builder::new().name("ports".to_owned()).spawn(measure) {
            Ok(_) => self.under_way = Some(result),
            Err(error) => tracing::debug!("can't start a thread to measure ports: {error}"),
        }
    }

    /// Waits for a measurement under way, and for one of what failed since it was begun.
    pub async fn finish(&mut self, table: &mut Table) {
        self.arrive(table).await;
        self.start(table);
        self.arrive(table).await;
    }

    async fn arrive(&mut self, table: &mut Table) {
        if let Some(result) = self.under_way.take()
            && let Ok(Ok(sample)) = tokio::time::timeout(LAST_WAIT, result).await
        {
            note(table, sample);
        }
    }
}

fn note(table: &mut Table, sample: Sample) {
    for (key, ports) in sample {
        table.note_ports(&key, ports);
    }
}

fn measure(surveyor: &OnceLock<Surveyor>, failing: Vec<FailureKey>) -> Sample {
    let which = Which::Only(failing.iter().filter_map(|key| key.netns).collect());
    let scope = || Scope { namespaces: which.clone(), pids: Vec::new(), given: Given::default() };
    let survey = surveyor.get_or_init(|| Surveyor::new(scope())).look(&which);
    for what in &survey.unseen {
        tracing::debug!("of ports in use: {what}");
    }
    let measured = failing.into_iter().filter_map(|key| {
        let namespace = survey.namespaces.iter().find(|n| Some(n.netns) == key.netns)?;
        let ports = ephemeral_ports::measure(namespace, key.src?, key.dst?, key.dport?);
        Some((key, ports))
    });
    measured.collect()
}
