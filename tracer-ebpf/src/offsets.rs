//! The read-only globals that userspace sets before load; `tracer_ebpf::globals` says what each is.

use aya_ebpf::Global;
use tracer_ebpf::globals::OFFSET_UNKNOWN;

macro_rules! globals {
    ($($name:ident: $ty:ty = $value:expr;)*) => {
        $(#[unsafe(no_mangle)] pub(crate) static $name: Global<$ty> = Global::new($value);)*
    };
}

globals! {
    OFF_FAMILY: u32 = OFFSET_UNKNOWN;
    OFF_DADDR: u32 = OFFSET_UNKNOWN;
    OFF_DPORT: u32 = OFFSET_UNKNOWN;
    OFF_NUM: u32 = OFFSET_UNKNOWN;
    OFF_NET: u32 = OFFSET_UNKNOWN;
    OFF_V6_DADDR: u32 = OFFSET_UNKNOWN;
    OFF_V6_RCV_SADDR: u32 = OFFSET_UNKNOWN;
    OFF_ERR: u32 = OFFSET_UNKNOWN;
    OFF_SOCKET: u32 = OFFSET_UNKNOWN;
    OFF_LOCK_OWNED: u32 = OFFSET_UNKNOWN;
    OFF_SHUTDOWN: u32 = OFFSET_UNKNOWN;
    OFF_SPORT: u32 = OFFSET_UNKNOWN;
    OFF_SADDR: u32 = OFFSET_UNKNOWN;
    OFF_SEGS_OUT: u32 = OFFSET_UNKNOWN;
    OFF_NETNS_INUM: u32 = OFFSET_UNKNOWN;
    OFF_COOKIE: u32 = OFFSET_UNKNOWN;

    OFF_STATE: u32 = OFFSET_UNKNOWN;
    OFF_PROTOCOL: u32 = OFFSET_UNKNOWN;
    OFF_SOCKET_SK: u32 = OFFSET_UNKNOWN;
    OFF_SOCKET_STATE: u32 = OFFSET_UNKNOWN;
    OFF_FILE_PRIVATE: u32 = OFFSET_UNKNOWN;
    OFF_TASK_FILES: u32 = OFFSET_UNKNOWN;
    OFF_FILES_FDT: u32 = OFFSET_UNKNOWN;
    OFF_FDTABLE_FD: u32 = OFFSET_UNKNOWN;
    OFF_TASK_NSPROXY: u32 = OFFSET_UNKNOWN;
    OFF_NSPROXY_NET: u32 = OFFSET_UNKNOWN;
    OFF_TW_SUBSTATE: u32 = OFFSET_UNKNOWN;

    TP_SKADDR: u32 = 8;
    TP_OLDSTATE: u32 = 16;
    TP_NEWSTATE: u32 = 20;
    TP_SPORT: u32 = 24;
    TP_DPORT: u32 = 26;
    TP_FAMILY: u32 = 28;
    TP_PROTOCOL: u32 = 30;
    TP_SADDR: u32 = 32;
    TP_DADDR: u32 = 36;
    TP_SADDR_V6: u32 = 40;
    TP_DADDR_V6: u32 = 56;

    HAVE_OFFSETS: u8 = 0;
    TRACK_ALL: u8 = 1;
    LIFE_TABLE: u8 = 0;
    ACCEPT_ARGUMENTS: u32 = 4;
    FD_ARGUMENTS: u32 = 1;
    LIFE_BUCKETS: u32 = 16_384;
    WAKE_BYTES: u32 = 1 << 20;

    FILTER_FAILURES: u8 = 0;
    FILTER_ERRORS_0: u64 = u64::MAX;
    FILTER_ERRORS_1: u64 = u64::MAX;
    FILTER_ERRORS_2: u64 = u64::MAX;
    FILTER_FAMILY: u8 = 0;
    FILTER_STATES: u32 = u32::MAX;
    FILTER_PIDS: u8 = 0;
    FILTER_COMMS: u8 = 0;
    FILTER_PORTS: u8 = 0;
    FILTER_DPORTS: u8 = 0;
    FILTER_SRC: u8 = 0;
    FILTER_DST: u8 = 0;
    FILTER_NETNS: u8 = 0;
    FILTER_CGROUP: u64 = 0;
    FILTER_CGROUP_LEVEL: u32 = 0;
}
