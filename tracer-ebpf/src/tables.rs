//! What the programs tell that read the kernel's tables of local ports and of sockets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Buckets and entries, together, that one run of a program reads.
pub const STEPS: u32 = 24;

/// Values of [`Entry::kind`].
pub mod kind {
    /// Nothing.
    pub const NOTHING: u8 = 0;
    /// Which tables the calling task's network namespace uses: `table`, `bind_buckets`, `socket_buckets`.
    pub const TABLES: u8 = 1;
    /// `connect()` does not choose local port `sport` in `netns`: somebody has it by `bind()`.
    pub const BOUND: u8 = 2;
    /// A TIME-WAIT entry that saw no timestamps, so that `connect()` can't take it over.
    pub const UNSTAMPED: u8 = 3;
    /// The end of a run: `buckets_done`.
    pub const DONE: u8 = 5;
    /// A socket with a port range of its own (`IP_LOCAL_PORT_RANGE`).
    pub const RANGED: u8 = 4;
}

/// One entry. What its kind doesn't speak of is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Entry {
    /// Address of the tables: tells them apart.
    pub table: u64,
    /// Local address in network order, as two words as they lie in memory; IPv4 as `::ffff:a.b.c.d`.
    pub saddr: [u64; 2],
    /// Remote address, likewise.
    pub daddr: [u64; 2],
    /// Network namespace (`net.ns.inum`).
    pub netns: u32,
    /// First port in the lower half, last port in the upper one (`inet_sock.local_port_range`).
    pub range: u32,
    /// Buckets of the table of ports (`bhash_size`).
    pub bind_buckets: u32,
    /// Buckets of the table of sockets (`ehash_mask` + 1).
    pub socket_buckets: u32,
    /// Buckets that were read to their end.
    pub buckets_done: u32,
    /// Local port, host byte order.
    pub sport: u16,
    /// Remote port, host byte order.
    pub dport: u16,
    /// See [`kind`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

impl Entry {
    /// All zero.
    pub const NOTHING: Self = Self {
        table: 0,
        saddr: [0; 2],
        daddr: [0; 2],
        netns: 0,
        range: 0,
        bind_buckets: 0,
        socket_buckets: 0,
        buckets_done: 0,
        sport: 0,
        dport: 0,
        kind: 0,
        reserved: [0; 7],
    };
}

const _: () = assert!(size_of::<Entry>() == 72);
