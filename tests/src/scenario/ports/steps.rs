//! The steps that bring a namespace into its state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};

use anyhow::{Context, Result};
use socket2::Socket;
use socklife_tests::wait_for;

use super::{
    sockets::{self, Options, Pair, Range, Reuse, Upstream},
    world::{Group, World, is_taken},
};
use crate::{case, machine::wait_for_softirqs};

/// How connections go on.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Both ends stay.
    Held,
    /// The client closes, then the peer: TIME-WAIT.
    Closed,
    /// The client closes, and the peer doesn't: FIN-WAIT-2, with no process that has it.
    HalfClosed,
    /// The client has sent its last, and keeps the socket: FIN-WAIT-2.
    Shut,
    /// Likewise, and the peer closes: TIME-WAIT beside a socket that is closed.
    ShutBoth,
    /// The peer closes first.
    ClosedLast,
    /// A reset.
    Reset,
}

const FATES: [Fate; 10] = [
    Fate::Held,
    Fate::Held,
    Fate::Closed,
    Fate::Closed,
    Fate::Closed,
    Fate::HalfClosed,
    Fate::Shut,
    Fate::ShutBoth,
    Fate::ClosedLast,
    Fate::Reset,
];

impl World {
    /// Some random steps, until nothing moves any more.
    pub(super) fn evolve(&mut self) -> Result<()> {
        for _ in 0..self.rng.between(3, 12) {
            match self.rng.between(0, 15) {
                0..=7 => self.connections()?,
                8..=10 => self.explicit_bind()?,
                11 => self.bound_beside()?,
                12 => self.listener_in_range()?,
                13 => self.deaf()?,
                _ => self.change_settings()?,
            }
        }
        settle()
    }

    fn options(&mut self, to: IpAddr) -> Options {
        let mut with = Options::default();
        match self.rng.between(0, 9) {
            0 => with.lo = to.is_ipv4(),
            1 | 2 if sockets::has_own_ranges() => with.range = Some(self.own_range()),
            3 | 4 => with.mapped = to.is_ipv4(),
            5 => with.reuse = self.reuse(),
            _ => {}
        }
        with
    }

    fn reuse(&mut self) -> Reuse {
        self.rng.pick(&[Reuse::Neither, Reuse::Neither, Reuse::Address, Reuse::Port, Reuse::Both])
    }

    /// Within the namespace's range, seldom beyond it.
    fn own_range(&mut self) -> Range {
        let (mut low, mut high) = self.settings.range;
        if self.rng.one_in(4) {
            (low, high) = (low - 10, high + 10);
        }
        let first = self.rng.between(low, high);
        (first, self.rng.between(first, high))
    }

    fn size(&self) -> u16 {
        self.settings.range.1 - self.settings.range.0 + 1
    }

    /// Connections of one group, with the same fate.
    fn connections(&mut self) -> Result<()> {
        let upstream = self.rng.index(self.upstreams.len());
        let to = self.upstreams[upstream].at;
        let with = self.options(to.ip());
        let source = if with.lo { Some(self.source_by_device()) } else { self.source(to.ip()) };
        let (wanted, fate) = (self.rng.between(1, self.size().min(60)), self.rng.pick(&FATES));
        let mut pairs = Vec::new();
        for _ in 0..wanted {
            let Some(pair) = self.connect(upstream, source, &with)? else { break };
            pairs.push(pair);
        }
        let made = pairs.len();
        self.tell(format!("{made} of {wanted} from {source:?} to {to}, {with}: {fate:?}"));
        pairs.into_iter().try_for_each(|pair| self.go_on(pair, fate))
    }

    fn go_on(&mut self, mut pair: Pair, fate: Fate) -> Result<()> {
        match fate {
            Fate::Held => self.pairs.push(pair),
            Fate::Closed => drop(pair.close()),
            Fate::HalfClosed => self.sockets.extend(pair.close()),
            Fate::Shut | Fate::ShutBoth => {
                pair.client.shutdown(Shutdown::Write)?;
                if matches!(fate, Fate::ShutBoth) {
                    pair.server = None;
                }
                self.pairs.push(pair);
            }
            Fate::ClosedLast => pair.close_last(),
            Fate::Reset => pair.reset()?,
        }
        self.waits();
        Ok(())
    }

    /// A socket whose port an application chose, or `bind()` did.
    fn explicit_bind(&mut self) -> Result<()> {
        let address = match self.rng.between(0, 9) {
            0 => Ipv4Addr::UNSPECIFIED.into(),
            1 => Ipv6Addr::UNSPECIFIED.into(),
            2 => Ipv6Addr::LOCALHOST.into(),
            _ => self.address_v4(),
        };
        let port = if self.rng.one_in(4) { 0 } else { self.port() };
        let with = Options { reuse: self.reuse(), ..Options::default() };
        // Those that share it go several ways.
        let count = if with.reuse == Reuse::Neither { 1 } else { self.rng.between(1, 3) };
        for _ in 0..count {
            self.bind(SocketAddr::new(address, port), &with)?;
        }
        Ok(())
    }

    fn bind(&mut self, at: SocketAddr, with: &Options) -> Result<()> {
        let socket = with.socket(at.ip())?;
        if let Err(error) = socket.bind(&at.into()) {
            return if is_taken(&error) { Ok(()) } else { Err(error).context("bind()") };
        }
        let local = socket.local_addr()?.as_socket();
        let what = format!("bind {local:?}, {with}");
        let fits = |to: &Upstream| to.at.is_ipv4() == at.is_ipv4();
        match self.rng.between(0, 7) {
            0 | 1 => {
                self.tell(format!("{what}: held"));
                self.sockets.push(socket);
            }
            2 => {
                let listens = socket.listen(16).is_ok();
                self.tell(format!("{what}: listens: {listens}"));
                self.sockets.push(socket);
            }
            3 => self.tell(format!("{what}: closed")),
            4 => {
                let refused = socket.connect(&SocketAddr::new(self.upstreams[0].at.ip(), 1).into());
                self.tell(format!("{what}: {refused:?}, held"));
                self.sockets.push(socket);
            }
            _ => {
                let Some(upstream) = self.upstreams.iter().position(fits) else { return Ok(()) };
                let (fate, to) = (self.rng.pick(&FATES), self.upstreams[upstream].at);
                let pair = self.join(upstream, socket, with)?;
                self.tell(format!("{what}: to {to}: {fate:?}, {}", pair.is_some()));
                pair.map_or(Ok(()), |pair| self.go_on(pair, fate))?;
            }
        }
        Ok(())
    }

    /// A port that `connect()` chose, which is then bound on another address as well.
    fn bound_beside(&mut self) -> Result<()> {
        let upstream = self.rng.index(self.upstreams.len());
        let source = self.source(self.upstreams[upstream].at.ip());
        let Some(pair) = self.connect(upstream, source, &Options::default())? else {
            return Ok(());
        };
        let port = pair.from()?.port();
        let address = Ipv4Addr::new(127, 0, 0, 7).into();
        let with = Options { reuse: self.reuse(), ..Options::default() };
        let socket = with.socket(address)?;
        let bound = socket.bind(&SocketAddr::new(address, port).into());
        let (stays, fate) = (self.rng.one_in(3), self.rng.pick(&FATES));
        self.tell(format!(
            "port {port} of a connect from {source:?}, {fate:?}, bound beside: {bound:?}, {with}, stays: \
             {stays}"
        ));
        if stays {
            self.sockets.push(socket);
        } else if self.rng.one_in(2) {
            self.go_on(pair, fate)?;
            drop(socket);
            return Ok(());
        }
        self.go_on(pair, fate)
    }

    /// A server within the range; it may be gone, and its connections still there.
    fn listener_in_range(&mut self) -> Result<()> {
        let (address, port) = (self.address_v4(), self.port());
        if !self.listen(SocketAddr::new(address, port))? {
            return Ok(());
        }
        let upstream = self.upstreams.len() - 1;
        for _ in 0..self.rng.between(0, 4) {
            let source = self.source(address);
            let fate = self.rng.pick(&FATES);
            let pair = self.connect(upstream, source, &Options::default())?;
            self.tell(format!("from {source:?}: {fate:?}, {}", pair.is_some()));
            pair.map_or(Ok(()), |pair| self.go_on(pair, fate))?;
        }
        if self.rng.one_in(2) {
            self.tell("that listener is closed".to_owned());
            let gone = self.upstreams.remove(upstream);
            self.groups.retain(|group: &Group| group.to != gone.at);
        }
        Ok(())
    }

    /// A server that answers no more: SYN-SENT.
    fn deaf(&mut self) -> Result<()> {
        let address = self.address_v4();
        let with = Options::default();
        let listener: Socket = with.socket(address)?;
        let at = SocketAddr::new(address, 20_100);
        if listener.bind(&at.into()).is_err_and(|error| is_taken(&error)) {
            return Ok(());
        }
        listener.listen(0)?;
        let source = self.source(address);
        let mut made = 0;
        for _ in 0..self.rng.between(1, self.size().min(20)) {
            let socket = with.socket_from(source, address)?;
            socket.set_nonblocking(true)?;
            match socket.connect(&at.into()) {
                Err(error) if is_taken(&error) => break,
                _ => made += 1,
            }
            if let Some(local) = socket.local_addr()?.as_socket() {
                self.groups.insert(Group { source: local.ip(), to: at, range: None, lo: false });
            }
            self.sockets.push(socket);
        }
        self.tell(format!("{made} from {source:?} to {at}, which doesn't answer"));
        self.sockets.push(listener);
        Ok(())
    }
}

/// Waits until all closes have come to their end.
fn settle() -> Result<()> {
    const MOVING: [u8; 4] = [3, 4, 9, 11];
    let moving = || -> Result<Vec<_>> {
        let all = case::sockets()?.into_iter();
        Ok(all.filter(|socket| MOVING.contains(&socket.state)).collect())
    };
    wait_for("SYN-RECV, FIN-WAIT-1, LAST-ACK and CLOSING to end", || {
        Ok(moving()?.is_empty().then_some(()))
    })
    .with_context(|| format!("still moving: {:?}", moving().unwrap_or_default()))?;
    wait_for_softirqs()
}
