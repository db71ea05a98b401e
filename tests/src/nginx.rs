//! A real Nginx as a reverse proxy.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{net::Namespace, process::Process, wait_for};

/// How many workers it has.
const WORKERS: usize = 2;

/// A running Nginx with two workers.
#[derive(Debug)]
pub struct Nginx {
    master: Master,
    directory: TempDir,
}

/// Its master process: asked to end when dropped, since workers outlive one that is killed.
#[derive(Debug)]
struct Master(Process);

impl Drop for Master {
    fn drop(&mut self) {
        if matches!(self.0.ended(), Ok(false)) && self.0.signal(Signal::SIGTERM).is_ok() {
            // It is killed next.
            let _ = wait_for("the end of Nginx", || Ok(self.0.ended()?.then_some(())));
        }
    }
}

/// What its logs say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// Lines of the error log with an errno, such as "(99: Cannot assign requested address)": by errno
    /// and worker process.
    pub errors: BTreeMap<u32, BTreeMap<u32, u64>>,
    /// Lines of the error log that say that a worker has no connection left.
    pub not_enough: u64,
    /// Responses by status.
    pub statuses: BTreeMap<u32, u64>,
}

impl Logs {
    /// Lines with an errno, by worker process.
    #[must_use]
    pub fn by_worker(&self, errno: u32) -> BTreeMap<u32, u64> {
        self.errors.get(&errno).cloned().unwrap_or_default()
    }

    /// Lines with an errno, all workers together.
    #[must_use]
    pub fn with(&self, errno: u32) -> u64 {
        self.by_worker(errno).values().sum()
    }
}

/// What goes into the blocks of its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocks<'a> {
    /// Outside of all.
    pub main: &'a str,
    /// `events`; if `None`: 4096 connections for each worker.
    pub events: Option<&'a str>,
    /// `http`
    pub http: &'a str,
    /// How many workers; if `None`: two.
    pub workers: Option<usize>,
    /// `server`
    pub server: &'a str,
}

impl Nginx {
    /// Where it listens.
    pub const PORT: u16 = 8080;
    /// The format of its access log.
    pub const LOG_FORMAT: &str = "$status $upstream_status [$upstream_addr] $msec";

    /// Starts it inside a namespace, in front of one upstream. `main` and `server` go into these blocks
    /// of its configuration.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(namespace: &Namespace, upstream: &str, main: &str, server: &str) -> Result<Self> {
        Self::start_with(namespace, upstream, Blocks { main, server, ..Blocks::default() })
    }

    /// The same, with something for more blocks.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_with(namespace: &Namespace, upstream: &str, blocks: Blocks) -> Result<Self> {
        let Blocks { main, events, http, server, workers } = blocks;
        let workers = workers.unwrap_or(WORKERS);
        let events = events.unwrap_or("worker_connections 4096;");
        let directory = tempfile::Builder::new().prefix("socklife-nginx-").tempdir()?;
        let at = directory.path().display();
        let configuration = format!(
            "daemon off; worker_processes {workers}; {main} pid {at}/pid; error_log {at}/error.log;\n\
             events {{ {events} }}\n\
             http {{ {http}\n\
               log_format statuses '{format}'; access_log {at}/access.log statuses;\n\
               client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
               fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
               server {{ listen {port} reuseport; {server} location / {{ proxy_pass http://{upstream}; }} }}\n\
             }}\n",
            port = Self::PORT,
            format = Self::LOG_FORMAT,
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = namespace.command("/usr/sbin/nginx");
        command.arg("-e").arg(directory.path().join("start.log")).arg("-c").arg(&file);
        let mut master = Master(Process::start(&mut command)?);
        let pid = directory.path().join("pid");
        let started = wait_for("Nginx to start", || {
            let written = fs::read_to_string(&pid).is_ok_and(|text| !text.trim().is_empty());
            Ok(if written { Some(true) } else { master.0.ended()?.then_some(false) })
        })?;
        if !started {
            let end = master.0.end()?;
            bail!("Nginx does not start: {}{}", end.stdout, end.stderr);
        }
        let nginx = Self { master, directory };
        wait_for("Nginx's workers", || Ok((nginx.workers()?.len() == workers).then_some(())))?;
        Ok(nginx)
    }

    /// Its worker processes.
    ///
    /// # Errors
    /// The system doesn't say.
    pub fn workers(&self) -> Result<Vec<u64>> {
        let master = self.master.0.pid();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        children.split_whitespace().map(|pid| pid.parse().context("a process id")).collect()
    }

    /// Its error log.
    #[must_use]
    pub fn error_log(&self) -> PathBuf {
        self.directory.path().join("error.log")
    }

    /// Its access log.
    #[must_use]
    pub fn access_log(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// What its logs say so far.
    ///
    /// # Errors
    /// A log can't be read.
    pub fn logs(&self) -> Result<Logs> {
        Self::read(self.directory.path())
    }

    /// Replaces a text of its configuration that is there once: anywhere, or on a line, as `nginx.conf:LINE` names it.
    ///
    /// # Errors
    /// It isn't there once.
    pub fn replace(&self, line: Option<usize>, text: &str, by: &str) -> Result<()> {
        let file = self.directory.path().join("nginx.conf");
        let configuration = fs::read_to_string(&file)?;
        let here = |number: usize| line.is_none_or(|line| line == number);
        let mut found = 0;
        let lines = configuration.lines().enumerate().map(|(index, of)| {
            let times = if here(index + 1) { of.matches(text).count() } else { 0 };
            found += times;
            if times > 0 { of.replace(text, by) } else { of.to_owned() }
        });
        let changed: Vec<String> = lines.collect();
        ensure!(found == 1, "{text} is there {found} times: {configuration}");
        fs::write(&file, changed.join("\n") + "\n").context("its configuration")
    }

    /// Has it read its configuration anew, and waits until its old workers are gone.
    ///
    /// # Errors
    /// They stay, or it is gone.
    pub fn replace_workers(&self) -> Result<()> {
        let old = self.workers()?;
        self.reload()?;
        wait_for("new workers", || {
            let now = self.workers()?;
            Ok((now.len() == old.len() && !now.iter().any(|pid| old.contains(pid))).then_some(()))
        })
    }

    /// Has it read its configuration anew: new workers, and old ones that finish.
    ///
    /// # Errors
    /// It is gone.
    pub fn reload(&self) -> Result<()> {
        self.master.0.signal(Signal::SIGHUP)
    }

    /// Stops it, and reads its logs.
    ///
    /// # Errors
    /// It doesn't stop, or a log can't be read.
    pub fn stop(self) -> Result<Logs> {
        self.master.0.signal(Signal::SIGTERM)?;
        let Self { mut master, directory } = self;
        master.0.end()?;
        Self::read(directory.path())
    }

    fn read(directory: &Path) -> Result<Logs> {
        let (error, access) = (directory.join("error.log"), directory.join("access.log"));
        let mut logs = Logs::default();
        for line in read(&error)?.lines() {
            if line.contains(" worker_connections are not enough") {
                logs.not_enough += 1;
            } else if let Some(errno) = errno(line) {
                let by_worker = logs.errors.entry(errno).or_default();
                *by_worker.entry(worker(line)?).or_default() += 1;
            }
        }
        for line in read(&access)?.lines() {
            let status = line.split(' ').next().unwrap_or_default();
            *logs.statuses.entry(status.parse()?).or_default() += 1;
        }
        Ok(logs)
    }
}

/// Whole lines: the last one may be on its way.
fn read(path: &Path) -> Result<String> {
    let mut bytes = fs::read(path).with_context(|| path.display().to_string())?;
    bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1));
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The errno in `… failed (99: Cannot assign requested address) …` or `… timed out (110: …`.
fn errno(line: &str) -> Option<u32> {
    let split = |before| line.split_once(before);
    let (_, rest) = split(" failed (").or_else(|| split(" timed out ("))?;
    rest.split_once(':')?.0.parse().ok()
}

/// The process id in `2026/01/02 03:04:05 [crit] 812#812: *17 connect() to …`.
fn worker(line: &str) -> Result<u32> {
    let word = line.split_whitespace().nth(3).context("a short line in the error log")?;
    word.split('#').next().unwrap_or_default().parse().with_context(|| format!("no pid: {line}"))
}
