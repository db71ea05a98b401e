//! The conntrack table of a network namespace: `__nf_conntrack_alloc`
//! (`net/netfilter/nf_conntrack_core.c`) drops what would be more than `nf_conntrack_max`.

use super::{Ceiling, Failed, Since, Subject, User, remedy};
use crate::kernel::survey::Namespace;

/// The finding of a namespace. `None`: the kernel tracks no connections there, or without a bound.
#[must_use]
pub fn assess(namespace: &Namespace) -> Option<Ceiling> {
    let table = namespace.conntrack.filter(|table| table.max > 0)?;
    let subject = Subject::Conntrack { netns: namespace.netns };
    let mut ceiling = Ceiling::new(subject, table.count, table.max);
    if let Some(refused) = table.refused {
        let counts = [
            ("drop", refused.drop),
            ("early_drop", refused.early_drop),
            ("insert_failed", refused.insert_failed),
        ];
        for (error, count) in counts {
            let since = Since::Boot;
            ceiling.failures.push(Failed { error, count, per_s: None, since, who: Vec::new() });
        }
    } else {
        ceiling.notes.push("what it refused is not known".to_owned());
    }
    ceiling.who =
        namespace.fillers.iter().map(|&(address, count)| User::Address(address, count)).collect();
    ceiling.evidence = "nf_conntrack_count and nf_conntrack_max below /proc/sys/net/netfilter, \
                        /proc/net/stat/nf_conntrack"
        .into();
    ceiling.remedy = remedy::conntrack(namespace, &table);
    if table.count == 0 {
        ceiling.notes.push("nothing is tracked in this namespace".to_owned());
    }
    Some(ceiling)
}
