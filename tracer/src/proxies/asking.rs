//! Asks each HAProxy and each Envoy: a few at once, all of them within one time.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Given, Located,
    endpoint::PATIENCE,
    envoy, haproxy,
    helpers::{Helpers, Outcome, Work},
    turns::{Key, Turns, key},
};
use crate::kernel::{netns, owners::Owners};

/// How long all proxies together have to answer.
const TOGETHER: Duration = Duration::from_secs(2);
/// And to be heard: the rest is for telling who didn't answer.
const TO_ANSWER: Duration = Duration::from_millis(1900);
/// Most parts that are kept of all answers: frontends, servers, clusters, hosts and so on.
const MOST_PARTS: usize = 300_000;

/// What one said.
#[derive(Debug)]
enum Answer {
    HaProxy(Result<haproxy::HaProxy>),
    Envoy(Result<envoy::Asked>),
}

impl Answer {
    fn parts(&self) -> usize {
        match self {
            Self::HaProxy(Ok(proxy)) => proxy.state.parts(),
            Self::Envoy(Ok(envoy::Asked::Answered(envoy))) => envoy.state.parts(),
            Self::Envoy(_) | Self::HaProxy(_) => 0,
        }
    }

    fn is_one(&self) -> bool {
        match self {
            Self::HaProxy(answer) => answer.is_ok(),
            Self::Envoy(answer) => answer.is_ok(),
        }
    }
}

/// Asks, again and again.
#[derive(Debug, Default)]
pub(super) struct Asking {
    helpers: Helpers<Key, Answer>,
    turns: Turns,
}

impl Asking {
    /// What each of these processes says, and what could not be read.
    pub(super) fn ask(
        &mut self,
        owners: &Owners,
        given: &Given,
    ) -> (Vec<haproxy::HaProxy>, Vec<envoy::Envoy>, Vec<String>) {
        let (until, answered) = (Instant::now() + TOGETHER, Instant::now() + TO_ANSWER);
        let of = |name: &[u8]| -> Vec<Located> {
            let named = owners.files.iter().filter(|it| it.process.comm.bytes().starts_with(name));
            let located = named.map(|files| Located {
                process: files.process,
                netns: netns::of_process(files.process.pid),
            });
            located.collect()
        };
        let haproxies = haproxy::workers(&of(b"haproxy")).into_iter().map(|it| (it, true));
        let mut all: Vec<_> =
            haproxies.chain(of(b"envoy").into_iter().map(|it| (it, false))).collect();
        self.turns.sort(&mut all, |(located, _)| *located);
        let claims = Arc::new(envoy::Claims::default());
        let work = all.iter().map(|&(process, is_haproxy)| {
            let work: Work<Answer> = if is_haproxy {
                let given = given.haproxy_socket.clone();
                Box::new(move || {
                    Answer::HaProxy(haproxy::ask(process, given.as_ref(), || within(answered)))
                })
            } else {
                let (given, claims) = (given.envoy_admin.clone(), Arc::clone(&claims));
                Box::new(move || {
                    let asked = envoy::ask(process, given.as_ref(), &claims, || within(answered));
                    Answer::Envoy(asked)
                })
            };
            (key(&process), work)
        });
        let outcomes = self.helpers.run(work.collect(), until);
        let mut outcomes: HashMap<_, _> = outcomes.into_iter().collect();

        let (mut haproxies, mut envoys, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        let (mut parts, mut not_asked) = (0_usize, 0_usize);
        for (process, is_haproxy) in all {
            let name = || {
                let name = if is_haproxy { "HAProxy" } else { "Envoy" };
                format!("{name} (process {})", process.process.pid)
            };
            let answer = match outcomes.remove(&key(&process)) {
                Some(Outcome::Done(answer)) => answer,
                Some(Outcome::Stuck) => {
                    self.turns.note(key(&process), false);
                    unread.push(format!(
                        "{} could not be read: its files or its answer are not there in time; it is not asked again \
                         until they are",
                        name()
                    ));
                    continue;
                }
                Some(Outcome::NotBegun) | None => {
                    not_asked += 1;
                    continue;
                }
            };
            self.turns.note(key(&process), answer.is_one());
            let more = answer.parts();
            if parts + more > MOST_PARTS {
                unread.push(format!(
                    "{} is left out: with it all proxies have over {MOST_PARTS} servers and the like",
                    name()
                ));
                continue;
            }
            parts += more;
            match answer {
                Answer::HaProxy(answer) => haproxies.push((process, answer)),
                Answer::Envoy(answer) => envoys.push((process, answer)),
            }
        }
        if not_asked > 0 {
            unread.push(format!(
                "HAProxy and Envoy, not asked: too many proxies, or too slow ones, for the {} s that all have \
                 together: {not_asked}",
                TOGETHER.as_secs()
            ));
        }
        let (haproxies, of_haproxy) = haproxy::sorted(haproxies);
        let (envoys, of_envoy) = envoy::sorted(envoys, owners);
        unread.extend(of_haproxy.into_iter().chain(of_envoy));
        (haproxies, envoys, unread)
    }
}

/// Until when one that begins now has time.
fn within(until: Instant) -> Instant {
    until.min(Instant::now() + PATIENCE)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
    };

    use super::*;
    use crate::{
        event::Comm,
        kernel::owners::OpenFiles,
        proxies::{endpoint::Endpoint, host},
    };

    /// Processes of HAProxy: this one, so many times, and one that is gone.
    fn haproxies(count: u64, gone: bool) -> Owners {
        let mut process = host::located(std::process::id()).unwrap().process;
        process.comm = Comm::new(*b"haproxy\0\0\0\0\0\0\0\0\0");
        let of = |process| OpenFiles {
            process,
            open: 0,
            below_limit: 0,
            sockets: 1,
            alone: 0,
            alone_inferred: false,
            soft: 0,
            hard: 0,
        };
        let mut owners = Owners::default();
        for at in 0..count {
            process.started_ns = at;
            owners.files.push(of(process));
        }
        if gone {
            process.pid = u32::MAX;
            owners.files.push(of(process));
        }
        owners
    }

    #[test]
    fn a_thousand_that_are_silent_take_no_longer_than_all_may() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("silent");
        let _silent = UnixListener::bind(&path).unwrap();
        let given = Given { haproxy_socket: Some(Endpoint::Unix(path)), ..Given::default() };
        let mut asking = Asking::default();
        let started = Instant::now();
        let (read, _, unread) = asking.ask(&haproxies(1000, false), &given);
        assert!(started.elapsed() < 2 * TOGETHER, "{:?}", started.elapsed());
        assert!(read.is_empty());
        let silent = unread.iter().filter(|why| why.contains("no answer within")).count();
        let late = unread.iter().filter(|why| why.contains("not there in time")).count();
        let wanted = format!("together: {}", 1000 - silent - late);
        assert!(silent >= 8 && unread.iter().any(|why| why.ends_with(&wanted)), "{unread:?}");
    }

    #[test]
    fn one_that_answers_does_not_hide_another_that_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answering");
        let listener = UnixListener::bind(&path).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 99]).unwrap();
            let pid = std::process::id();
            let answer =
                format!("Pid: {pid}\nMaxconn: 9\nCurrConns: 1\n\n# type,pxname,svname,scur\n");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let given = Given { haproxy_socket: Some(Endpoint::Unix(path)), ..Given::default() };
        let (read, _, unread) = Asking::default().ask(&haproxies(1, true), &given);
        answering.join().unwrap();
        assert_eq!((read.len(), read[0].state.maxconn), (1, 9));
        let [gone] = &unread[..] else { panic!("{unread:?}") };
        assert!(gone.starts_with("HAProxy (process 4294967295)"), "{gone}");
    }
}
