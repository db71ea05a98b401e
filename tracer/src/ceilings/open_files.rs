//! Open files: of each process that has sockets open, and of the host. `alloc_fd` (`fs/file.c`) gives the
//! lowest free number, and fails with `EMFILE` when none is below the soft `RLIMIT_NOFILE`;
//! `alloc_empty_file` (`fs/file_table.c`) with `ENFILE` when the host has `fs.file-max` open.

use std::collections::HashSet;

use super::{
    Ceiling, Subject, User,
    history::History,
    remedy,
    tally::{Tally, Whose},
};
use crate::kernel::survey::Survey;

/// Below, a process has given up opening files on purpose: sshd's sandbox takes 1, dhcpcd's 0.
const SANDBOX: u64 = 16;
/// How many processes the host's finding names.
const MAX_WHO: usize = 5;

/// The findings of a survey.
#[must_use]
pub fn assess(survey: &Survey, history: &History) -> Vec<Ceiling> {
    let own = std::process::id();
    let others = survey.owners.files.iter().filter(|files| files.process.pid != own);
    let mut found: Vec<_> = others
        .map(|files| {
            let subject = Subject::Process { pid: files.process.pid, comm: files.process.comm };
            let mut ceiling = Ceiling::new(subject, files.below_limit, files.soft);
            let pid = files.process.pid;
            ceiling.evidence =
                format!("/proc/{pid}/fd, Max open files in /proc/{pid}/limits").into();
            ceiling.remedy = remedy::open_files(files, survey.nr_open);
            if files.hard < SANDBOX {
                ceiling.idle = true;
                ceiling.remedy.clear();
                let note = "a hard limit this low is meant so, as of a sandbox: no finding";
                ceiling.notes.push(note.to_owned());
            }
            if files.open > files.below_limit {
                let left = files.open - files.below_limit;
                let note =
                    format!("{left} more have numbers above the limit, from before it was lowered");
                ceiling.notes.push(note);
            }
            ceiling
        })
        .collect();
    let listed: HashSet<u32> = survey.owners.files.iter().map(|files| files.process.pid).collect();
    for (whose, count) in history.tally.iter().flat_map(Tally::counts) {
        let Whose::Process { pid } = *whose else { continue };
        if let Some((&(_, comm), _)) = count.who.iter().next()
            && !listed.contains(&pid)
        {
            let mut ceiling = Ceiling::new(Subject::Process { pid, comm }, 0, 0);
            ceiling.evidence = "its calls that failed".into();
            ceiling.notes.push("the process has ended, or its files are hidden".to_owned());
            found.push(ceiling);
        }
    }
    if let Some((open, most)) = survey.host_files {
        let mut ceiling = Ceiling::new(Subject::Host, open, most);
        let mut most_open: Vec<_> = survey.owners.files.iter().collect();
        most_open.sort_by_key(|files| std::cmp::Reverse(files.open));
        let named = most_open.iter().take(MAX_WHO);
        ceiling.who = named
            .map(|files| User::Process(files.process.pid, files.process.comm, files.open))
            .collect();
        ceiling.evidence = "/proc/sys/fs/file-nr".into();
        ceiling.remedy = remedy::host_files(most);
        found.push(ceiling);
    }
    found
}
