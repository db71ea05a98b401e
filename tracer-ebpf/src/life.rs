//! What is remembered of a socket between two of its transitions: who owns it, since when it is in
//! its state. The owner is the task that called `connect()` or `listen()`; later transitions may
//! run in any task's time, so they take the owner from here.

use core::{cell::UnsafeCell, ptr::NonNull};

use tracer_ebpf::{flag, owner, state};

use crate::{
    filter,
    maps::{LIVES, LIVES_BY_ADDR},
    offsets::{LIFE_BUCKETS, LIFE_TABLE},
    sock::Sock,
    task::Task,
};

/// The memory of one socket. All zero: nothing known.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Life {
    /// When `state` was entered, `CLOCK_BOOTTIME` nanoseconds.
    pub since_ns: u64,
    /// The socket's cookie: tells it from a later one at the same address. Made up where the kernel's
    /// can't be had; 0 for a newborn, which has none yet.
    pub cookie: u64,
    /// Who owns it.
    pub task: Task,
    /// The local port that an earlier attempt left behind in `inet_sport` when this `connect()`
    /// began: as long as it is unchanged, this attempt has no port of its own.
    pub stale_port: u16,
    /// The state that `since_ns` is about; 0 when not known.
    pub state: u8,
    /// `tracer_ebpf::owner`.
    pub owner: u8,
    /// `tracer_ebpf::flag::PORT_HELD`, `PASSIVE`.
    pub flags: u16,
    /// 1 when the filters on owners want this socket.
    pub wanted: u8,
    /// Where the `connect()` that began it stands, see [`connecting`].
    pub connecting: u8,
}

/// [`Life::connecting`]: only where a hook waits for the return of `connect()`.
pub(crate) mod connecting {
    /// It has returned, or no hook waits for it.
    pub(crate) const NO: u8 = 0;
    /// It has not returned yet.
    pub(crate) const IN_CALL: u8 = 1;
    /// It has not returned yet, and the socket is closed again: that was reported.
    pub(crate) const TOLD: u8 = 2;
    /// The same, and the report waits in `PARKED` for the errno that it returns.
    pub(crate) const PARKED: u8 = 3;
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

/// Copies 8 bytes at a time, for the same reason.
#[inline(always)]
pub(crate) fn copy<T>(to: &mut T, from: *const T) {
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    let (to, from) = (core::ptr::from_mut(to).cast::<u64>(), from.cast::<u64>());
    let mut index = 0;
    while index < size_of::<T>() / 8 {
        // SAFETY: inside both values, which hold plain integers and are 8-byte aligned.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
        index += 1;
    }
}

/// Lives of one bucket.
const WAYS: usize = 8;

/// Lives of sockets whose addresses have the same hash. A socket's address in `keys` makes the life
/// at the same index its own: it is taken by compare-and-exchange, so that no two CPUs take the same
/// one, and only transitions of that socket, which the kernel runs one at a time, touch it then.
#[repr(C)]
pub(crate) struct Bucket {
    keys: [UnsafeCell<u64>; WAYS],
    lives: [UnsafeCell<Life>; WAYS],
}

/// One of the two buckets of a socket. Addresses come back as the kernel's allocator reuses them, so
/// under churn the same few buckets stay in the processor's cache.
#[inline(always)]
fn bucket(addr: u64, second: bool) -> Option<&'static Bucket> {
    // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
    let product = addr.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (product >> if second { 24 } else { 44 }) as u32;
    LIVES.get(hash & (LIFE_BUCKETS.load() - 1))
}

/// The same way, as a number of which the verifier knows only that it is one: so that it walks the rest
/// of the program once, and not for each way.
#[inline(always)]
fn any_way(way: usize, addr: u64) -> usize {
    let mut mixed = way as u64 ^ addr;
    #[cfg(target_arch = "bpf")]
    // SAFETY: changes nothing; the compiler must not know that.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) mixed, options(nomem, nostack, preserves_flags));
    }
    mixed ^= addr;
    mixed as usize % WAYS
}

/// Whose life this is; 0: nobody's.
#[inline(always)]
fn key_at(bucket: &Bucket, way: usize) -> u64 {
    // SAFETY: a whole word of the bucket, read once.
    unsafe { bucket.keys[way].get().read_volatile() }
}

/// A life. Never null, so that no life is a null pointer: of an `Option` with a tag of its own the
/// compiler copies the pointer that isn't there too, and the verifier refuses that.
#[inline(always)]
fn life_at(bucket: &Bucket, way: usize) -> NonNull<Life> {
    // SAFETY: a place in a map's value.
    unsafe { NonNull::new_unchecked(bucket.lives[way].get()) }
}

/// Where a socket's life is: its key and itself.
#[inline(always)]
fn find(addr: u64) -> Option<(&'static UnsafeCell<u64>, NonNull<Life>)> {
    for second in [false, true] {
        let bucket = bucket(addr, second)?;
        let mut way = 0;
        while way < WAYS {
            if key_at(bucket, way) == addr {
                let way = any_way(way, addr);
                return Some((&bucket.keys[way], life_at(bucket, way)));
            }
            way += 1;
        }
    }
    None
}

/// The life of a socket in the table.
#[inline(always)]
pub(crate) fn in_table(addr: u64) -> Option<NonNull<Life>> {
    find(addr).map(|(_, life)| life)
}

/// The same, or one that is taken for it now, with what its last socket left in it.
#[inline(always)]
pub(crate) fn in_table_or_taken(addr: u64) -> Option<NonNull<Life>> {
    if let Some(life) = in_table(addr) {
        return Some(life);
    }
    for second in [false, true] {
        let bucket = bucket(addr, second)?;
        let mut way = 0;
        while way < WAYS {
            if key_at(bucket, way) == 0 && take(&bucket.keys[way], addr) {
                return Some(life_at(bucket, any_way(way, addr)));
            }
            way += 1;
        }
    }
    None
}

/// Gives back the life of a socket.
#[inline(always)]
pub(crate) fn leave_table(addr: u64) {
    if let Some((key, _)) = find(addr) {
        // SAFETY: this socket's own; a whole word, which another CPU sees before or after.
        unsafe { key.get().write_volatile(0) };
    }
}

/// Puts `addr` into an empty key; false: somebody else was faster.
///
/// Rust has no compare-and-exchange for this target, though the processor has: Linux 5.12.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn take(key: &UnsafeCell<u64>, addr: u64) -> bool {
    let mut found: u64 = 0;
    // SAFETY: an aligned 64-bit word of a map's value; the instruction changes that word and r0.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({key} + 0, r0, {addr})",
            key = in(reg) key.get(),
            addr = in(reg) addr,
            inout("r0") found,
        );
    }
    found == 0
}

/// The same for the host, whose compiler only checks these sources.
#[cfg(not(target_arch = "bpf"))]
fn take(key: &UnsafeCell<u64>, addr: u64) -> bool {
    // SAFETY: never run.
    unsafe { key.get().replace(addr) == 0 }
}

/// The life kept under a socket's address.
#[inline(always)]
pub(crate) fn by_addr(addr: u64) -> Option<NonNull<Life>> {
    LIVES_BY_ADDR.get_ptr_mut(addr).and_then(NonNull::new)
}

/// The same, or a zeroed one.
#[inline(always)]
pub(crate) fn by_addr_or_new(addr: u64) -> Option<NonNull<Life>> {
    if let Some(life) = by_addr(addr) {
        return Some(life);
    }
    LIVES_BY_ADDR.insert(addr, EMPTY, 0).ok()?;
    by_addr(addr)
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
        self.owned_by_current();
        let held = new == state::SYN_SENT && sock.num() != 0;
        self.flags = if held { flag::PORT_HELD } else { 0 };
        self.stale_port = if held { 0 } else { sport };
        self.cookie = if by_cookie() { sock.cookie() } else { made_cookie(sock, now) };
        self.connecting = connecting::NO;
    }

    /// A listener bore this socket in softirq: nobody owns it yet.
    #[inline(always)]
    pub(crate) fn begin_passive<S: Sock>(&mut self, sock: S, now: u64) {
        clear(self);
        self.flags = flag::PASSIVE;
        // The cookie that it carries may still be its listener's (`inet_csk_clone_lock`).
        self.cookie = if by_cookie() { 0 } else { made_cookie(sock, now) };
    }

    /// The current task owns this socket.
    #[inline(always)]
    pub(crate) fn owned_by_current(&mut self) {
        self.task.set_current();
        self.wanted = u8::from(filter::owner_wanted(&self.task));
        self.owner = owner::STORED;
    }

    /// Whether this is the life of that very socket, and not of an earlier one at its address whose
    /// end was missed.
    #[inline(always)]
    pub(crate) fn is_of<S: Sock>(&mut self, sock: S) -> bool {
        if !by_cookie() {
            return true;
        }
        let cookie = sock.cookie();
        if self.cookie == 0 || cookie == 0 {
            self.cookie |= cookie;
            return true;
        }
        self.cookie == cookie
    }
}

/// Whether lives carry the kernel's cookie of their sockets: where the state hook makes one for each.
#[inline(always)]
fn by_cookie() -> bool {
    LIFE_TABLE.load() != 0
}

/// A cookie of our own for a socket first seen now: its address alone is used again by later ones.
#[inline(always)]
fn made_cookie<S: Sock>(sock: S, now: u64) -> u64 {
    sock.addr().rotate_left(32) ^ now
}
