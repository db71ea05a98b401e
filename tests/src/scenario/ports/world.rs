//! A network namespace in a random state: settings, and sockets in all states, made by random steps.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result};
use nix::errno::Errno;
use socket2::Socket;

use super::{
    rng::Rng,
    sockets::{Options, Pair, Range, Upstream, is},
};
use crate::machine::{self, Elsewhere};

/// On the same interface, but `tcp_tw_reuse` = 2 is not for it.
const NOT_LOOPBACK: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Sources of sockets that are bound to a device.
const BY_DEVICE: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 4), Ipv4Addr::new(10, 0, 0, 4)];

/// The sysctls that decide which ports are usable.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) range: Range,
    pub(crate) reserved: Vec<u16>,
    pub(crate) tw_reuse: u16,
    pub(crate) timestamps: u16,
    /// A closed one that waits for its peer keeps its full socket above 60 s.
    pub(crate) fin_timeout: u16,
    /// Milliseconds; since Linux 6.14.
    pub(crate) reuse_delay: Option<u16>,
    /// Since Linux 7.0.
    pub(crate) step_width: Option<u16>,
}

impl Settings {
    fn draw(rng: &mut Rng) -> Self {
        let exists = |name: &str| Path::new("/proc/sys/net/ipv4").join(name).exists();
        let mut settings = Self {
            range: draw_range(rng),
            reserved: Vec::new(),
            tw_reuse: rng.pick(&[0, 1, 1, 2, 2]),
            timestamps: rng.pick(&[0, 1, 1, 1, 2]),
            fin_timeout: rng.pick(&[60, 60, 120]),
            reuse_delay: None,
            step_width: None,
        };
        if exists("tcp_tw_reuse_delay") {
            settings.reuse_delay = Some(rng.pick(&[1000, 1000, 1000, 1, 50_000]));
        }
        if exists("ip_local_port_step_width") {
            settings.step_width = Some(rng.pick(&[0, 0, 1, 2, 3, 7, 100]));
        }
        settings.reserve(rng);
        settings
    }

    /// Reserved ports, in the range and beside it.
    fn reserve(&mut self, rng: &mut Rng) {
        let (low, high) = self.range;
        let most = if rng.one_in(3) { 0 } else { (high - low) / 4 + 1 };
        let count = rng.between(0, most);
        self.reserved = (0..count).map(|_| rng.between(low - 2, high + 2)).collect();
    }

    fn apply(&self) -> Result<()> {
        let (low, high) = self.range;
        machine::sysctl("ip_local_port_range", &format!("{low} {high}"))?;
        let reserved: Vec<_> = self.reserved.iter().map(u16::to_string).collect();
        machine::sysctl("ip_local_reserved_ports", &format!("{}\n", reserved.join(",")))?;
        machine::sysctl("tcp_tw_reuse", &self.tw_reuse.to_string())?;
        machine::sysctl("tcp_timestamps", &self.timestamps.to_string())?;
        machine::sysctl("tcp_fin_timeout", &self.fin_timeout.to_string())?;
        if let Some(delay) = self.reuse_delay {
            machine::sysctl("tcp_tw_reuse_delay", &delay.to_string())?;
        }
        if let Some(width) = self.step_width {
            machine::sysctl("ip_local_port_step_width", &width.to_string())?;
        }
        Ok(())
    }
}

/// Small ones show more; four of five have an even number of ports.
fn draw_range(rng: &mut Rng) -> Range {
    let most = rng.pick(&[8, 40, 40, 120]);
    let mut size = rng.between(1, most);
    if !rng.one_in(5) {
        size = size.next_multiple_of(2);
    }
    let low = rng.between(40_000, 40_030);
    (low, low + size - 1)
}

/// Connections that compete for the same ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) source: IpAddr,
    pub(crate) to: SocketAddr,
    /// `IP_LOCAL_PORT_RANGE`
    pub(crate) range: Option<Range>,
    /// `SO_BINDTODEVICE` lo
    pub(crate) lo: bool,
}

impl Group {
    /// What its sockets have set.
    pub(crate) fn options(&self) -> Options {
        Options { range: self.range, lo: self.lo, ..Options::default() }
    }
}

/// The namespace and all that lives in it.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) settings: Settings,
    pub(crate) upstreams: Vec<Upstream>,
    /// Those that were connected.
    pub(crate) groups: BTreeSet<Group>,
    story: Vec<String>,
    /// When the first and the last entry of TIME-WAIT or FIN-WAIT-2 were made.
    pub(crate) waiting: Option<(Instant, Instant)>,
    /// There are connections of sockets that are bound to a device.
    by_device: bool,
    pub(super) pairs: Vec<Pair>,
    pub(super) sockets: Vec<Socket>,
    netns: File,
}

impl World {
    /// Settings, upstreams and random steps.
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let elsewhere = Elsewhere::new()?;
        let mut rng = Rng::new(seed);
        let settings = Settings::draw(&mut rng);
        settings.apply()?;
        machine::add_to_loopback(NOT_LOOPBACK)?;
        let mut world = Self {
            story: vec![format!("{settings:?}")],
            rng,
            settings,
            upstreams: Vec::new(),
            groups: BTreeSet::new(),
            waiting: None,
            by_device: false,
            pairs: Vec::new(),
            sockets: Vec::new(),
            netns: Elsewhere::here()?,
        };
        world.listen(SocketAddr::new(Ipv4Addr::new(127, 0, 0, 9).into(), 20_001))?;
        for _ in 0..world.rng.between(1, 3) {
            let address = match world.rng.between(0, 5) {
                0 => Ipv6Addr::LOCALHOST.into(),
                1 => Ipv4Addr::LOCALHOST.into(),
                4 | 5 => NOT_LOOPBACK.into(),
                last => Ipv4Addr::new(127, 0, 0, u8::try_from(last + 7)?).into(),
            };
            let port = world.rng.between(20_002, 20_099);
            world.listen(SocketAddr::new(address, port))?;
        }
        let evolved = world.evolve();
        drop(elsewhere);
        evolved.with_context(|| world.told())?;
        Ok(world)
    }

    /// Goes back into it, until what this gives is dropped.
    pub(crate) fn enter(&self) -> Result<Elsewhere> {
        Elsewhere::again(&self.netns)
    }

    /// What was done, a line each.
    pub(crate) fn told(&self) -> String {
        self.story.iter().fold(String::new(), |text, line| text + "\n        " + line)
    }

    /// Whether somebody listens there now.
    pub(super) fn listen(&mut self, at: SocketAddr) -> Result<bool> {
        match Upstream::listen(at) {
            Ok(upstream) => {
                self.tell(format!("listen at {at}"));
                self.upstreams.push(upstream);
                Ok(true)
            }
            Err(error) if is(&error, Errno::EADDRINUSE) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("listen at {at}")),
        }
    }

    pub(super) fn tell(&mut self, what: String) {
        self.story.push(what);
    }

    /// A port in the range, or seldom beside it.
    pub(super) fn port(&mut self) -> u16 {
        let (low, high) = self.settings.range;
        if self.rng.one_in(8) {
            return self.rng.between(low - 5, high + 5);
        }
        self.rng.between(low, high)
    }

    /// A source address for this destination; `None`: the kernel's choice.
    pub(super) fn source(&mut self, to: IpAddr) -> Option<IpAddr> {
        if self.rng.one_in(3) {
            return None;
        }
        Some(match to {
            IpAddr::V4(_) if !self.by_device && self.rng.one_in(4) => {
                self.rng.pick(&BY_DEVICE).into()
            }
            IpAddr::V4(_) => self.address_v4(),
            IpAddr::V6(_) => to,
        })
    }

    /// A source address for sockets that are bound to a device. Others don't use it from then on: the
    /// kernel would give them the same 4-tuples, and no server can tell the two apart.
    pub(super) fn source_by_device(&mut self) -> IpAddr {
        self.by_device = true;
        self.rng.pick(&BY_DEVICE).into()
    }

    pub(super) fn address_v4(&mut self) -> IpAddr {
        if self.rng.one_in(5) {
            return NOT_LOOPBACK.into();
        }
        Ipv4Addr::new(127, 0, 0, self.rng.pick(&[1, 1, 2, 3])).into()
    }

    /// Connects, and notes the group; `None`: no port was free, or this 4-tuple is taken.
    pub(super) fn connect(
        &mut self,
        upstream: usize,
        source: Option<IpAddr>,
        with: &Options,
    ) -> Result<Option<Pair>> {
        let client = with.socket_from(source, self.upstreams[upstream].at.ip())?;
        self.join(upstream, client, with)
    }

    /// The same for a socket that is there already.
    pub(super) fn join(
        &mut self,
        upstream: usize,
        client: Socket,
        with: &Options,
    ) -> Result<Option<Pair>> {
        let upstream = &self.upstreams[upstream];
        match upstream.join(client, with) {
            Ok(pair) => {
                let (source, to) = (pair.from()?.ip(), upstream.at);
                self.groups.insert(Group { source, to, range: with.range, lo: with.lo });
                if with.lo {
                    self.groups.insert(Group { source, to, range: None, lo: false });
                }
                Ok(Some(pair))
            }
            Err(error) if is(&error, Errno::EADDRNOTAVAIL) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("connect to {}", upstream.at)),
        }
    }

    /// An entry in TIME-WAIT or FIN-WAIT-2 is about to be made.
    pub(super) fn waits(&mut self) {
        let now = Instant::now();
        self.waiting = Some((self.waiting.map_or(now, |(first, _)| first), now));
    }

    /// Draws some settings anew, as an administrator would, with connections there.
    pub(super) fn change_settings(&mut self) -> Result<()> {
        let settings = &mut self.settings;
        match self.rng.between(0, 5) {
            0..=2 => settings.timestamps = self.rng.pick(&[0, 1]),
            3 => settings.tw_reuse = self.rng.pick(&[0, 1, 2]),
            4 => settings.reserve(&mut self.rng),
            _ => settings.range = draw_range(&mut self.rng),
        }
        self.settings.apply()?;
        self.tell(format!("now {:?}", self.settings));
        Ok(())
    }
}

/// Whether a call failed because others have what it asked for.
pub(super) fn is_taken(error: &io::Error) -> bool {
    is(error, Errno::EADDRINUSE) || is(error, Errno::EADDRNOTAVAIL)
}
