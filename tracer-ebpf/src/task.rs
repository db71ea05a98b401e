//! Who runs: the task that an event is told of.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
    generated::bpf_get_current_comm,
};
use tracer_ebpf::COMM_LEN;

use crate::{offsets as off, probed::read_field};

/// A task as a record names it. All zero: nobody.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Task {
    pub cgroup: u64,
    pub tgid: u32,
    pub pid: u32,
    pub comm: [u8; COMM_LEN],
}

impl Task {
    /// Makes this the task in whose time the program runs. Only where that task itself asked for what
    /// happens: never in a softirq or a timer.
    #[inline(always)]
    pub(crate) fn set_current(&mut self) {
        let ids = bpf_get_current_pid_tgid();
        self.tgid = (ids >> 32) as u32;
        self.pid = ids as u32;
        // SAFETY: the helper fills the array, zero-padded. It can't fail for the current task.
        let _ = unsafe { bpf_get_current_comm(self.comm.as_mut_ptr().cast(), COMM_LEN as u32) };
        // SAFETY: takes no argument.
        self.cgroup = unsafe { bpf_get_current_cgroup_id() };
    }

    /// The current task.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        let mut task = Self { cgroup: 0, tgid: 0, pid: 0, comm: [0; COMM_LEN] };
        task.set_current();
        task
    }
}

/// Address of the current `task_struct`.
#[inline(always)]
pub(crate) fn current_address() -> u64 {
    // SAFETY: takes no argument.
    unsafe { bpf_get_current_task() }
}

/// Address of the current task's network namespace, a `struct net`.
#[inline(always)]
pub(crate) fn current_net() -> u64 {
    let proxy: u64 = read_field(current_address(), &off::OFF_TASK_NSPROXY);
    read_field(proxy, &off::OFF_NSPROXY_NET)
}

/// Network namespace of the current task.
#[inline(always)]
pub(crate) fn current_netns() -> u32 {
    read_field(current_net(), &off::OFF_NETNS_INUM)
}
