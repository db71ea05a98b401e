//! Names of the read-only globals that userspace sets before it loads the programs.
//!
//! They become constants for the verifier: a direct read at a constant offset stays a typed read,
//! and a branch on a constant that is off costs nothing.

/// Value of an offset global that was not resolved.
pub const OFFSET_UNKNOWN: u32 = u32::MAX;

/// Field offsets: (name of the global, the type, the path of members). `u32`, bytes.
///
/// Offsets into `tcp_sock`, whose first member is the `inet_connection_sock`, which starts with the
/// `inet_sock`, which starts with the `sock`, which starts with the `sock_common`.
pub const OFFSETS: &[(&str, &str, &str)] = &[
    ("OFF_FAMILY", "sock_common", "skc_family"),
    ("OFF_DADDR", "sock_common", "skc_daddr"),
    ("OFF_DPORT", "sock_common", "skc_dport"),
    ("OFF_NUM", "sock_common", "skc_num"),
    ("OFF_NET", "sock_common", "skc_net"),
    ("OFF_V6_DADDR", "sock_common", "skc_v6_daddr"),
    ("OFF_V6_RCV_SADDR", "sock_common", "skc_v6_rcv_saddr"),
    ("OFF_ERR", "sock", "sk_err"),
    ("OFF_SOCKET", "sock", "sk_socket"),
    ("OFF_LOCK_OWNED", "sock", "sk_lock.owned"),
    ("OFF_SHUTDOWN", "sock", "sk_shutdown"),
    ("OFF_SPORT", "inet_sock", "inet_sport"),
    ("OFF_SADDR", "inet_sock", "inet_saddr"),
    ("OFF_SEGS_OUT", "tcp_sock", "segs_out"),
    ("OFF_NETNS_INUM", "net", "ns.inum"),
    ("OFF_COOKIE", "sock_common", "skc_cookie"),
];

/// The same for the hooks other than that of state changes, which find a socket by its address, its
/// file descriptor or its `struct socket`.
pub const HOOK_OFFSETS: &[(&str, &str, &str)] = &[
    ("OFF_STATE", "sock_common", "skc_state"),
    ("OFF_PROTOCOL", "sock", "sk_protocol"),
    ("OFF_SOCKET_SK", "socket", "sk"),
    ("OFF_SOCKET_STATE", "socket", "state"),
    ("OFF_FILE_PRIVATE", "file", "private_data"),
    ("OFF_TASK_FILES", "task_struct", "files"),
    ("OFF_FILES_FDT", "files_struct", "fdt"),
    ("OFF_FDTABLE_FD", "fdtable", "fd"),
    ("OFF_TASK_NSPROXY", "task_struct", "nsproxy"),
    ("OFF_NSPROXY_NET", "nsproxy", "net_ns"),
    ("OFF_TW_SUBSTATE", "inet_timewait_sock", "tw_substate"),
];

/// The same for the programs that read the kernel's tables of ports and sockets.
pub const TABLE_OFFSETS: &[(&str, &str, &str)] = &[
    ("OFF_STATE", "sock_common", "skc_state"),
    ("OFF_FAMILY", "sock_common", "skc_family"),
    ("OFF_DADDR", "sock_common", "skc_daddr"),
    ("OFF_RCV_SADDR", "sock_common", "skc_rcv_saddr"),
    ("OFF_DPORT", "sock_common", "skc_dport"),
    ("OFF_NUM", "sock_common", "skc_num"),
    ("OFF_NET", "sock_common", "skc_net"),
    ("OFF_V6_DADDR", "sock_common", "skc_v6_daddr"),
    ("OFF_V6_RCV_SADDR", "sock_common", "skc_v6_rcv_saddr"),
    ("OFF_SOCK_NODE", "sock_common", "skc_nulls_node"),
    ("OFF_NETNS_INUM", "net", "ns.inum"),
    ("OFF_TASK_NSPROXY", "task_struct", "nsproxy"),
    ("OFF_NSPROXY_NET", "nsproxy", "net_ns"),
    ("OFF_DEATH_ROW", "net", "ipv4.tcp_death_row"),
    ("OFF_HASHINFO", "inet_timewait_death_row", "hashinfo"),
    ("OFF_EHASH", "inet_hashinfo", "ehash"),
    ("OFF_EHASH_MASK", "inet_hashinfo", "ehash_mask"),
    ("OFF_BHASH", "inet_hashinfo", "bhash"),
    ("OFF_BHASH_SIZE", "inet_hashinfo", "bhash_size"),
    ("OFF_BIND_CHAIN", "inet_bind_hashbucket", "chain"),
    ("OFF_BIND_NODE", "inet_bind_bucket", "node"),
    ("OFF_BIND_NET", "inet_bind_bucket", "ib_net"),
    ("OFF_BIND_PORT", "inet_bind_bucket", "port"),
    ("OFF_FASTREUSE", "inet_bind_bucket", "fastreuse"),
    ("OFF_FASTREUSEPORT", "inet_bind_bucket", "fastreuseport"),
    ("OFF_TW_STAMP", "tcp_timewait_sock", "tw_ts_recent_stamp"),
];
/// `u32`: size of `struct inet_bind_hashbucket`, bytes.
pub const SIZE_BIND_HEAD: &str = "SIZE_BIND_HEAD";
/// `u32`: offset of `inet_sock.local_port_range`; [`OFFSET_UNKNOWN`] before Linux 6.3.
pub const OFF_PORT_RANGE: &str = "OFF_PORT_RANGE";
/// `u8`: 1 where `net.ipv4.tcp_death_row` is a pointer.
pub const DEATH_ROW_POINTER: &str = "DEATH_ROW_POINTER";

/// Offsets of the fields of the `sock:inet_sock_set_state` tracepoint record: (name of the global,
/// the field's name in tracefs). `u32`, bytes.
pub const TRACEPOINT_FIELDS: &[(&str, &str)] = &[
    ("TP_SKADDR", "skaddr"),
    ("TP_OLDSTATE", "oldstate"),
    ("TP_NEWSTATE", "newstate"),
    ("TP_SPORT", "sport"),
    ("TP_DPORT", "dport"),
    ("TP_FAMILY", "family"),
    ("TP_PROTOCOL", "protocol"),
    ("TP_SADDR", "saddr"),
    ("TP_DADDR", "daddr"),
    ("TP_SADDR_V6", "saddr_v6"),
    ("TP_DADDR_V6", "daddr_v6"),
];

/// `u8`: 1 when the offsets above are known to the plain tracepoint's program.
pub const HAVE_OFFSETS: &str = "HAVE_OFFSETS";
/// `u8`: 1 to follow every state of a socket; 0 to follow only what a failed `connect()` needs.
pub const TRACK_ALL: &str = "TRACK_ALL";
/// `u8`: 1 when lives are in the map `LIVES`, 0 when in `LIVES_BY_ADDR`.
pub const LIFE_TABLE: &str = "LIFE_TABLE";
/// `u32`: how many arguments this kernel's `inet_csk_accept` takes.
pub const ACCEPT_ARGUMENTS: &str = "ACCEPT_ARGUMENTS";
/// `u32`: how many arguments the function takes that gives out file descriptors: see [`ALLOC_FD`].
pub const FD_ARGUMENTS: &str = "FD_ARGUMENTS";
/// The function that gives out file descriptors: the first of these that there is. The compiler may have
/// inlined it into the last, which on 5.10 `accept()` does not call (`__sys_accept4_file`).
pub const ALLOC_FD: &[&str] = &["alloc_fd", "__alloc_fd", "get_unused_fd_flags"];

/// `u32`: number of buckets of the map `LIVES`, a power of two.
pub const LIFE_BUCKETS: &str = "LIFE_BUCKETS";
/// `u32`: bytes waiting in a ring at which its reader is woken before its timer.
pub const WAKE_BYTES: &str = "WAKE_BYTES";

/// `u8`: 1 to report failures only.
pub const FILTER_FAILURES: &str = "FILTER_FAILURES";
/// `u64` each: errno wanted, bit by number, of failures; bit 0 stands for "no errno on the socket".
pub const FILTER_ERRORS: [&str; 3] = ["FILTER_ERRORS_0", "FILTER_ERRORS_1", "FILTER_ERRORS_2"];
/// `u8`: 4 or 6 to report that family only; 0 for both.
pub const FILTER_FAMILY: &str = "FILTER_FAMILY";
/// `u32`: new states wanted, bit by number.
pub const FILTER_STATES: &str = "FILTER_STATES";
/// `u8`: 1 when the map `PIDS` holds the owners' process ids that are wanted.
pub const FILTER_PIDS: &str = "FILTER_PIDS";
/// `u8`: 1 when the map `COMMS` holds the owners' task names that are wanted.
pub const FILTER_COMMS: &str = "FILTER_COMMS";
/// `u8`: 1 when the map `PORTS` holds the ports that are wanted, on either side.
pub const FILTER_PORTS: &str = "FILTER_PORTS";
/// `u8`: 1 when the map `DPORTS` holds the remote ports that are wanted.
pub const FILTER_DPORTS: &str = "FILTER_DPORTS";
/// `u8`: 1 when the map `SRC` holds the local networks that are wanted.
pub const FILTER_SRC: &str = "FILTER_SRC";
/// `u8`: 1 when the map `DST` holds the remote networks that are wanted.
pub const FILTER_DST: &str = "FILTER_DST";
/// `u8`: 1 when the map `NETNS` holds the network namespaces that are wanted.
pub const FILTER_NETNS: &str = "FILTER_NETNS";
/// `u64`: id of the cgroup whose tasks (and those below it) are wanted; 0 for all.
pub const FILTER_CGROUP: &str = "FILTER_CGROUP";
/// `u32`: depth of that cgroup below the root, which has depth 0.
pub const FILTER_CGROUP_LEVEL: &str = "FILTER_CGROUP_LEVEL";
