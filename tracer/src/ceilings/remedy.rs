//! What to do about each ceiling: the exact setting, with a value that fits this host. Printed for a
//! person to apply; nothing here changes anything.

use super::proxy::advice::{Fitting, Use};
use crate::{
    event::State,
    human::thousands,
    kernel::{conntrack::Conntrack, owners::OpenFiles, survey::Namespace},
    ports::PortSet,
};

/// The first port that `connect()` may be given, unless the host protects more.
const FIRST: u16 = 1024;
/// Bytes that the kernel keeps for an entry in TIME-WAIT (slab `tw_sock_TCP`), about.
const TIME_WAIT_BYTES: u64 = 280;
/// Bytes that the kernel keeps for a tracked connection (slab `nf_conntrack`), about.
const CONNTRACK_BYTES: u64 = 320;
/// Characters of a list of ports that is still printed.
const LONGEST_LIST: usize = 400;
/// A backlog that is large enough for most.
const BACKLOG: u64 = 4096;

/// A sysctl of this namespace, as a command.
fn sysctl(namespace: &Namespace, name: &str, value: &str) -> String {
    let quoted = if value.contains(' ') { format!("\"{value}\"") } else { value.to_owned() };
    let inside = namespace.path.as_ref().map(|path| match path.to_str().filter(|p| is_plain(p)) {
        Some(path) => format!("nsenter --net={path} "),
        // Somebody may paste it into a shell.
        None => format!("inside network namespace {}: ", namespace.netns),
    });
    format!("{}sysctl -w {name}={quoted}", inside.unwrap_or_default())
}

/// Whether a path means nothing but itself to a shell.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
}

/// A port range as wide as a namespace allows.
pub(super) struct Wider {
    /// How to get it.
    commands: String,
    /// How many ports it has.
    usable: u64,
}

impl Wider {
    /// `None`: it is that wide.
    pub(super) fn of(namespace: &Namespace) -> Option<Self> {
        let settings = &namespace.settings;
        let first = FIRST.max(settings.unprivileged_start);
        let range = first..=u16::MAX;
        if settings.port_range.len() >= range.len() {
            return None;
        }
        // What listens there must find its port free when it is started anew.
        let mut reserved = settings.reserved.clone();
        let listeners = namespace.sockets.iter().filter(|socket| socket.state == State::LISTEN);
        let listeners: PortSet =
            listeners.map(|socket| socket.sport).filter(|p| range.contains(p)).collect();
        let more = listeners.iter().any(|port| !reserved.contains(port));
        let count = listeners.len();
        reserved.add(&listeners);
        let mut usable = PortSet::from(range);
        usable.subtract(&reserved);
        usable.subtract(&namespace.ports.bound);
        let range = sysctl(namespace, "net.ipv4.ip_local_port_range", &format!("{first} 65535"));
        let list = reserved.to_string();
        let reserve = more.then(|| {
            if list.len() > LONGEST_LIST {
                // Every finding has it.
                return format!(
                    "with {count} ports of listeners in net.ipv4.ip_local_reserved_ports: "
                );
            }
            format!("{} && ", sysctl(namespace, "net.ipv4.ip_local_reserved_ports", &list))
        });
        let commands = format!("{}{range}", reserve.unwrap_or_default());
        Some(Self { commands, usable: usable.len().into() })
    }
}

/// Ports toward an upstream. `fitting`: what the configuration of a proxy wants; `reused`: `connect()` takes over
/// entries in TIME-WAIT already.
pub(super) fn ports(
    namespace: &Namespace,
    wider: Option<&Wider>,
    what: Use<'_>,
    fitting: Option<Fitting>,
    reused: bool,
) -> Vec<String> {
    let limit = thousands(what.ports);
    let fitting = fitting.unwrap_or_else(|| {
        let (src, dst) = (what.src, what.to.ip());
        let family = if src.is_ipv4() { "IPv4" } else { "IPv6" };
        Fitting {
            keep: Some("keep connections to the upstream open (keepalive)".to_owned()),
            sources: format!(
                "a second source {family} address beside {src} (proxy_bind), or another address or port of the \
                 upstream beside {dst}: each has {limit} ports of its own"
            ),
        }
    });
    let mut ways: Vec<_> = fitting.keep.into_iter().collect();
    if let Some(Wider { commands, usable }) = wider {
        ways.push(format!(
            "{commands} ({} usable ports instead of {limit}; look for UDP services, NodePorts and stopped services in \
             there first)",
            thousands(*usable),
        ));
    }
    if !reused && namespace.settings.timestamps {
        ways.push(format!(
            "{} (connect() takes over entries that are older than a second)",
            sysctl(namespace, "net.ipv4.tcp_tw_reuse", "1")
        ));
    }
    ways.push(fitting.sources);
    ways
}

/// The pool of `bind()` to port 0.
pub(super) fn bind_pool(wider: Option<&Wider>) -> Vec<String> {
    let mut ways = vec![
        "set IP_BIND_ADDRESS_NO_PORT on sockets that bind before they connect (Nginx does for proxy_bind; \
         HAProxy for source)"
            .to_owned(),
    ];
    if let Some(Wider { commands, usable }) = wider {
        ways.push(format!("{commands} ({} ports)", thousands(*usable)));
    }
    ways
}

/// Entries in TIME-WAIT.
pub(super) fn time_wait(namespace: &Namespace) -> Vec<String> {
    let most = namespace.settings.max_tw_buckets.max(namespace.counters.time_wait);
    let value = most.saturating_mul(2).max(1024);
    vec![
        "keep connections open (keepalive), or let the other side close first".to_owned(),
        format!(
            "{} (about {} when full)",
            sysctl(namespace, "net.ipv4.tcp_max_tw_buckets", &value.to_string()),
            size(value.saturating_mul(TIME_WAIT_BYTES))
        ),
    ]
}

/// The conntrack table.
pub(super) fn conntrack(namespace: &Namespace, table: &Conntrack) -> Vec<String> {
    let value = table.max.max(table.count).saturating_mul(2);
    let shorter = sysctl(namespace, "net.netfilter.nf_conntrack_tcp_timeout_time_wait", "30");
    // Chains of four are short enough.
    let buckets = value.div_ceil(4);
    let more = if table.buckets > 0 && table.buckets < buckets {
        format!("sysctl -w net.netfilter.nf_conntrack_buckets={buckets} && ")
    } else {
        String::new()
    };
    vec![
        format!(
            "on the host, not in a container: {more}sysctl -w net.netfilter.nf_conntrack_max={value} (about {} \
             when full)",
            size(value.saturating_mul(CONNTRACK_BYTES)),
        ),
        format!("forget closed connections sooner: {shorter}"),
        "don't track the proxy's own connections (nft: notrack)".to_owned(),
    ]
}

/// The queue of a listener.
pub(super) fn accept_queue(namespace: &Namespace, backlog: u64) -> Vec<String> {
    let value = backlog.saturating_mul(2).max(BACKLOG);
    let sysctl = (namespace.settings.somaxconn < value)
        .then(|| format!("{}, ", sysctl(namespace, "net.core.somaxconn", &value.to_string())));
    vec![
        "see why the process accepts so slowly: stopped, or its CPU is busy".to_owned(),
        format!(
            "for bursts: {}a backlog of {value} in its listen() (Nginx: listen ... backlog={value}; HAProxy: backlog \
             {value}), and start it anew",
            sysctl.unwrap_or_default()
        ),
    ]
}

/// A limit of open files that is worth setting: twice a small one is reached as soon.
const ENOUGH_FILES: u64 = 65_536;

/// Open files of a process.
pub(super) fn open_files(files: &OpenFiles, nr_open: Option<u64>) -> Vec<String> {
    let nr_open = nr_open.unwrap_or(1 << 20);
    let first = files.soft >= nr_open;
    let most = if first { nr_open.saturating_mul(2) } else { nr_open };
    let (value, hard) = if files.hard > files.soft {
        (files.hard.min(most), files.hard.min(most))
    } else {
        let value = files.soft.saturating_mul(2).max(ENOUGH_FILES).min(most);
        (value, value)
    };
    let mut ways = vec![
        format!("now: prlimit --pid {} --nofile={value}:{hard}", files.process.pid),
        format!(
            "for good: LimitNOFILE={value} in its unit, worker_rlimit_nofile {value} for Nginx; the proxy in front \
             needs as many"
        ),
    ];
    if first {
        ways[0] = format!("now: sysctl -w fs.nr_open={most} && {}", &ways[0]["now: ".len()..]);
    }
    ways
}

/// Open files of the host.
pub(super) fn host_files(most: u64) -> Vec<String> {
    vec![format!("sysctl -w fs.file-max={}", most.saturating_mul(2))]
}

/// `512 KiB`, `12 MiB`
fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{} MiB", bytes.div_ceil(1 << 20))
    }
}
