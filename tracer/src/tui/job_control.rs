//! Being stopped and continued by a shell.

use rustix::process::{Pid, Signal, getpgid, getpgrp, getpid, getsid, kill_process};

/// Whether somebody is there who can continue us: our process group is not orphaned, as POSIX calls it. As far as
/// the parent of its leader tells.
#[must_use]
pub fn has_shell() -> bool {
    let group = getpgrp();
    let Some(parent) = parent_of(group) else { return false };
    let same_session = getsid(Some(parent)).ok() == getsid(None).ok();
    same_session && getpgid(Some(parent)).is_ok_and(|of_parent| of_parent != group)
}

/// Stops this process until it is continued.
pub fn stop() {
    // To signal oneself is always permitted.
    let _ = kill_process(getpid(), Signal::STOP);
}

/// The fourth word of `/proc/PID/stat`, after a name that may hold anything.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
    Pid::from_raw(parent)
}
