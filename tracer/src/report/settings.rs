//! Settings of the host at the beginning, and what became of them.

use std::collections::BTreeMap;

use super::SettingChange;
use crate::capture::content::Sysctls;

/// Most changes that are kept.
const MAX_CHANGES: usize = 1000;

/// Settings over time.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) first: Option<Sysctls>,
    last: Option<Sysctls>,
    pub(super) changes: Vec<SettingChange>,
    pub(super) dropped: u64,
}

impl Settings {
    /// Takes them as they were found.
    pub(super) fn note(&mut self, now: Sysctls) {
        if let Some(before) = self.last.take() {
            self.compare(now.at_ns, None, &before.host, &now.host);
            for namespace in &now.namespaces {
                // One that has come or gone has changed no setting.
                let same = before.namespaces.iter().find(|it| it.netns == namespace.netns);
                if let Some(before) = same {
                    let netns = Some(namespace.netns);
                    self.compare(now.at_ns, netns, &before.sysctls, &namespace.sysctls);
                }
            }
        } else {
            self.first = Some(now.clone());
        }
        self.last = Some(now);
    }

    fn compare(
        &mut self,
        at_ns: u64,
        netns: Option<u32>,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) {
        for (name, from, to) in differing(before, after) {
            if self.changes.len() >= MAX_CHANGES {
                self.dropped += 1;
                continue;
            }
            let (name, from, to) = (name.clone(), from.cloned(), to.cloned());
            self.changes.push(SettingChange { at_ns, netns, name, from, to });
        }
    }
}

/// What one of two has and the other doesn't, or has otherwise: name, before and after.
pub(super) fn differing<'a>(
    before: &'a BTreeMap<String, String>,
    after: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a String, Option<&'a String>, Option<&'a String>)> {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let names = after.keys().chain(gone);
    let both = names.map(|name| (name, before.get(name), after.get(name)));
    both.filter(|(_, from, to)| from != to)
}
