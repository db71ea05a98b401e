//! What a probe can read of a socket, and the two ways to read it.

use core::{ffi::c_void, ptr::NonNull};

use aya_ebpf::{
    EbpfContext, Global,
    helpers::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
    programs::{BtfTracePointContext, TracePointContext},
};

use crate::{
    call,
    life::{self, Life},
    offsets as off,
    probed::{Plain, ProbedSock, read},
};

/// `AF_INET6`
pub(crate) const AF_INET6: u16 = 10;
/// `IPPROTO_TCP`
pub(crate) const IPPROTO_TCP: u16 = 6;

/// Local and remote address and port as a probe sees them, v4-mapped addresses normalised.
#[derive(Clone, Copy)]
pub(crate) struct Tuple {
    pub saddr: Address,
    pub daddr: Address,
    /// Host byte order.
    pub sport: u16,
    /// Host byte order.
    pub dport: u16,
    /// 4 or 6.
    pub family: u8,
}

/// 16 bytes in network order, as two words as they lie in memory; IPv4 is `::ffff:a.b.c.d`.
#[derive(Clone, Copy)]
pub(crate) struct Address(pub [u64; 2]);

/// Third 32-bit word of a v4-mapped address, as it lies in memory.
const MAPPED: u64 = 0xffff_0000;

impl Address {
    pub(crate) fn v4(raw: u32) -> Self {
        Self([0, MAPPED | (u64::from(raw) << 32)])
    }

    pub(crate) fn is_mapped(self) -> bool {
        self.0[0] == 0 && self.0[1] & 0xffff_ffff == MAPPED
    }

    fn is_unspecified(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0
    }

    /// An IPv6 socket that speaks IPv4 may still have `::` as its local address.
    pub(crate) fn as_v4(self) -> Self {
        if self.is_unspecified() { Self::v4(0) } else { self }
    }
}

impl Tuple {
    pub(crate) fn v4(saddr: u32, daddr: u32, sport: u16, dport: u16) -> Self {
        Self { saddr: Address::v4(saddr), daddr: Address::v4(daddr), sport, dport, family: 4 }
    }

    pub(crate) fn v6(saddr: Address, daddr: Address, sport: u16, dport: u16) -> Self {
        if daddr.is_mapped() || saddr.is_mapped() {
            Self { saddr: saddr.as_v4(), daddr: daddr.as_v4(), sport, dport, family: 4 }
        } else {
            Self { saddr, daddr, sport, dport, family: 6 }
        }
    }
}

/// A socket in the middle of a transition.
pub(crate) trait Sock: Copy {
    /// Whether [`err`](Self::err), [`shutdown`](Self::shutdown), [`netns`](Self::netns),
    /// [`num`](Self::num) and [`segs_out`](Self::segs_out) mean anything.
    fn all_fields(self) -> bool;
    fn tuple(self) -> Tuple;
    /// `sk_err`.
    fn err(self) -> u16;
    /// `sk_shutdown`.
    fn shutdown(self) -> u8;
    /// `inet_num`: the local port that the socket holds right now, host byte order. On the way to
    /// CLOSE it is 0 already (`tcp_set_state` puts the port back first), unless it was bound.
    fn num(self) -> u16;
    /// `sk_socket`: a file descriptor stands for it. Not so before `accept()`, and after `close()`.
    fn has_socket(self) -> bool;
    /// `sk_lock.owned`: a system call has the socket; else a softirq or a timer.
    fn is_locked(self) -> bool;
    fn segs_out(self) -> u32;
    fn netns(self) -> u32;
    /// Its address: what its life is kept under.
    fn addr(self) -> u64;
    /// The kernel's cookie of the socket; 0: it has none yet, or this rung can't have it.
    fn cookie(self) -> u64;
    fn life(self) -> Option<NonNull<Life>>;
    /// The life of this socket, or one that is to begin; `None` when there is no room.
    fn life_or_new(self) -> Option<NonNull<Life>>;
    /// Gives the life back.
    fn forget(self);
}

/// Reads a field of a trusted kernel pointer; the verifier checks the read against BTF.
///
/// # Safety
/// `base` came from the kernel as a BTF pointer; `offset` is that of a field of type `T`.
#[inline(always)]
unsafe fn field<T: Copy>(base: *const u8, offset: &'static Global<u32>) -> T {
    // SAFETY: as the caller promises; a fault in a typed read gives zeros.
    unsafe { core::ptr::read_volatile(base.add(offset.load() as usize).cast::<T>()) }
}

/// A TCP socket behind a BTF-typed pointer. `TABLE`: its life is in the table, under its cookie; that
/// takes Linux 5.12 (`bpf_get_socket_cookie` for tracing, compare-and-exchange).
#[derive(Clone, Copy)]
pub(crate) struct TrustedSock<const TABLE: bool> {
    sk: *mut c_void,
    tcp: *const u8,
    addr: u64,
}

impl<const TABLE: bool> TrustedSock<TABLE> {
    /// `None` for what isn't TCP (SCTP, DCCP and MPTCP's upper socket share the tracepoint).
    #[inline(always)]
    pub(crate) fn new(ctx: &BtfTracePointContext) -> Option<Self> {
        let sk: *mut c_void = ctx.arg(0);
        // SAFETY: `sk` is the tracepoint's argument; the helper checks that it is a full TCP socket.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk) }.cast::<u8>();
        if tcp.is_null() {
            return None;
        }
        // The same argument once more, copied: as a plain number, which may be hashed.
        Some(Self { sk, tcp, addr: call::word(ctx, 0) })
    }
}

impl<const TABLE: bool> Sock for TrustedSock<TABLE> {
    #[inline(always)]
    fn all_fields(self) -> bool {
        true
    }

    #[inline(always)]
    fn tuple(self) -> Tuple {
        // SAFETY: offsets of these fields in a tcp_sock.
        unsafe {
            let sport = u16::from_be(field(self.tcp, &off::OFF_SPORT));
            let dport = u16::from_be(field(self.tcp, &off::OFF_DPORT));
            if field::<u16>(self.tcp, &off::OFF_FAMILY) == AF_INET6 {
                let saddr = Address(self.pair(&off::OFF_V6_RCV_SADDR));
                let daddr = Address(self.pair(&off::OFF_V6_DADDR));
                Tuple::v6(saddr, daddr, sport, dport)
            } else {
                let saddr = field(self.tcp, &off::OFF_SADDR);
                Tuple::v4(saddr, field(self.tcp, &off::OFF_DADDR), sport, dport)
            }
        }
    }

    #[inline(always)]
    fn err(self) -> u16 {
        // SAFETY: sk_err is an int; errnos fit 16 bits.
        unsafe { field::<u32>(self.tcp, &off::OFF_ERR) as u16 }
    }

    #[inline(always)]
    fn shutdown(self) -> u8 {
        // SAFETY: sk_shutdown is a byte.
        unsafe { field(self.tcp, &off::OFF_SHUTDOWN) }
    }

    #[inline(always)]
    fn num(self) -> u16 {
        // SAFETY: skc_num is a u16 in host byte order.
        unsafe { field(self.tcp, &off::OFF_NUM) }
    }

    #[inline(always)]
    fn has_socket(self) -> bool {
        // SAFETY: sk_socket is a pointer, of which only null matters.
        unsafe { !field::<*const u8>(self.tcp, &off::OFF_SOCKET).is_null() }
    }

    #[inline(always)]
    fn is_locked(self) -> bool {
        // SAFETY: sk_lock.owned is an int.
        unsafe { field::<u32>(self.tcp, &off::OFF_LOCK_OWNED) != 0 }
    }

    #[inline(always)]
    fn segs_out(self) -> u32 {
        // SAFETY: segs_out is a u32.
        unsafe { field(self.tcp, &off::OFF_SEGS_OUT) }
    }

    #[inline(always)]
    fn netns(self) -> u32 {
        // SAFETY: skc_net is a struct of one pointer to a struct net.
        unsafe {
            let net: *const u8 = field(self.tcp, &off::OFF_NET);
            field(net, &off::OFF_NETNS_INUM)
        }
    }

    #[inline(always)]
    fn addr(self) -> u64 {
        self.addr
    }

    #[inline(always)]
    fn cookie(self) -> u64 {
        if TABLE {
            // SAFETY: the tracepoint's own argument.
            unsafe { bpf_get_socket_cookie(self.sk) }
        } else {
            // SAFETY: skc_cookie is an atomic64_t.
            unsafe { field(self.tcp, &off::OFF_COOKIE) }
        }
    }

    #[inline(always)]
    fn life(self) -> Option<NonNull<Life>> {
        if TABLE { life::in_table(self.addr) } else { life::by_addr(self.addr) }
    }

    #[inline(always)]
    fn life_or_new(self) -> Option<NonNull<Life>> {
        if TABLE { life::in_table_or_taken(self.addr) } else { life::by_addr_or_new(self.addr) }
    }

    #[inline(always)]
    fn forget(self) {
        if TABLE { life::leave_table(self.addr) } else { life::forget_addr(self.addr) }
    }
}

impl<const TABLE: bool> TrustedSock<TABLE> {
    /// Two words at an offset.
    ///
    /// # Safety
    /// `offset` is that of a 16-byte field.
    #[inline(always)]
    #[expect(clippy::cast_ptr_alignment, reason = "an in6_addr in a sock is 8-byte aligned")]
    unsafe fn pair(self, offset: &'static Global<u32>) -> [u64; 2] {
        // SAFETY: as the caller promises.
        unsafe {
            let at = self.tcp.add(offset.load() as usize).cast::<u64>();
            [core::ptr::read_volatile(at), core::ptr::read_volatile(at.add(1))]
        }
    }
}

/// A TCP socket behind the plain tracepoint: the record's stable fields, and the socket's own where
/// BTF told their offsets.
#[derive(Clone, Copy)]
pub(crate) struct TracepointSock<'a> {
    ctx: &'a TracePointContext,
    sock: ProbedSock,
}

impl<'a> TracepointSock<'a> {
    /// `None` for what isn't TCP.
    #[inline(always)]
    pub(crate) fn new(ctx: &'a TracePointContext) -> Option<Self> {
        let sock = Self { ctx, sock: ProbedSock::tcp_at(0) };
        if sock.record::<u16>(&off::TP_PROTOCOL) != IPPROTO_TCP {
            return None;
        }
        Some(Self { ctx, sock: ProbedSock::tcp_at(sock.record(&off::TP_SKADDR)) })
    }

    /// A field of the tracepoint's record.
    #[inline(always)]
    pub(crate) fn record<T: Plain>(self, offset: &'static Global<u32>) -> T {
        // The record is kernel memory, and userspace read the offset from tracefs.
        read(self.ctx.as_ptr().wrapping_byte_add(offset.load() as usize) as u64)
    }

    /// A field of the socket; zero where offsets are not known.
    #[inline(always)]
    fn known<T: Default>(self, read: impl FnOnce(ProbedSock) -> T) -> T {
        if self.all_fields() { read(self.sock) } else { T::default() }
    }
}

impl Sock for TracepointSock<'_> {
    #[inline(always)]
    fn all_fields(self) -> bool {
        self.sock.all_fields()
    }

    #[inline(always)]
    fn tuple(self) -> Tuple {
        // The tracepoint gives ports in host byte order (include/trace/events/sock.h).
        let (sport, dport) = (self.record(&off::TP_SPORT), self.record(&off::TP_DPORT));
        if self.record::<u16>(&off::TP_FAMILY) == AF_INET6 {
            let saddr = Address(self.record(&off::TP_SADDR_V6));
            let daddr = Address(self.record(&off::TP_DADDR_V6));
            Tuple::v6(saddr, daddr, sport, dport)
        } else {
            let saddr = self.record(&off::TP_SADDR);
            Tuple::v4(saddr, self.record(&off::TP_DADDR), sport, dport)
        }
    }

    #[inline(always)]
    fn err(self) -> u16 {
        self.known(Sock::err)
    }

    #[inline(always)]
    fn shutdown(self) -> u8 {
        self.known(Sock::shutdown)
    }

    #[inline(always)]
    fn num(self) -> u16 {
        self.known(Sock::num)
    }

    #[inline(always)]
    fn has_socket(self) -> bool {
        self.known(Sock::has_socket)
    }

    #[inline(always)]
    fn is_locked(self) -> bool {
        self.known(Sock::is_locked)
    }

    #[inline(always)]
    fn segs_out(self) -> u32 {
        self.known(Sock::segs_out)
    }

    #[inline(always)]
    fn netns(self) -> u32 {
        self.known(Sock::netns)
    }

    #[inline(always)]
    fn addr(self) -> u64 {
        self.sock.addr()
    }

    #[inline(always)]
    fn cookie(self) -> u64 {
        self.known(Sock::cookie)
    }

    #[inline(always)]
    fn life(self) -> Option<NonNull<Life>> {
        life::by_addr(self.addr())
    }

    #[inline(always)]
    fn life_or_new(self) -> Option<NonNull<Life>> {
        life::by_addr_or_new(self.addr())
    }

    #[inline(always)]
    fn forget(self) {
        life::forget_addr(self.addr());
    }
}
