//! A socket known by its address alone: what function hooks, system call tracepoints and the plain
//! tracepoint have. Its fields are copied with `bpf_probe_read_kernel`, at the offsets that BTF tells.

use core::{mem::MaybeUninit, ptr::NonNull};

use aya_ebpf::{Global, helpers::generated};

use crate::{
    life::{self, Life},
    offsets as off,
    sock::{AF_INET6, Address, IPPROTO_TCP, Sock, Tuple},
    task,
};

/// A value for which every pattern of bits is a value.
pub(crate) trait Plain {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for [u64; 2] {}

/// A value in kernel memory; zero where it can't be read. No branch on that: each would double the
/// paths that older verifiers walk.
#[inline(always)]
pub(crate) fn read<T: Plain>(at: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address; where it fails it zeroes the whole value.
    unsafe {
        generated::bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            at as *const _,
        );
        value.assume_init()
    }
}

/// Words in kernel memory; zero where they can't be read.
#[inline(always)]
pub(crate) fn read_window<const N: usize>(at: u64, words: &mut [u64; N]) {
    // SAFETY: as above.
    unsafe {
        generated::bpf_probe_read_kernel(
            words.as_mut_ptr().cast(),
            size_of::<[u64; N]>() as u32,
            at as *const _,
        );
    }
}

/// The same in the memory of the current process.
#[inline(always)]
pub(crate) fn read_user<T: Plain>(at: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as above.
    unsafe {
        generated::bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            at as *const _,
        );
        value.assume_init()
    }
}

/// A field of a kernel struct; zero where it can't be read.
#[inline(always)]
pub(crate) fn read_field<T: Plain>(base: u64, offset: &'static Global<u32>) -> T {
    read(base + u64::from(offset.load()))
}

/// A TCP socket at an address.
#[derive(Clone, Copy)]
pub(crate) struct ProbedSock {
    addr: u64,
}

impl ProbedSock {
    /// A `struct sock`; `None` for what isn't TCP.
    #[inline(always)]
    pub(crate) fn new(addr: u64) -> Option<Self> {
        let protocol: u16 = read_field(addr, &off::OFF_PROTOCOL);
        (addr != 0 && protocol == IPPROTO_TCP).then_some(Self { addr })
    }

    /// The one that the plain tracepoint tells of, which said that it is TCP.
    #[inline(always)]
    pub(crate) fn tcp_at(addr: u64) -> Self {
        Self { addr }
    }

    /// The one behind a `struct socket`.
    #[inline(always)]
    pub(crate) fn of_socket(socket: u64) -> Option<Self> {
        Self::new(read_field(socket, &off::OFF_SOCKET_SK))
    }

    /// `sk_family` is `AF_INET6`: IPv4 may go through it, too.
    #[inline(always)]
    pub(crate) fn is_v6(self) -> bool {
        read_field::<u16>(self.addr, &off::OFF_FAMILY) == AF_INET6
    }

    /// The life of this very socket.
    #[inline(always)]
    pub(crate) fn own_life(self) -> Option<NonNull<Life>> {
        // SAFETY: valid for the run of the program.
        self.life().filter(|&life| unsafe { (*life.as_ptr()).is_of(self) })
    }
}

/// The `struct socket` behind a file descriptor of the current task. What isn't a socket gives an
/// address that leads nowhere.
#[inline(always)]
pub(crate) fn socket_of_fd(fd: u64) -> u64 {
    let files: u64 = read_field(task::current_address(), &off::OFF_TASK_FILES);
    let table: u64 = read_field(files, &off::OFF_FILES_FDT);
    let descriptors: u64 = read_field(table, &off::OFF_FDTABLE_FD);
    let file: u64 = read(descriptors + (fd & 0x7fff_ffff) * 8);
    read_field(file, &off::OFF_FILE_PRIVATE)
}

impl Sock for ProbedSock {
    #[inline(always)]
    fn all_fields(self) -> bool {
        off::HAVE_OFFSETS.load() != 0
    }

    #[inline(always)]
    fn tuple(self) -> Tuple {
        let sport = u16::from_be(read_field(self.addr, &off::OFF_SPORT));
        let dport = u16::from_be(read_field(self.addr, &off::OFF_DPORT));
        if self.is_v6() {
            let saddr = Address(read_field(self.addr, &off::OFF_V6_RCV_SADDR));
            let daddr = Address(read_field(self.addr, &off::OFF_V6_DADDR));
            Tuple::v6(saddr, daddr, sport, dport)
        } else {
            let saddr = read_field(self.addr, &off::OFF_SADDR);
            Tuple::v4(saddr, read_field(self.addr, &off::OFF_DADDR), sport, dport)
        }
    }

    #[inline(always)]
    fn err(self) -> u16 {
        read_field::<u32>(self.addr, &off::OFF_ERR) as u16
    }

    #[inline(always)]
    fn shutdown(self) -> u8 {
        read_field(self.addr, &off::OFF_SHUTDOWN)
    }

    #[inline(always)]
    fn num(self) -> u16 {
        read_field(self.addr, &off::OFF_NUM)
    }

    #[inline(always)]
    fn has_socket(self) -> bool {
        read_field::<u64>(self.addr, &off::OFF_SOCKET) != 0
    }

    #[inline(always)]
    fn is_locked(self) -> bool {
        read_field::<u32>(self.addr, &off::OFF_LOCK_OWNED) != 0
    }

    #[inline(always)]
    fn segs_out(self) -> u32 {
        read_field(self.addr, &off::OFF_SEGS_OUT)
    }

    #[inline(always)]
    fn netns(self) -> u32 {
        read_field(read_field(self.addr, &off::OFF_NET), &off::OFF_NETNS_INUM)
    }

    #[inline(always)]
    fn addr(self) -> u64 {
        self.addr
    }

    /// Zero as long as nobody asked for it.
    #[inline(always)]
    fn cookie(self) -> u64 {
        read_field(self.addr, &off::OFF_COOKIE)
    }

    #[inline(always)]
    fn life(self) -> Option<NonNull<Life>> {
        if off::LIFE_TABLE.load() == 0 {
            life::by_addr(self.addr)
        } else {
            life::in_table(self.addr)
        }
    }

    /// Never in the table: the programs that begin a life there have a typed pointer.
    #[inline(always)]
    fn life_or_new(self) -> Option<NonNull<Life>> {
        life::by_addr_or_new(self.addr)
    }

    #[inline(always)]
    fn forget(self) {
        if off::LIFE_TABLE.load() == 0 {
            life::forget_addr(self.addr);
        } else {
            life::leave_table(self.addr);
        }
    }
}
