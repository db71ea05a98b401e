//! The filters, in the kernel. A filter that is off is a constant branch that the verifier removes.

use core::ptr::NonNull;

use aya_ebpf::{
    Global,
    btf_maps::{HashMap, LpmTrie, lpm_trie::Key},
    helpers::bpf_get_current_ancestor_cgroup_id,
};

use crate::{
    life::Life,
    maps::{COMMS, DPORTS, DST, FILTER_ENTRIES, NETNS, PIDS, PORTS, SRC},
    offsets as off,
    sock::{Address, Tuple},
    task::Task,
};

#[inline(always)]
fn on(global: &'static Global<u8>) -> bool {
    global.load() != 0
}

#[inline(always)]
fn holds<K>(map: &HashMap<K, u8, FILTER_ENTRIES>, key: K) -> bool {
    map.get_ptr(key).is_some()
}

#[inline(always)]
fn covers(map: &LpmTrie<[u8; 16], u8, FILTER_ENTRIES>, address: Address) -> bool {
    // SAFETY: two u64 are 16 bytes.
    let bytes = unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(address.0) };
    map.get(&Key::new(128, bytes)).is_some()
}

/// Whether any filter asks who owns the socket.
#[inline(always)]
fn by_owner() -> bool {
    on(&off::FILTER_PIDS) || on(&off::FILTER_COMMS) || off::FILTER_CGROUP.load() != 0
}

/// Whether the filters on owners want the current task, as which `task` is given.
#[inline(always)]
pub(crate) fn owner_wanted(task: &Task) -> bool {
    if on(&off::FILTER_PIDS) && !holds(&PIDS, task.tgid) {
        return false;
    }
    if on(&off::FILTER_COMMS) && !holds(&COMMS, task.comm) {
        return false;
    }
    let cgroup = off::FILTER_CGROUP.load();
    if cgroup != 0 {
        let level = off::FILTER_CGROUP_LEVEL.load();
        // SAFETY: a plain number; a level that the task's cgroup doesn't have gives 0.
        return unsafe { bpf_get_current_ancestor_cgroup_id(level.cast_signed()) } == cgroup;
    }
    true
}

/// Whether the filters on owners want this socket. One whose owner is not known is not wanted.
#[inline(always)]
pub(crate) fn life_wanted(life: Option<NonNull<Life>>) -> bool {
    // SAFETY: a life is valid for the run of the program.
    !by_owner() || life.is_some_and(|life| unsafe { (*life.as_ptr()).wanted } != 0)
}

/// Whether `--state` wants this new state.
#[inline(always)]
pub(crate) fn state_wanted(new: u8) -> bool {
    off::FILTER_STATES.load() & (1 << (new & 31)) != 0
}

/// Whether what has no new state is wanted: only without `--state`.
#[inline(always)]
pub(crate) fn stateless_wanted() -> bool {
    off::FILTER_STATES.load() == u32::MAX
}

/// Whether a network namespace is wanted.
#[inline(always)]
pub(crate) fn netns_wanted(netns: impl FnOnce() -> u32) -> bool {
    !on(&off::FILTER_NETNS) || holds(&NETNS, netns())
}

/// Whether what has no addresses is wanted: only without a filter on them.
#[inline(always)]
pub(crate) fn addressless_wanted() -> bool {
    off::FILTER_FAMILY.load() == 0
        && !on(&off::FILTER_DPORTS)
        && !on(&off::FILTER_PORTS)
        && !on(&off::FILTER_DST)
        && !on(&off::FILTER_SRC)
}

/// Whether the filters on addresses and namespaces want a socket.
#[inline(always)]
pub(crate) fn endpoints_wanted(tuple: &Tuple, netns: impl FnOnce() -> u32) -> bool {
    let family = off::FILTER_FAMILY.load();
    if family != 0 && family != tuple.family {
        return false;
    }
    if on(&off::FILTER_DPORTS) && !holds(&DPORTS, tuple.dport) {
        return false;
    }
    if on(&off::FILTER_PORTS) && !holds(&PORTS, tuple.dport) && !holds(&PORTS, tuple.sport) {
        return false;
    }
    if !netns_wanted(netns) {
        return false;
    }
    if on(&off::FILTER_DST) && !covers(&DST, tuple.daddr) {
        return false;
    }
    if on(&off::FILTER_SRC) && !covers(&SRC, tuple.saddr) {
        return false;
    }
    true
}

/// Whether `count --error` wants a failure with this errno on the socket (0: none there).
#[inline(always)]
pub(crate) fn error_wanted(error: u16) -> bool {
    let mask = match error >> 6 {
        0 => off::FILTER_ERRORS_0.load(),
        1 => off::FILTER_ERRORS_1.load(),
        2 => off::FILTER_ERRORS_2.load(),
        _ => u64::MAX,
    };
    mask & (1 << (error & 63)) != 0
}
