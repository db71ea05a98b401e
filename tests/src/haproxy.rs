//! A real HAProxy in front of one server, and what it logs.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};
use tempfile::TempDir;

use crate::{
    net::Namespace,
    process::{Finished, Process},
    wait_for,
};

/// The program.
pub const HAPROXY: &str = "/usr/sbin/haproxy";

/// What goes into the sections of its configuration, a line each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections<'a> {
    /// `global`
    pub global: &'a str,
    /// `defaults`: before it stand `mode http`, `option httplog` and timeouts of 30 s (of connects: 500 ms).
    pub defaults: &'a str,
    /// `frontend web`
    pub frontend: &'a str,
    /// `backend app`
    pub backend: &'a str,
    /// After the address of `server s1`, such as `maxconn 2`.
    pub server: &'a str,
    /// It has a master, in whose one worker it runs (`-W`).
    pub master: bool,
    /// It has no runtime socket.
    pub mute: bool,
}

/// A running HAProxy.
#[derive(Debug)]
pub struct HaProxy {
    process: Ending,
    syslog: Syslog,
    directory: TempDir,
}

impl HaProxy {
    /// Where it listens.
    pub const PORT: u16 = 8080;

    /// Starts it inside a namespace, in front of one server.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(namespace: &Namespace, server: &str, sections: Sections) -> Result<Self> {
        let Sections { global, defaults, frontend, backend, server: options, .. } = sections;
        let directory = tempfile::Builder::new().prefix("socklife-haproxy-").tempdir()?;
        let at = directory.path().display();
        let syslog = Syslog::start(namespace, directory.path())?;
        let runtime = format!("stats socket {at}/admin.sock mode 600 level operator");
        let configuration = format!(
            "global\n{}\nlog {at}/syslog local0\n{global}\n\
             defaults\nmode http\nlog global\noption httplog\n\
             timeout client 30s\ntimeout server 30s\ntimeout connect 500ms\n{defaults}\n\
             frontend web\nbind :{port}\ndefault_backend app\n{frontend}\n\
             backend app\n{backend}\nserver s1 {server} {options}\n",
            if sections.mute { "" } else { &runtime },
            port = Self::PORT,
        );
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, configuration)?;
        let mut command = namespace.command(HAPROXY);
        command.args(if sections.master { &["-W", "-db"][..] } else { &["-db"] });
        let mut process = Ending(Process::start(command.arg("-f").arg(&file))?);
        let port = format!("sport = :{}", Self::PORT);
        let started = wait_for("HAProxy to start", || {
            let listening = namespace.command("ss").args(["-Hltn", &port]).output()?;
            let is_there = !listening.stdout.is_empty();
            Ok(if is_there { Some(true) } else { process.0.ended()?.then_some(false) })
        })?;
        if !started {
            let Finished { stdout, stderr, .. } = process.0.end()?;
            bail!("HAProxy does not start: {stdout}{stderr}");
        }
        let haproxy = Self { process, syslog, directory };
        if sections.master {
            wait_for("HAProxy's worker", || Ok((haproxy.workers()?.len() == 1).then_some(())))?;
        }
        Ok(haproxy)
    }

    /// The process that was started: the master, if it has one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.0.pid()
    }

    /// The workers of its master.
    ///
    /// # Errors
    /// The system doesn't say.
    pub fn workers(&self) -> Result<Vec<u32>> {
        let master = self.pid();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        children.split_whitespace().map(|pid| pid.parse().context("a process id")).collect()
    }

    /// Its runtime socket.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// What its runtime socket answers to a command.
    ///
    /// # Errors
    /// It doesn't.
    pub fn ask(&self, command: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.runtime())?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// A number of `show stat`; an empty one is 0. `name`: `FRONTEND`, `BACKEND`, or a server's.
    ///
    /// # Errors
    /// It isn't there.
    pub fn count(&self, proxy: &str, name: &str, column: &str) -> Result<u64> {
        let answer = self.ask("show stat")?;
        let mut lines = answer.lines();
        let head = lines.next().context("no answer")?.trim_start_matches("# ");
        let at = head.split(',').position(|it| it == column).context("no such column")?;
        let begin = format!("{proxy},{name},");
        let line = lines.find(|line| line.starts_with(&begin)).context("no such line")?;
        let value = line.split(',').nth(at).context("a short line")?;
        if value.is_empty() { Ok(0) } else { value.parse().context(value.to_owned()) }
    }

    /// The file that its log goes to: lines as rsyslog writes them.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("haproxy.log")
    }

    /// Stops it, and reads its log.
    ///
    /// # Errors
    /// It doesn't stop, or the log can't be read.
    pub fn stop(self) -> Result<String> {
        self.process.0.signal(Signal::SIGTERM)?;
        let Self { mut process, syslog, directory } = self;
        process.0.end()?;
        drop(syslog);
        let log = fs::read(directory.path().join("haproxy.log"))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }
}

/// Asked to end when dropped: a worker outlives a master that is killed.
#[derive(Debug)]
struct Ending(Process);

impl Drop for Ending {
    fn drop(&mut self) {
        if matches!(self.0.ended(), Ok(false)) && self.0.signal(Signal::SIGTERM).is_ok() {
            // It is killed next.
            let _ = wait_for("the end of HAProxy", || Ok(self.0.ended()?.then_some(())));
        }
    }
}

/// Where its log goes, as to a syslog daemon.
#[derive(Debug)]
struct Syslog {
    at: PathBuf,
    writer: Option<JoinHandle<()>>,
}

impl Syslog {
    /// A socket's queue is as long as its network namespace says; HAProxy waits for nobody and loses what finds no room.
    fn start(namespace: &Namespace, directory: &Path) -> Result<Self> {
        let at = directory.join("syslog");
        namespace.sysctl("net.unix.max_dgram_qlen", "100000")?;
        let inside = File::open(namespace.path())?;
        let bound = std::thread::scope(|scope| {
            let bind = || {
                setns(inside, CloneFlags::CLONE_NEWNET)?;
                Ok(UnixDatagram::bind(&at)?)
            };
            scope.spawn(bind).join().unwrap_or_else(|_| bail!("a thread that panicked"))
        });
        let socket: UnixDatagram = bound.context("the socket for HAProxy's log")?;
        let mut file = File::create(directory.join("haproxy.log"))?;
        let writer = std::thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            // An empty one says that no more is wanted.
            while let Ok(length @ 1..) = socket.recv(&mut datagram) {
                if file.write_all(&written(&datagram[..length])).is_err() {
                    break;
                }
            }
        });
        Ok(Self { at, writer: Some(writer) })
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        let end = UnixDatagram::unbound().and_then(|socket| socket.send_to(&[], &self.at));
        if end.is_ok()
            && let Some(writer) = self.writer.take()
        {
            // One that panicked has written what it has written.
            let _ = writer.join();
        }
    }
}

/// `<134>Nov 25 11:12:04 haproxy[812]: …` as rsyslog's traditional format has it: without priority, with a host.
fn written(datagram: &[u8]) -> Vec<u8> {
    const TIME: usize = "Nov 25 11:12:04".len();
    let begin = datagram.iter().position(|&byte| byte == b'>').map_or(0, |at| at + 1);
    let line = datagram[begin..].trim_ascii_end();
    let (time, rest) = line.split_at(line.len().min(TIME));
    [time, b" host", rest, b"\n"].concat()
}
