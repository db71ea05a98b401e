//! What is remembered of a socket between two of its transitions: who owns it, since when it is in
//! its state. The owner is the task that called `connect()` or `listen()`; later transitions may
//! run in any task's time, so they take the owner from here.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_sk_storage_get,
        generated::bpf_get_current_comm,
    },
};
use tracer_ebpf::{COMM_LEN, flag, owner, state};

use crate::{
    filter,
    maps::{LIVES, LIVES_BY_ADDR},
    sock::Sock,
};

/// The memory of one socket. All zero: nothing known.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Life {
    /// When `state` was entered, `CLOCK_BOOTTIME` nanoseconds.
    pub since_ns: u64,
    /// The owner's cgroup.
    pub cgroup: u64,
    /// Stands for the cookie where the kernel's can't be had; 0 where it can.
    pub made_cookie: u64,
    pub tgid: u32,
    pub pid: u32,
    pub comm: [u8; COMM_LEN],
    /// The local port that an earlier attempt left behind in `inet_sport` when this `connect()`
    /// began: as long as it is unchanged, this attempt has no port of its own.
    pub stale_port: u16,
    /// The state that `since_ns` is about; 0 when not known.
    pub state: u8,
    /// `tracer_ebpf::owner`.
    pub owner: u8,
    /// `tracer_ebpf::flag::PORT_HELD`, `PASSIVE`.
    pub flags: u8,
    /// 1 when the filters on owners want this socket.
    pub wanted: u8,
    pub padding: [u8; 2],
}

const _: () = assert!(size_of::<Life>() == 56);

const EMPTY: Life = {
    // SAFETY: all fields are plain integers.
    unsafe { core::mem::zeroed() }
};

/// Zeroes 8 bytes at a time: for a whole value the compiler calls `memset`, a loop over bytes.
#[inline(always)]
pub(crate) fn clear<T>(value: &mut T) {
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    let words = core::ptr::from_mut(value).cast::<u64>();
    let mut index = 0;
    while index < size_of::<T>() / 8 {
        // SAFETY: inside the value, which holds plain integers and is 8-byte aligned.
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
}

/// The life in the socket's own storage; with `create`, a zeroed one if there is none.
#[inline(always)]
pub(crate) fn stored(sk: *mut c_void, create: bool) -> Option<*mut Life> {
    let flags = if create {
        u64::from(BPF_SK_STORAGE_GET_F_CREATE)
    } else {
        0
    };
    let map = (&raw const LIVES).cast_mut().cast::<c_void>();
    // SAFETY: the map holds `Life`; `sk` is the tracepoint's argument; no initial value.
    let life = unsafe { bpf_sk_storage_get(map, sk, ptr::null_mut(), flags) }.cast::<Life>();
    if life.is_null() { None } else { Some(life) }
}

/// The life kept under a socket's address.
#[inline(always)]
pub(crate) fn by_addr(addr: u64) -> Option<*mut Life> {
    LIVES_BY_ADDR.get_ptr_mut(addr)
}

/// The same, or a zeroed one.
#[inline(always)]
pub(crate) fn by_addr_or_new(addr: u64) -> Option<*mut Life> {
    if let Some(life) = LIVES_BY_ADDR.get_ptr_mut(addr) {
        return Some(life);
    }
    LIVES_BY_ADDR.insert(addr, EMPTY, 0).ok()?;
    LIVES_BY_ADDR.get_ptr_mut(addr)
}

/// Drops the life kept under an address.
#[inline(always)]
pub(crate) fn forget_addr(addr: u64) {
    // Not there is as good as gone.
    let _ = LIVES_BY_ADDR.remove(addr);
}

impl Life {
    /// The current task called `connect()` or `listen()`: from here on it is the owner.
    #[inline(always)]
    pub(crate) fn begin<S: Sock>(&mut self, sock: S, new: u8, sport: u16, now: u64) {
        let ids = bpf_get_current_pid_tgid();
        self.tgid = (ids >> 32) as u32;
        self.pid = ids as u32;
        // SAFETY: the helper fills the array, zero-padded. It can't fail for the current task.
        let _ = unsafe { bpf_get_current_comm(self.comm.as_mut_ptr().cast(), COMM_LEN as u32) };
        // SAFETY: takes no argument.
        self.cgroup = unsafe { bpf_get_current_cgroup_id() };
        self.owner = owner::STORED;
        let held = new == state::SYN_SENT && sock.num() != 0;
        self.flags = if held { flag::PORT_HELD } else { 0 };
        self.stale_port = if held { 0 } else { sport };
        self.wanted = u8::from(filter::owner_wanted(self));
        self.made_cookie = sock.made_cookie(now);
    }

    /// A listener bore this socket in softirq: nobody owns it yet. Memory of an earlier socket at
    /// the same address goes.
    #[inline(always)]
    pub(crate) fn born_passive<S: Sock>(&mut self, sock: S, now: u64) {
        clear(self);
        self.flags = flag::PASSIVE;
        self.made_cookie = sock.made_cookie(now);
    }
}
