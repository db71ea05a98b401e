//! Whose a socket is: accepted, orphaned by a kill, of a process that is gone at once, or older than
//! the tracers.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socklife_tests::process::Process;

use crate::{
    calls::check_rows,
    case::{Case, Done, FAMILIES, Family, Ground, Made},
    watch::{Seen, exactly, sample},
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::from(FAMILIES.map(accepted));
    cases.extend(FAMILIES.map(killed));
    cases.push(short_lived());
    cases.push(existing());
    cases
}

/// Connections that a server accepts and closes first.
const ACCEPTED: u32 = 20;

fn accepted(family: Family) -> Case {
    Case::new(format!("accepted_owner::{}", family.name()), "accept_owner", move |ground| {
        let at = SocketAddr::new(family.loopback(), ground.port());
        let server = Ground::serve("close", at)?;
        let pid = u64::from(server.pid());
        Ground::load("close-last", family, at.port(), ACCEPTED, &[("ok", ACCEPTED)])?;
        Ground::ended(at.port())?;
        let check = move |seen: &Seen| {
            seen.none_failed()?;
            let events = of_server(seen, at);
            // ESTAB, FIN-WAIT-1, FIN-WAIT-2, and the entry in TIME-WAIT.
            exactly(&events, 4 * ACCEPTED, "events")?;
            let foreign = |event: &&&Value| !event["pid"].is_null() && event["pid"] != pid;
            let foreign = events.iter().filter(foreign).count();
            ensure!(foreign == 0, "{foreign} events name another process{}", sample(&events));
            let mut owned = events.clone();
            owned.retain(|event| event["pid"] == pid);
            exactly(&owned, 4 * ACCEPTED, "events with an owner")?;
            check_comm(&events)
        };
        // Nobody else is blamed.
        let unseen = move |seen: &Seen| {
            seen.none_failed()?;
            let blamed = of_server(seen, at);
            let blamed: Vec<_> = blamed.into_iter().filter(|event| event["pid"] != pid).collect();
            let false_ones: Vec<_> =
                blamed.into_iter().filter(|event| event["pid"].is_u64()).collect();
            ensure!(false_ones.is_empty(), "false owners{}", sample(&false_ones));
            Ok(())
        };
        Ok(Done { unseen: Box::new(unseen), ..Done::new([server], check) })
    })
}

/// Events of accepted sockets at a listener, from when they could be accepted.
fn of_server(seen: &Seen, at: SocketAddr) -> Vec<&Value> {
    let accepted = |event: &&Value| {
        let before = ["UNCONN", "LISTEN", "SYN-RECV"].map(Value::from).contains(&event["old"]);
        event["sport"] == at.port() && !before
    };
    seen.events.iter().filter(accepted).collect()
}

fn check_comm(events: &[&Value]) -> Result<()> {
    for event in events {
        ensure!(event["comm"] == "socklife-load", "another name: {event}");
    }
    Ok(())
}

/// Connects under way when their process is killed.
const KILLED: u32 = 25;

fn killed(family: Family) -> Case {
    Case::new(format!("killed_while_connecting::{}", family.name()), "state", move |ground| {
        let to = SocketAddr::new(family.loopback(), ground.port());
        let server = Ground::serve("full", to)?;
        let client = Ground::hold(family, to.port(), KILLED, "hang")?;
        let pid = u64::from(client.pid());
        client.signal(Signal::SIGKILL)?;
        client.finish()?;
        let made = Made { pid, pids: Vec::new(), family, to };
        Ok(Done::new([server], move |seen| {
            let failures = seen.failures();
            ensure!(
                failures.len() == KILLED as usize,
                "{} failures traced instead of {KILLED}{}",
                failures.len(),
                sample(&failures)
            );
            for event in failures {
                ensure!(event["reason"] == "abandoned", "another reason: {event}");
                ensure!(event["error"].is_null(), "an error that nobody saw: {event}");
                seen.check_socket(event, &made)?;
            }
            Ok(())
        }))
    })
}

fn short_lived() -> Case {
    Case::new("short_lived_processes".to_owned(), "state", |ground| {
        let count = if ground.emulated { 300 } else { 3000 };
        let port = ground.port();
        let outcomes = [("ECONNREFUSED", count)];
        let made = Ground::load("processes", Family::V4, port, count, &outcomes)?;
        Ok(Done::new(None, move |seen| {
            let failures = seen.failures();
            let mut blamed: Vec<_> =
                failures.iter().filter_map(|event| event["pid"].as_u64()).collect();
            let mut pids = made.pids.clone();
            blamed.sort_unstable();
            pids.sort_unstable();
            ensure!(
                failures.len() == pids.len(),
                "{} failures traced instead of {}",
                failures.len(),
                pids.len()
            );
            ensure!(blamed == pids, "other processes{}", sample(&failures));
            check_comm(&failures)?;
            check_rows(&seen.counted_to(&made), ("refused", "ECONNREFUSED"), count)
        }))
    })
}

/// Connections of each process that is older than the tracers.
const STANDING: u32 = 6;

/// How a connection that was there before is ended, by its client.
const ENDS: [(&str, &str, Signal); 3] = [
    ("closed", "close", Signal::SIGTERM),
    ("reset", "reset", Signal::SIGTERM),
    ("killed", "close", Signal::SIGKILL),
];

/// A client and its server.
struct Standing {
    name: &'static str,
    signal: Signal,
    port: u16,
    client: Process,
    server: Process,
}

fn existing() -> Case {
    let before = Rc::new(RefCell::new(Vec::new()));
    let there = Rc::clone(&before);
    let case = Case::new("existing_sockets".to_owned(), "state", move |ground| {
        ground.standing.clear();
        let (mut servers, mut all) = (Vec::new(), Vec::new());
        for Standing { name, signal, port, client, server } in there.take() {
            all.push((name, port, u64::from(client.pid()), u64::from(server.pid())));
            client.signal(signal)?;
            client.finish()?;
            Ground::ended(port)?;
            servers.push(server);
        }
        Ok(Done::new(servers, move |seen| {
            for (name, port, client, server) in all {
                check_existing(seen, port, client, server).context(name)?;
            }
            Ok(())
        }))
    });
    let start = move |ground: &mut Ground| {
        for (name, then, signal) in ENDS {
            let port = ground.port();
            let at = SocketAddr::new(Family::V4.loopback(), port);
            let server = Ground::serve("follow-each", at)?;
            let client = Ground::hold(Family::V4, port, STANDING, then)?;
            ground.standing.push(port);
            before.borrow_mut().push(Standing { name, signal, port, client, server });
        }
        Ok(())
    };
    Case { before: Some(Box::new(start)), ..case }
}

fn check_existing(seen: &Seen, port: u16, client: u64, server: u64) -> Result<()> {
    let at = |end: &str| -> Vec<&Value> {
        seen.of("state").filter(|event| event[end] == port && event["old"] != "LISTEN").collect()
    };
    let (near, far) = (at("dport"), at("sport"));
    let mut unowned = 0;
    for (events, pid, whose) in [(&near, client, "client"), (&far, server, "server")] {
        let ended = events.iter().filter(|event| event["new"] == "UNCONN").count();
        ensure!(
            ended == STANDING as usize,
            "{ended} of {STANDING} sockets of the {whose} were seen to end{}",
            sample(events)
        );
        for event in events {
            if event["pid"].is_null() {
                unowned += 1;
                continue;
            }
            ensure!(event["pid"] == pid, "another owner than the {whose}'s, {pid}: {event}");
            ensure!(event["owner"] == "inferred", "its owner can only be inferred: {event}");
            ensure!(event["comm"] == "socklife-load", "another name: {event}");
        }
    }
    ensure!(
        unowned == 0,
        "{unowned} of {} events have no owner; all else is right",
        near.len() + far.len()
    );
    Ok(())
}
