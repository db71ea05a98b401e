//! The processes of Nginx: a master and its workers, by the titles that they give themselves (`ngx_setproctitle`).

use std::collections::BTreeMap;

use super::Worker;
use crate::{
    kernel::{netns, owners::OpenFiles, process::Process},
    proxies::{
        Located,
        host::{command_line, parent},
    },
};

/// How the title of a master begins; its command line follows.
pub(super) const MASTER: &[u8] = b"nginx: master process";
/// How the title of a worker begins.
const WORKER: &[u8] = b"nginx: worker process";
/// What is in the title of one that finishes what it has.
const SHUTTING_DOWN: &[u8] = b" is shutting down";

/// A master and its workers.
#[derive(Debug)]
pub(super) struct Family {
    /// The master.
    pub(super) master: Located,
    /// Its title.
    pub(super) title: Vec<u8>,
    /// Its workers, by process id.
    pub(super) workers: Vec<Worker>,
}

/// What a title says of a process.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    Master,
    Worker { shutting_down: bool },
    Other,
}

fn role(title: &[u8]) -> Role {
    if title.starts_with(MASTER) {
        return Role::Master;
    }
    match title.strip_prefix(WORKER) {
        Some(rest) => Role::Worker { shutting_down: rest.starts_with(SHUTTING_DOWN) },
        None => Role::Other,
    }
}

/// Whether it may be one of Nginx's by its name.
pub(in crate::proxies) fn is_named(process: &Process) -> bool {
    process.comm.bytes().starts_with(b"nginx")
}

/// The families among these processes. A worker counts whose parent is a master: titles can be taken by anybody,
/// parents can't.
pub(super) fn families<'a>(candidates: impl Iterator<Item = &'a OpenFiles>) -> Vec<Family> {
    let (mut masters, mut workers) = (BTreeMap::new(), Vec::new());
    for files in candidates {
        let process = files.process;
        // It may have ended meanwhile.
        let Ok(title) = command_line(process.pid) else { continue };
        let located = Located { process, netns: netns::of_process(process.pid) };
        match role(&title) {
            Role::Master => {
                let family = Family { master: located, title, workers: Vec::new() };
                masters.insert(process.pid, family);
            }
            Role::Worker { shutting_down } => {
                let (sockets, inferred) = (files.alone, files.alone_inferred);
                let worker = Worker {
                    located,
                    shutting_down,
                    sockets,
                    inferred,
                    files: (files.below_limit, files.soft),
                };
                workers.push(worker);
            }
            Role::Other => {}
        }
    }
    for worker in workers {
        let of = parent(worker.located.process.pid).and_then(|parent| masters.get_mut(&parent));
        if let Some(family) = of {
            family.workers.push(worker);
        }
    }
    masters.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        assert_eq!(role(b"nginx: master process /usr/sbin/nginx -c /a\0\0\0"), Role::Master);
        assert_eq!(role(b"nginx: worker process\0"), Role::Worker { shutting_down: false });
        let old = b"nginx: worker process is shutting down\0";
        assert_eq!(role(old), Role::Worker { shutting_down: true });
        for other in [&b"nginx: cache manager process"[..], b"nginx\0-g\0daemon off;\0", b""] {
            assert_eq!(role(other), Role::Other);
        }
    }
}
