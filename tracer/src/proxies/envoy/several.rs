//! Several Envoys at one admin interface: it is asked once, and what it says is that of the process that listens
//! there.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use anyhow::Result;

use super::{Envoy, missing};
use crate::{
    kernel::owners::{Holder, Owners, socket_inodes},
    proxies::{Located, endpoint::Endpoint, host},
};

/// Who asks where, in a round.
#[derive(Debug, Default)]
pub(in crate::proxies) struct Claims(Mutex<HashMap<(String, Endpoint), Located>>);

impl Claims {
    /// Who asks there; the first to come does.
    pub(super) fn first(&self, process: Located, endpoint: &Endpoint) -> Located {
        let place = match endpoint {
            Endpoint::Tcp(_) => process.netns.map(|netns| netns.to_string()),
            // Where a path leads depends on the mount namespace.
            Endpoint::Unix(_) => {
                host::mounts(process.process.pid).map(|mounts| mounts.display().to_string())
            }
        };
        let Some(place) = place else { return process };
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match claims.entry((place, endpoint.clone())) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => *entry.insert(process),
        }
    }
}

/// What came of a process.
#[derive(Debug)]
pub(in crate::proxies) enum Asked {
    /// It was asked.
    Answered(Envoy),
    /// That other one is asked at the same place.
    Same(Located, Endpoint),
}

/// What Envoys said, each with the process that listens where it was asked; what could not be read is said in a
/// person's words.
pub(in crate::proxies) fn sorted(
    said: Vec<(Located, Result<Asked>)>,
    owners: &Owners,
) -> (Vec<Envoy>, Vec<String>) {
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    let mut same: HashMap<u32, Vec<(Located, Endpoint)>> = HashMap::new();
    for (process, asked) in said {
        match asked {
            Ok(Asked::Answered(envoy)) => read.push(envoy),
            Ok(Asked::Same(first, at)) => {
                same.entry(first.process.pid).or_default().push((process, at));
            }
            Err(error) => unread.push(format!(
                "Envoy (process {}) could not be read: {error:#}",
                process.process.pid
            )),
        }
    }
    for envoy in &mut read {
        if let Some(others) = same.remove(&envoy.process.process.pid) {
            let at = others.first().map(|(_, at)| at.clone());
            let mut all: Vec<_> = others.into_iter().map(|(process, _)| process).collect();
            all.insert(0, envoy.process);
            let listening = at.and_then(|at| listening(&all, &at, owners));
            (envoy.process, envoy.inferred) =
                listening.map_or((envoy.process, true), |it| (it, false));
            let pid = envoy.process.process.pid;
            unread.extend(all.into_iter().filter(|it| it.process.pid != pid).map(|other| {
                format!(
                    "Envoy (process {}) could not be read: what answers at {} is taken for that of process {pid}, \
                     which {}. Give each Envoy an admin interface of its own (after a hot restart the older one has \
                     none any more)",
                    other.process.pid,
                    envoy.endpoint,
                    if envoy.inferred { "is one of several there" } else { "listens there" },
                )
            }));
        }
        unread.extend(missing::of(envoy));
    }
    for (process, at) in same.into_values().flatten() {
        unread.push(format!(
            "Envoy (process {}) could not be read: nor could another one that is asked at {at}",
            process.process.pid
        ));
    }
    (read, unread)
}

/// The one of some processes that has the socket open that listens there. `None`: not known, or several have.
fn listening(all: &[Located], at: &Endpoint, owners: &Owners) -> Option<Located> {
    let Endpoint::Tcp(address) = at else { return None };
    let inode = host::listener(all.first()?.process.pid, *address)?;
    if let Some(Holder::One(owner)) = owners.of(inode) {
        return all.iter().find(|it| it.process.pid == owner.pid).copied();
    }
    let mut holders = all.iter().filter(|it| socket_inodes(it.process.pid).contains(&inode));
    holders.next().filter(|_| holders.next().is_none()).copied()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::{kernel::owners::Look, proxies::envoy::State};

    #[test]
    fn what_one_says_is_not_taken_for_anothers() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = Endpoint::Tcp(socket.local_addr().unwrap());
        let me = host::located(std::process::id()).unwrap();
        let mut first = me;
        first.process.pid = host::parent(me.process.pid).unwrap();
        let claims = Claims::default();
        assert_eq!(claims.first(first, &at), first);
        assert_eq!(claims.first(me, &at), first);
        let mut elsewhere = me;
        elsewhere.netns = me.netns.map(|netns| netns + 1);
        assert_eq!(claims.first(elsewhere, &at), elsewhere);

        let envoy = |at: &Endpoint| Envoy {
            process: first,
            inferred: false,
            endpoint: at.to_string(),
            state: State::default(),
        };
        let said = |at: &Endpoint| {
            vec![(first, Ok(Asked::Answered(envoy(at)))), (me, Ok(Asked::Same(first, at.clone())))]
        };
        let owners = Owners::find(Look::Pids(&[me.process.pid])).unwrap();
        for owners in [&owners, &Owners::default()] {
            let (read, unread) = sorted(said(&at), owners);
            assert_eq!((read.len(), read[0].process, read[0].inferred), (1, me, false));
            let [other] = &unread[..] else { panic!("{unread:?}") };
            assert!(
                other.starts_with(&format!("Envoy (process {})", first.process.pid)),
                "{other}"
            );
            assert!(other.contains("listens there"), "{other}");
        }
        drop(socket);
        let (read, unread) = sorted(said(&at), &owners);
        assert_eq!((read[0].process, read[0].inferred, unread.len()), (first, true, 1));
    }
}
