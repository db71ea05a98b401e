//! The ladder: which hooks each event may use, best first, and what each can't do.
//!
//! Function names are those of the kernel; each was checked on 5.10, 6.1, 6.12, 6.18 and 7.2 by
//! `cargo xtask vm`, which also makes the table in docs/kernels.md.

use std::fmt;

use tracer_ebpf::globals::ALLOC_FD;

/// What is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hooked {
    /// TCP state changes.
    State,
    /// `connect()` that fails before the socket's state changes, and the errno of one that fails later.
    Connect,
    /// TIME-WAIT entries.
    TimeWait,
    /// `bind()` that fails.
    Bind,
    /// No free file descriptor.
    Descriptor,
    /// Who accepted a connection.
    Accept,
}

impl Hooked {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::State, Self::Connect, Self::TimeWait, Self::Bind, Self::Descriptor, Self::Accept];

    /// The name, as JSON has it: that of the event, where it is one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Connect => "connect_failed",
            Self::TimeWait => "timewait",
            Self::Bind => "bind_failed",
            Self::Descriptor => "fd_limit",
            Self::Accept => "accept_owner",
        }
    }

    /// What is not seen without it.
    #[must_use]
    pub fn unseen(self) -> &'static str {
        match self {
            Self::State => "TCP state changes",
            Self::Connect => {
                "connects that fail before the socket's state changes (no route, no source address)"
            }
            Self::TimeWait => "TIME-WAIT entries",
            Self::Bind => "bind() failures",
            Self::Descriptor => "calls that find no free file descriptor",
            Self::Accept => "owners of accepted sockets",
        }
    }

    /// Its rungs, best first.
    #[must_use]
    pub fn rungs(self) -> &'static [Rung] {
        match self {
            Self::State => STATE,
            Self::Connect => CONNECT,
            Self::TimeWait => TIMEWAIT,
            Self::Bind => BIND,
            Self::Descriptor => DESCRIPTOR,
            Self::Accept => ACCEPT,
        }
    }
}

/// Kinds of hooks, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// BTF-typed programs: `tp_btf`, fentry, fexit.
    Typed,
    /// kprobes and kretprobes.
    Kprobe,
    /// Plain tracepoints, those of system calls too.
    Tracepoint,
    /// No hook: concluded from another event.
    Inferred,
}

/// One way to hook an event.
#[derive(Debug)]
pub struct Rung {
    /// What kind it is of.
    pub level: Level,
    /// The hook's name, as `features` shows it.
    pub name: &'static str,
    /// What it costs.
    pub cost: &'static str,
    /// What it can't do.
    pub notes: &'static [&'static str],
    /// What is attached for it: all of these.
    pub attach: &'static [Attach],
}

/// One program and what it is attached to.
#[derive(Debug)]
pub enum Attach {
    /// A BTF-typed tracepoint.
    TpBtf(&'static str, &'static str),
    /// At a function's entry: the first of these functions that there is.
    FEntry(&'static str, &'static [&'static str]),
    /// At a function's return: of the first of these that there is.
    FExit(&'static str, &'static [&'static str]),
    /// A kprobe or kretprobe: at the first of these functions that there is.
    KProbe(&'static str, &'static [&'static str]),
    /// A tracepoint without types.
    RawTp(&'static str, &'static str),
    /// A plain tracepoint: category, name.
    Tracepoint(&'static str, &'static str, &'static str),
}

const FREE_OF_COST: &str = "low: runs on these calls only";
const PROBED: &str = "moderate: runs on these calls only, through a breakpoint or a jump";
const TAXED: &str =
    "high: every system call of the host pays some 15 to 50 ns while it is attached";
const NO_URING: &str = "calls that io_uring makes are not seen";

const STATE: &[Rung] = &[
    Rung {
        level: Level::Typed,
        name: "tp_btf/inet_sock_set_state",
        cost: "low: runs on TCP state changes only, typed reads",
        notes: &[],
        // The second takes what the kernel skips the first for.
        attach: &[
            Attach::TpBtf("state_tp_btf", "inet_sock_set_state"),
            Attach::TpBtf("state_tp_btf_2", "inet_sock_set_state"),
        ],
    },
    Rung {
        level: Level::Typed,
        name: "tp_btf/inet_sock_set_state (before Linux 5.12)",
        cost: "moderate: runs on TCP state changes only, typed reads, a hash map",
        notes: &["only sockets that somebody asked for their cookie have one"],
        attach: &[Attach::TpBtf("state_tp_btf_old", "inet_sock_set_state")],
    },
    Rung {
        level: Level::Tracepoint,
        name: "raw_tracepoint/inet_sock_set_state",
        cost: "moderate: runs on TCP state changes only, copied reads, a hash map",
        notes: &["only sockets that somebody asked for their cookie have one"],
        attach: &[
            Attach::RawTp("state_raw_tp", "inet_sock_set_state"),
            Attach::RawTp("state_raw_tp_2", "inet_sock_set_state"),
        ],
    },
    Rung {
        level: Level::Tracepoint,
        name: "tracepoint/sock/inet_sock_set_state",
        cost: "moderate: runs on TCP state changes only, copied reads, a hash map",
        notes: &["only sockets that somebody asked for their cookie have one"],
        attach: &[Attach::Tracepoint("state_tracepoint", "sock", "inet_sock_set_state")],
    },
];

const CONNECT: &[Rung] = &[
    Rung {
        level: Level::Typed,
        name: "fexit/tcp_v4_connect, tcp_v6_connect",
        cost: FREE_OF_COST,
        notes: &[],
        attach: &[
            Attach::FExit("connect_fexit_v4", &["tcp_v4_connect"]),
            Attach::FExit("connect_fexit_v6", &["tcp_v6_connect"]),
        ],
    },
    Rung {
        level: Level::Kprobe,
        name: "kretprobe/tcp_v4_connect, tcp_v6_connect",
        cost: PROBED,
        notes: &[],
        attach: &[
            Attach::KProbe("connect_kretprobe", &["tcp_v4_connect"]),
            Attach::KProbe("connect_kretprobe", &["tcp_v6_connect"]),
            Attach::KProbe("connect_kprobe", &["tcp_v4_connect"]),
            Attach::KProbe("connect_kprobe", &["tcp_v6_connect"]),
        ],
    },
    Rung {
        level: Level::Tracepoint,
        name: "tracepoint/syscalls/sys_exit_connect",
        cost: TAXED,
        notes: &[NO_URING],
        attach: &[
            Attach::Tracepoint("connect_sys_exit", "syscalls", "sys_exit_connect"),
            Attach::Tracepoint("connect_sys_enter", "syscalls", "sys_enter_connect"),
        ],
    },
];

/// `inet_twsk_hashdance` got its second name with Linux 6.11.
const HASHDANCE: &[&str] = &["inet_twsk_hashdance_schedule", "inet_twsk_hashdance"];

const TIMEWAIT: &[Rung] = &[
    Rung {
        level: Level::Typed,
        name: "fentry/inet_twsk_hashdance",
        cost: FREE_OF_COST,
        notes: &[],
        attach: &[Attach::FEntry("timewait_fentry", HASHDANCE)],
    },
    Rung {
        level: Level::Kprobe,
        name: "kprobe/inet_twsk_hashdance",
        cost: PROBED,
        notes: &[],
        attach: &[Attach::KProbe("timewait_kprobe", HASHDANCE)],
    },
    Rung {
        level: Level::Inferred,
        name: "inferred from state changes",
        cost: "none",
        notes: &[
            "each event is marked as inferred: wrong where the table of TIME-WAIT entries is full, and for \
             a socket in FIN-WAIT-2 that is given up without an error",
            "whether the peer's FIN is still to come is not known",
        ],
        attach: &[],
    },
];

const BIND: &[Rung] = &[
    Rung {
        level: Level::Typed,
        name: "fexit/inet_bind, inet6_bind",
        cost: FREE_OF_COST,
        notes: &[],
        attach: &[
            Attach::FExit("bind_fexit_v4", &["inet_bind"]),
            Attach::FExit("bind_fexit_v6", &["inet6_bind"]),
        ],
    },
    Rung {
        level: Level::Kprobe,
        name: "kretprobe/inet_bind, inet6_bind",
        cost: PROBED,
        notes: &[],
        attach: &[
            Attach::KProbe("bind_kretprobe", &["inet_bind"]),
            Attach::KProbe("bind_kretprobe", &["inet6_bind"]),
            Attach::KProbe("bind_kprobe", &["inet_bind"]),
            Attach::KProbe("bind_kprobe", &["inet6_bind"]),
        ],
    },
    Rung {
        level: Level::Tracepoint,
        name: "tracepoint/syscalls/sys_exit_bind",
        cost: TAXED,
        notes: &[NO_URING],
        attach: &[
            Attach::Tracepoint("bind_sys_exit", "syscalls", "sys_exit_bind"),
            Attach::Tracepoint("bind_sys_enter", "syscalls", "sys_enter_bind"),
        ],
    },
];

const DESCRIPTOR: &[Rung] = &[
    Rung {
        level: Level::Typed,
        name: "fexit/get_unused_fd_flags, alloc_empty_file",
        cost: "low: runs on calls that make a file descriptor",
        notes: &[],
        attach: &[
            Attach::FExit("fd_fexit_descriptor", ALLOC_FD),
            Attach::FExit("fd_fexit_file", &["alloc_empty_file"]),
        ],
    },
    Rung {
        level: Level::Kprobe,
        name: "kretprobe/get_unused_fd_flags, alloc_empty_file",
        cost: "moderate: runs on calls that make a file descriptor, through a breakpoint or a jump",
        notes: &[],
        attach: &[
            Attach::KProbe("fd_kretprobe_descriptor", ALLOC_FD),
            Attach::KProbe("fd_kretprobe_file", &["alloc_empty_file"]),
        ],
    },
    Rung {
        level: Level::Tracepoint,
        name: "tracepoint/syscalls/sys_exit_socket, accept, accept4",
        cost: TAXED,
        notes: &[NO_URING, "only socket() and accept() are seen, not open() and others"],
        attach: &[
            Attach::Tracepoint("fd_sys_exit", "syscalls", "sys_exit_socket"),
            Attach::Tracepoint("fd_sys_exit", "syscalls", "sys_exit_accept"),
            Attach::Tracepoint("fd_sys_exit", "syscalls", "sys_exit_accept4"),
        ],
    },
];

const ACCEPT: &[Rung] = &[
    Rung {
        level: Level::Typed,
        name: "fexit/inet_csk_accept",
        cost: FREE_OF_COST,
        notes: &[],
        attach: &[Attach::FExit("accept_fexit", &["inet_csk_accept"])],
    },
    Rung {
        level: Level::Kprobe,
        name: "kretprobe/inet_csk_accept",
        cost: PROBED,
        notes: &["while many threads sleep in accept() at once, some owners stay unknown"],
        attach: &[Attach::KProbe("accept_kretprobe", &["inet_csk_accept"])],
    },
    Rung {
        level: Level::Tracepoint,
        name: "tracepoint/syscalls/sys_exit_accept, accept4",
        cost: TAXED,
        notes: &[NO_URING],
        attach: &[
            Attach::Tracepoint("accept_sys_exit", "syscalls", "sys_exit_accept"),
            Attach::Tracepoint("accept_sys_exit", "syscalls", "sys_exit_accept4"),
        ],
    },
];

impl Rung {
    /// Whether it is a plain tracepoint: its record's fields are told by tracefs, and it is skipped while
    /// another eBPF program runs on the same CPU.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.attach.first(), Some(Attach::Tracepoint(..)))
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

/// `--hooks`: which rungs may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Hooks {
    /// The best that loads.
    #[default]
    Auto,
    /// BTF-typed programs only: `tp_btf`, fentry, fexit.
    Fentry,
    /// kprobes where an event has one; state changes from the plain tracepoint.
    Kprobe,
    /// Plain tracepoints only, those of system calls too.
    Tracepoint,
}

impl Hooks {
    /// Whether a rung may be used for an event.
    #[must_use]
    pub fn allow(self, hooked: Hooked, level: Level) -> bool {
        if level == Level::Inferred {
            return true;
        }
        match self {
            Self::Auto => true,
            Self::Fentry => level == Level::Typed,
            // State changes have no kprobe: the tracepoint is the next.
            Self::Kprobe if hooked == Hooked::State => level == Level::Tracepoint,
            Self::Kprobe => level == Level::Kprobe,
            Self::Tracepoint => level == Level::Tracepoint,
        }
    }

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}
