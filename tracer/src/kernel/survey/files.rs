//! Who has which socket open, how many files, and what the proxies among them say.

use std::sync::{Mutex, PoisonError};

use super::{Scope, Survey};
use crate::{
    kernel::{
        netns,
        owners::{Look, Owners},
        settings,
        snapshot::Which,
    },
    proxies::{self, Proxies, host},
};

/// What was read.
pub(super) struct Files {
    owners: Owners,
    host: Option<(u64, u64)>,
    nr_open: Option<u64>,
    proxies: Proxies,
    unseen: Vec<String>,
}

impl Files {
    /// Looks through all processes that are asked for.
    pub(super) fn read(scope: &Scope, proxies: &Mutex<proxies::Reader>) -> Self {
        let mut unseen = Vec::new();
        // Of a proxy's worker one must know what is its master's, too.
        let parents = scope.pids.iter().filter_map(|&pid| host::parent(pid));
        let with_parents: Vec<u32> = scope.pids.iter().copied().chain(parents).collect();
        let look = if scope.pids.is_empty() { Look::All } else { Look::Pids(&with_parents) };
        let mut owners = Owners::find(look).unwrap_or_else(|error| {
            unseen.push(format!("open files: {error:#}"));
            Owners::default()
        });
        if let (Which::Only(wanted), true) = (&scope.namespaces, scope.pids.is_empty()) {
            let inside = |pid| netns::of_process(pid).is_some_and(|netns| wanted.contains(&netns));
            owners.files.retain(|files| inside(files.process.pid));
        }
        Self::with(owners, scope, proxies, unseen)
    }

    /// The same by owners who were found before.
    pub(super) fn again(
        mut owners: Owners,
        scope: &Scope,
        proxies: &Mutex<proxies::Reader>,
    ) -> Self {
        let mut unseen = Vec::new();
        if let Err(error) = owners.recount() {
            unseen.push(format!("open files: {error:#}"));
        }
        Self::with(owners, scope, proxies, unseen)
    }

    fn with(
        mut owners: Owners,
        scope: &Scope,
        proxies: &Mutex<proxies::Reader>,
        mut unseen: Vec<String>,
    ) -> Self {
        let proxies = proxies.lock().unwrap_or_else(PoisonError::into_inner).read(&owners);
        unseen.extend(proxies.unread.iter().cloned());
        if !scope.pids.is_empty() {
            owners.files.retain(|files| scope.pids.contains(&files.process.pid));
        }
        if owners.denied > 0 {
            unseen.push(format!(
                "open files, and the sockets they are of, of processes that are hidden from this user (needs \
                 CAP_SYS_PTRACE): {}",
                owners.denied
            ));
        }
        let host = settings::read("fs/file-nr").ok().and_then(|text| {
            let mut words = text.split_whitespace();
            let open = words.next()?.parse().ok()?;
            Some((open, words.nth(1)?.parse().ok()?))
        });
        let nr_open = settings::read("fs/nr_open").ok().and_then(|text| settings::number(&text));
        Self { owners, host, nr_open, proxies, unseen }
    }

    /// Into a survey.
    pub(super) fn put_into(self, survey: &mut Survey) {
        survey.owners = self.owners;
        survey.host_files = self.host;
        survey.nr_open = self.nr_open;
        survey.proxies = self.proxies;
        survey.unseen.extend(self.unseen);
    }
}
