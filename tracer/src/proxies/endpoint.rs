//! Where a proxy answers questions about itself, and asking there: within a time, and of an answer so much.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use super::{Located, host::places};
use crate::{event::visible, kernel::netns};

/// How long a proxy has to say all that it is asked, at most: all together have no more than two seconds.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer that is read.
pub const LONGEST: usize = 16 << 20;
/// Read at a time.
const PIECE: usize = 64 << 10;

/// Where a proxy answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix socket, as the proxy sees its path.
    Unix(PathBuf),
    /// A TCP port in the proxy's network namespace. `0.0.0.0` and `::` stand for the loopback address.
    Tcp(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => f.write_str(&visible(path.as_os_str().as_encoded_bytes())),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Not an endpoint that can be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither the path of a socket nor an address and a port in figures")]
pub struct Unknown(String);

impl FromStr for Endpoint {
    type Err = Unknown;

    /// From `/run/haproxy/admin.sock`, `127.0.0.1:9999`, `[::1]:9999`, and what HAProxy's `bind` takes beside them
    /// (configuration.txt, section 4.2): `unix@/path`, `ipv4@address:port`, `ipv6@address:port`, `*:port`, `:port`.
    fn from_str(text: &str) -> Result<Self, Unknown> {
        let unknown = || Unknown(text.to_owned());
        let (family, rest) = text.split_once('@').unwrap_or(("", text));
        if rest.starts_with('/') && matches!(family, "" | "unix") {
            return Ok(Self::Unix(rest.into()));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(unknown)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let ip = match (family, host) {
            ("" | "ipv4", "" | "*") => Ipv4Addr::UNSPECIFIED.into(),
            ("ipv6", "" | "*") => Ipv6Addr::UNSPECIFIED.into(),
            ("" | "ipv4" | "ipv6", host) => host.parse::<IpAddr>().map_err(|_| unknown())?,
            _ => return Err(unknown()),
        };
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(unknown)?;
        Ok(Self::Tcp(SocketAddr::new(ip, port)))
    }
}

impl Endpoint {
    /// Says `question` and reads until the other side closes, as a client of this process: its root, its network
    /// namespace. All of it ends at `until`.
    ///
    /// # Errors
    /// There is nobody, or who is there doesn't take it, is late, or says more than [`LONGEST`].
    pub fn ask(&self, of: Located, question: &[u8], until: Instant) -> Result<Vec<u8>> {
        let answer = match self {
            Self::Unix(path) => {
                connect_unix(of, path).and_then(|socket| talk(socket, question, until))
            }
            Self::Tcp(address) => {
                let (address, question) = (reachable(*address), question.to_vec());
                let netns = of.netns.context("its network namespace is hidden")?;
                let place = format!("/proc/{}/ns/net", of.process.pid).into();
                netns::inside_at(netns, place, move || {
                    let stream = TcpStream::connect_timeout(&address, left(until)?)?;
                    Ok(talk(stream.into(), &question, until)?)
                })
                .map_err(|error| match error.downcast() {
                    Ok(error) => error,
                    Err(error) => io::Error::other(format!("{error:#}")),
                })
            }
        };
        answer.map_err(in_words).with_context(|| format!("asking {self}"))
    }
}

fn in_words(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            anyhow::anyhow!(
                "no answer within {} s, or before others took the time",
                PATIENCE.as_secs()
            )
        }
        _ => error.into(),
    }
}

fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The time that is left; never zero, which would stand for no limit.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A listener whose queue is full refuses at once (`EAGAIN`, unix(7)) instead of making one wait.
fn connect_unix(of: Located, path: &Path) -> io::Result<OwnedFd> {
    let mut found = Err(io::ErrorKind::NotFound.into());
    for place in places(of.process.pid)? {
        found = place.find(path);
        if found.is_ok() {
            break;
        }
    }
    let found = found?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // By its file: a path could lead somewhere else by now, and may be longer than an address is.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    connect(&socket, &address)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

fn talk(socket: OwnedFd, question: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    set_socket_timeout(&socket, Timeout::Send, Some(left(until)?))?;
    let mut socket = File::from(socket);
    socket.write_all(question)?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        set_socket_timeout(&socket, Timeout::Recv, Some(left(until)?))?;
        match socket.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > LONGEST {
            return Err(io::Error::other(format!("an answer of over {} MiB", LONGEST >> 20)));
        }
    }
}

/// That an answer is there at all.
///
/// # Errors
/// It is empty.
pub(super) fn some(answer: &[u8]) -> Result<()> {
    ensure!(!answer.is_empty(), "closed without an answer");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::proxies::host::located;

    #[test]
    fn endpoints_are_read_as_written() {
        let tcp = |text: &str| Endpoint::Tcp(text.parse().unwrap());
        for (text, endpoint) in [
            ("/run/a.sock", Endpoint::Unix("/run/a.sock".into())),
            ("unix@/run/a@b", Endpoint::Unix("/run/a@b".into())),
            ("ipv4@1.2.3.4:9999", tcp("1.2.3.4:9999")),
            ("*:1", tcp("0.0.0.0:1")),
            (":1", tcp("0.0.0.0:1")),
            ("ipv6@:::9", tcp("[::]:9")),
            ("ipv6@::1:9", tcp("[::1]:9")),
            ("[::1]:9", tcp("[::1]:9")),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap(), endpoint, "{text}");
        }
        for text in ["", "localhost:1", "1.2.3.4", "1.2.3.4:0", "abns@x", "fd@3", "1.2.3.4:1-9"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn who_does_not_answer_or_never_ends_costs_no_more_than_the_patience() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("silent");
        let silent = UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::Unix(path);
        let me = located(std::process::id()).unwrap();
        let ask = || {
            let started = Instant::now();
            let error = endpoint.ask(me, b"x", started + Duration::from_millis(300)).unwrap_err();
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
            format!("{error:#}")
        };
        let silence = ask();
        assert!(silence.contains("no answer within"), "{silence}");
        let dripping = std::thread::spawn(move || {
            // The connection before this one, and this one.
            let (_, mut stream) = (silent.accept().unwrap(), silent.accept().unwrap().0);
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert!(ask().contains("no answer within"));
        dripping.join().unwrap();
        let gone = ask();
        assert!(gone.contains("refused"), "{gone}");
    }

    #[test]
    fn a_port_of_the_own_namespace_is_asked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = [0; 4];
            stream.read_exact(&mut said).unwrap();
            stream.write_all(&said).unwrap();
        });
        let me = located(std::process::id()).unwrap();
        assert_eq!(endpoint.ask(me, b"ping", Instant::now() + PATIENCE).unwrap(), b"ping");
        answering.join().unwrap();
        let error =
            format!("{:#}", endpoint.ask(me, b"ping", Instant::now() + PATIENCE).unwrap_err());
        assert!(error.contains("refused"), "{error}");
    }
}
