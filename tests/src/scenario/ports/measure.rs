//! What `socklife check` states, and what the kernel then gives.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use serde_json::Value;
use socket2::Socket;
use socklife_tests::socklife::{last_line, socklife};

use super::{
    sockets::{Options, Range, is},
    world::{Group, World},
};
use crate::machine;

/// A reuse delay of a second, which before Linux 6.14 ends with a second of the clock, and some more.
const OLD_ENOUGH: Duration = Duration::from_millis(2_050);
/// Entries in TIME-WAIT end after 60 s, and the longest reuse delay that is drawn after 50 s.
const TOO_OLD: Duration = Duration::from_secs(45);
/// More of them than any range has ports.
const ENDLESS: u64 = 1_000;

/// One figure of `check`, held against the kernel.
pub(crate) struct Measured {
    /// What it is about.
    pub(crate) subject: String,
    /// The `headroom` that was stated.
    pub(crate) stated: u64,
    /// How many there were.
    pub(crate) reached: u64,
    /// The search leaves one port of an odd number of ports out.
    pub(crate) odd: bool,
    /// `check` has no finding for it: nothing is in use.
    pub(crate) unused: bool,
    /// The finding.
    pub(crate) finding: Value,
}

impl Measured {
    /// Whether it was stated right.
    pub(crate) fn is_right(&self) -> bool {
        let (more, less) = self.doubts();
        let less = less + u64::from(self.odd);
        (self.stated.saturating_sub(less)..=self.stated + more).contains(&self.reached)
    }

    /// `check` says that it can't know all.
    pub(crate) fn is_inferred(&self) -> bool {
        self.doubts() != (0, 0)
    }

    /// By its notes: ports that it counts as used and may be free, and the other way round.
    fn doubts(&self) -> (u64, u64) {
        let notes = self.finding["notes"].as_array().map_or(&[][..], Vec::as_slice);
        let number = |prefix: &str| {
            let rest = notes.iter().find_map(|note| note.as_str()?.strip_prefix(prefix));
            rest.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0)
        };
        (number("used inferred: of "), number("used inferred: "))
    }

    /// It is about a range of single sockets.
    pub(crate) fn is_own_range(&self) -> bool {
        self.finding["range"].is_array()
    }

    /// Entries in TIME-WAIT may be taken over.
    pub(crate) fn has_reusable(&self) -> bool {
        !self.unused && self.finding["reusable"].as_u64() > Some(0)
    }

    /// Whether one port was not reached.
    pub(crate) fn is_one_less(&self) -> bool {
        self.reached + 1 == self.stated
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: headroom {}, reached {}", self.subject, self.stated, self.reached)
    }
}

/// All ephemeral-port findings about this namespace.
struct Findings(Vec<Value>);

impl Findings {
    fn ask() -> Result<Self> {
        let netns = machine::netns()?;
        let end = socklife(&["check", "--format=json", &format!("--netns={netns}")])?;
        let answer = last_line(&end.stdout)
            .with_context(|| format!("check ended with {:?}: {}", end.code, end.stderr))?;
        let all =
            answer["ceilings"].as_array().with_context(|| format!("no ceilings: {answer}"))?;
        let ours =
            |finding: &&Value| finding["ceiling"] == "ephemeral-ports" && finding["netns"] == netns;
        Ok(Self(all.iter().filter(ours).cloned().collect()))
    }

    fn of(&self, scope: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |finding| finding["scope"] == scope)
    }

    fn upstream(&self, group: &Group) -> Result<Option<&Value>> {
        let range = group.range.map_or(Value::Null, |(low, high)| vec![low, high].into());
        let found: Vec<_> = self
            .of("upstream")
            .filter(|finding| {
                is_address(&finding["src"], group.source)
                    && is_address(&finding["dst"], group.to.ip())
                    && finding["dport"] == group.to.port()
                    && finding["range"] == range
                    && finding["interface"].is_u64() == group.lo
            })
            .collect();
        ensure!(found.len() < 2, "two findings for {group:?}: {found:?}");
        Ok(found.first().copied())
    }

    /// Where nothing is in use, all that is usable is free.
    fn limit(&self) -> Option<&Value> {
        let plain = |finding: &&Value| finding["range"].is_null() && finding["interface"].is_null();
        self.of("upstream").find(plain)
    }
}

fn is_address(value: &Value, address: IpAddr) -> bool {
    value.as_str().and_then(|text| text.parse::<IpAddr>().ok()) == Some(address)
}

fn number(finding: &Value, key: &str) -> Result<u64> {
    finding[key].as_u64().with_context(|| format!("no {key} in {finding}"))
}

impl World {
    /// Upstream findings: several groups, one after the other. Ports that `connect()` chose for one
    /// group are as free as before for all others.
    pub(crate) fn measure_connects(&mut self) -> Result<Vec<Measured>> {
        let _elsewhere = self.enter()?;
        if self.settings.tw_reuse > 0
            && let Some((_, last)) = self.waiting
        {
            std::thread::sleep(OLD_ENOUGH.saturating_sub(last.elapsed()));
        }
        let findings = Findings::ask()?;
        let groups = self.groups_to_measure();
        let mut all = Vec::new();
        for group in &groups {
            let found = findings.upstream(group)?;
            if found.is_none() && (group.range.is_some() || group.lo) {
                continue;
            }
            let Some(finding) = found.or_else(|| findings.limit()) else { continue };
            let stated = number(finding, if found.is_some() { "headroom" } else { "limit" })?;
            let (reached, sockets) = connects(group).with_context(|| format!("{group:?}"))?;
            self.sockets.extend(sockets);
            all.push(Measured {
                subject: format!(
                    "connects from {} to {}, {}",
                    group.source,
                    group.to,
                    group.options()
                ),
                stated,
                reached,
                odd: group.range.map_or(is_odd(self.settings.range), is_odd_own),
                unused: found.is_none(),
                finding: finding.clone(),
            });
        }
        self.check_age()?;
        Ok(all)
    }

    /// Bind findings: each address is a pool of its own, but the wildcards draw on all.
    pub(crate) fn measure_binds(&mut self) -> Result<Vec<Measured>> {
        let _elsewhere = self.enter()?;
        let findings = Findings::ask()?;
        let mut pools = Vec::new();
        for finding in findings.of("bind") {
            let source = finding["src"].as_str().and_then(|text| text.parse::<IpAddr>().ok());
            pools.push((source.with_context(|| format!("no src in {finding}"))?, finding));
        }
        let (wild, single): (Vec<_>, Vec<_>) =
            pools.into_iter().partition(|(source, _)| source.is_unspecified());
        let wildcard = !wild.is_empty() && (single.is_empty() || self.rng.one_in(2));
        let pools = if wildcard { vec![wild[self.rng.index(wild.len())]] } else { single };
        let mut all = Vec::new();
        for (source, finding) in pools {
            let (reached, sockets) = binds(source)?;
            self.sockets.extend(sockets);
            all.push(Measured {
                subject: format!("bind({source}, 0)"),
                stated: number(finding, "headroom")?,
                reached,
                odd: is_odd(self.settings.range),
                unused: false,
                finding: finding.clone(),
            });
        }
        self.check_age()?;
        Ok(all)
    }

    /// A few of those that were connected, and one that nobody has used.
    fn groups_to_measure(&mut self) -> Vec<Group> {
        let mut left: Vec<_> = self.groups.iter().copied().collect();
        let mut chosen: Vec<Group> = Vec::new();
        while !left.is_empty() && chosen.len() < 4 {
            let group = left.swap_remove(self.rng.index(left.len()));
            // Sockets with a range of their own and those without compete for the same ports.
            left.retain(|other| (other.source, other.to) != (group.source, group.to));
            chosen.push(group);
        }
        let (source, to) = (IpAddr::from([127, 0, 0, 66]), self.upstreams[0].at);
        let unused = Group { source, to, range: None, lo: false };
        if !self.groups.contains(&unused) {
            chosen.push(unused);
        }
        chosen
    }

    fn check_age(&self) -> Result<()> {
        let age = self.waiting.map_or(Duration::ZERO, |(first, _)| first.elapsed());
        ensure!(
            age < TOO_OLD,
            "it took {} s, so entries of TIME-WAIT may have ended",
            age.as_secs()
        );
        Ok(())
    }
}

fn is_odd((low, high): Range) -> bool {
    (high - low) % 2 == 0
}

/// Since Linux 6.8 the search leaves no port out of a socket's own range.
fn is_odd_own(range: Range) -> bool {
    is_odd(range) && machine::kernel().is_ok_and(|kernel| machine::version(&kernel) < (6, 8))
}

/// Connects until no port is free, and holds what it gets.
fn connects(group: &Group) -> Result<(u64, Vec<Socket>)> {
    let with = group.options();
    until(Errno::EADDRNOTAVAIL, || {
        let socket = with.socket_from(Some(group.source), group.to.ip())?;
        // Under way is enough: it has its port.
        socket.set_nonblocking(true)?;
        match socket.connect(&group.to.into()) {
            Err(error) if !is(&error, Errno::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    })
}

/// Binds to port 0 until no port is free, and holds what it gets.
fn binds(source: IpAddr) -> Result<(u64, Vec<Socket>)> {
    until(Errno::EADDRINUSE, || {
        let socket = Options::default().socket(source)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        Ok(socket)
    })
}

fn until(end: Errno, mut get: impl FnMut() -> io::Result<Socket>) -> Result<(u64, Vec<Socket>)> {
    let mut held = Vec::new();
    for count in 0..ENDLESS {
        match get() {
            Ok(socket) => held.push(socket),
            Err(error) if is(&error, end) => return Ok((count, held)),
            Err(error) => return Err(error.into()),
        }
    }
    bail!("{ENDLESS} calls succeeded")
}
