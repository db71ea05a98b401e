//! The end of a trace in words, for standard error, so that standard output holds events only.

use std::path::Path;

use super::{
    Totals,
    text::{endpoint, told},
};
use crate::{
    ends::{Ended, Peer},
    human::{size, thousands},
    kernel::time_wait::Made,
    record::Recorded,
    table::Table,
};

/// Peers that the summary names.
const SHOWN_PEERS: usize = 5;

/// The end of a trace in words. `made`: what the kernel counted meanwhile, where that can be compared.
#[must_use]
pub fn trace(table: &Table, totals: &Totals, made: Option<Made>) -> String {
    let mut summary = format!(
        "{} events in {:.1} s, {} lost ({} produced)",
        thousands(table.seen()),
        totals.duration_s,
        thousands(table.lost()),
        thousands(totals.produced),
    );
    for line in told(&table.loss()) {
        summary += &format!("; {line}");
    }
    if table.failures() > 0 {
        summary += &format!("; {} failures:", thousands(table.failures()));
        for (reason, count) in table.reasons() {
            let reason = reason.map_or("unknown", |reason| reason.name());
            summary += &format!(" {} {reason},", thousands(*count));
        }
        summary.pop();
    }
    let ended = table.ends().total();
    if ended.time_waits + ended.inferred > 0 {
        summary += &format!("\n{}", time_wait(&ended, made));
    }
    let peers = table.ends().peers();
    for (peer, ended) in peers.iter().take(SHOWN_PEERS) {
        summary += &format!("\n{}", closed(peer, ended));
    }
    if peers.len() > SHOWN_PEERS {
        summary += &format!("\n({} more peers)", thousands((peers.len() - SHOWN_PEERS) as u64));
    }
    summary
}

/// What was recorded, and where.
#[must_use]
pub fn recorded(recorded: &Recorded, to: &Path) -> String {
    let (files, bytes, events) = recorded.written;
    if files == 0 {
        return "nothing was written: what was waited for did not happen".to_owned();
    }
    let mut said = format!("recorded {} events", thousands(events));
    if to.as_os_str() != "-" {
        said += &format!(" into {}", to.display());
    }
    if files > 1 {
        said += &format!(" and {} files before it", thousands(files - 1));
    }
    said += &format!(" ({}", size(bytes));
    if events > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        let of_each = bytes as f64 / events as f64;
        said += &format!(", {of_each:.1} bytes an event");
    }
    said += ")";
    if recorded.unwritten > 0 {
        let unwritten = thousands(recorded.unwritten);
        said +=
            &format!("; {unwritten} events found no room, as the disk was slower than they came");
    }
    said
}

fn time_wait(ended: &Ended, made: Option<Made>) -> String {
    let mark = if ended.inferred > 0 { " (inferred)" } else { "" };
    let mut line =
        format!("TIME-WAIT: {} entered{mark}", thousands(ended.time_waits + ended.inferred));
    if let Some(made) = made {
        line += &format!("; the kernel counted {}", thousands(made.made));
        if made.overflow > 0 {
            let overflow = thousands(made.overflow);
            line +=
                &format!(", and {overflow} more that found its table full (tcp_max_tw_buckets)");
        }
    }
    line
}

fn closed(peer: &Peer, ended: &Ended) -> String {
    let whom = match peer {
        Peer::Upstream { dst, dport, .. } => endpoint(*dst, Some(*dport)),
        Peer::Clients { sport, .. } => format!("clients of port {sport}"),
    };
    format!(
        "{whom}: closed first by this host {}, by the peer {}; TIME-WAIT here {}",
        thousands(ended.closed_here),
        thousands(ended.closed_by_peer),
        thousands(ended.time_waits + ended.inferred),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inferred_stands_beside_what_the_kernel_counted() {
        let ended = Ended { inferred: 1500, ..Ended::default() };
        let made = Made { made: 1000, overflow: 500 };
        assert_eq!(
            time_wait(&ended, Some(made)),
            "TIME-WAIT: 1,500 entered (inferred); the kernel counted 1,000, and 500 more that found its \
             table full (tcp_max_tw_buckets)"
        );
        let ended = Ended { time_waits: 7, ..Ended::default() };
        assert_eq!(time_wait(&ended, None), "TIME-WAIT: 7 entered");
    }
}
