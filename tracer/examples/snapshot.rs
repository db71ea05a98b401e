//! What a snapshot costs: 60,000 sockets in TIME_WAIT, then 20,000 open sockets.
//!
//! ```sh
//! cargo build --release --example snapshot
//! sudo unshare --net sh -c 'ip link set lo up; cd /proc/sys/net/ipv4
//!   echo 100000 >tcp_max_tw_buckets; echo 0 >tcp_tw_reuse
//!   ulimit -n 10000; exec "$OLDPWD"/target/release/examples/snapshot'
//! ```

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use socklife::kernel::{
    netns,
    owners::{Look, Owners},
    proc_net,
    snapshot::{self, Snapshot, Which},
};

const TIME_WAIT: usize = 60_000;
const HOLDERS: usize = 4;
const OPEN_EACH: usize = 5_000;
/// The kernel looks longer for a port the more of them are taken.
const PER_ADDRESS: usize = 2_000;
const RUNS: usize = 11;

fn main() -> Result<()> {
    if std::env::args().nth(1).is_some() {
        return hold();
    }
    let own = netns::resolve("/proc/self/ns/net")?;
    let here = || Which::Only(vec![own]);
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    for index in 0..TIME_WAIT {
        let last = u8::try_from(1 + index / PER_ADDRESS)?;
        let client = TcpStream::connect((Ipv4Addr::new(127, 0, 0, last), port))?;
        let server = listener.accept()?;
        drop(client);
        drop(server);
    }
    let show = |what: &str, snapshot: &Snapshot| {
        println!("{what}: {} sockets {:?}", snapshot.sockets.len(), snapshot.incomplete);
    };
    show("this namespace", &snapshot::list(here()));
    measure("  list", || drop(snapshot::list(here())));
    measure("  /proc/net/tcp", || drop(proc_net::list(|_| ())));
    show("all namespaces", &snapshot::list(Which::All));
    measure("  list", || drop(snapshot::list(Which::All)));
    measure("  find the namespaces", || drop(netns::all()));

    let mut holders = Vec::new();
    for _ in 0..HOLDERS {
        let mut command = Command::new(std::env::current_exe()?);
        let command = command.arg("hold").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn()?;
        holder.stdout.as_mut().context("no pipe")?.read_exact(&mut [0])?;
        holders.push(holder);
    }
    let full = snapshot::take(here());
    let owned = full.sockets.iter().filter(|listed| listed.owner.is_some()).count();
    println!("{} open: {owned} of {} have an owner", HOLDERS * OPEN_EACH, full.sockets.len());
    measure("  take", || drop(snapshot::take(here())));
    measure("  owners, all", || drop(Owners::find(Look::All)));
    let inodes: HashSet<u32> = full.sockets.iter().map(|listed| listed.socket.inode).collect();
    measure("  owners, these", || drop(Owners::find(Look::Inodes(&inodes))));
    let none = HashSet::from([0]);
    measure("  owners, none of them", || drop(Owners::find(Look::Inodes(&none))));
    for mut holder in holders {
        drop(holder.stdin.take());
        holder.wait()?;
    }
    Ok(())
}

/// Has sockets open until its standard input ends.
fn hold() -> Result<()> {
    // Connections hold ports of the other addresses.
    let open = (0..OPEN_EACH).map(|_| TcpListener::bind("127.1.0.1:0"));
    let _open = open.collect::<std::io::Result<Vec<_>>>()?;
    std::io::stdout().write_all(b".")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_exact(&mut [0]).or(Ok(()))
}

/// The median of some runs, and the time on a CPU of all of them.
fn measure(what: &str, work: impl Fn()) {
    let on_cpu = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let before = on_cpu();
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    let cpu = on_cpu().saturating_sub(before) / u32::try_from(RUNS).unwrap_or(1);
    times.sort();
    let (least, median, most) = (times[0], times[RUNS / 2], times[RUNS - 1]);
    println!("{what}: median {median:.1?} ({least:.1?} to {most:.1?}), {cpu:.1?} of CPU");
}
