//! What `check` is held against: the kernel's own figures, and how many more tries succeed.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    net::{Namespace, load_binary},
    process::{Process, run},
    wait_for,
};

impl Namespace {
    /// Its inode number, which is its name in socklife's output.
    ///
    /// # Errors
    /// Its file is gone.
    pub fn inode(&self) -> Result<u64> {
        Ok(std::fs::metadata(self.path())?.ino())
    }

    /// What a file below `/proc/net` or `/proc/sys` says inside.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(&self, path: &str) -> Result<String> {
        run(self.command("cat").arg(path))
    }

    /// Rows of `ss -Hn` and these arguments.
    ///
    /// # Errors
    /// `ss` fails.
    pub fn ss(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let said = run(self.command("ss").arg("-Hn").args(arguments))?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Entries in TIME-WAIT, by the kernel's own gauge.
    ///
    /// # Errors
    /// The gauge can't be read.
    pub fn time_wait(&self) -> Result<u64> {
        let text = self.read("/proc/net/sockstat")?;
        let line = text.lines().find(|line| line.starts_with("TCP:")).context("no TCP")?;
        let mut words = line.split(' ').skip_while(|word| *word != "tw");
        words.nth(1).and_then(|value| value.parse().ok()).with_context(|| line.to_owned())
    }

    /// Waits until so many are in TIME-WAIT.
    ///
    /// # Errors
    /// It takes too long: with all sockets that are there instead.
    pub fn wait_for_time_wait(&self, count: u64) -> Result<()> {
        let reached = || Ok((self.time_wait()? == count).then_some(()));
        wait_for("entries in TIME-WAIT", reached).with_context(|| {
            let sockets = self.ss(&["-tanO"]).unwrap_or_default();
            format!("{count} wanted, {:?} there: {sockets:#?}", self.time_wait().ok())
        })
    }

    /// A counter of `TcpExt` in `/proc/net/netstat`.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let text = self.read("/proc/net/netstat")?;
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = (rows.next().context("names")?, rows.next().context("values")?);
        let mut pairs = names.split(' ').zip(values.split(' '));
        let (_, value) =
            pairs.find(|(known, _)| *known == name).with_context(|| name.to_owned())?;
        Ok(value.parse()?)
    }

    /// Starts something that takes what a ceiling limits, as many as it is told.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn grow(&self, arguments: &[&str]) -> Result<Grower> {
        self.grow_as(&load_binary(), arguments)
    }

    /// The same, run from another file, after which its process is named.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn grow_as(&self, program: &Path, arguments: &[&str]) -> Result<Grower> {
        Grower::start(self.command(program).arg("grow").args(arguments))
    }
}

/// A process that takes and keeps what a ceiling limits.
#[derive(Debug)]
pub struct Grower {
    process: Process,
    answers: usize,
}

impl Grower {
    /// Starts `socklife-load grow …`.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut grower = Self { process: Process::start_ordered(command)?, answers: 0 };
        grower.answer()?;
        Ok(grower)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u64 {
        self.process.pid().into()
    }

    /// Makes it take more: how many tries ended how, by the name of the errno, "ok" for none.
    ///
    /// # Errors
    /// It is gone.
    pub fn more(&mut self, count: u32) -> Result<BTreeMap<String, u64>> {
        self.process.order(&count.to_string())?;
        let answer = self.answer()?;
        serde_json::from_value(answer["outcomes"].clone()).context("outcomes")
    }

    /// Makes it take more, all of which it must get.
    ///
    /// # Errors
    /// A try failed.
    pub fn take(&mut self, count: u32) -> Result<()> {
        let outcomes = self.more(count)?;
        let expected = BTreeMap::from([("ok".to_owned(), u64::from(count))]);
        ensure!(outcomes == expected, "{count} to take: {outcomes:?}");
        Ok(())
    }

    /// Makes it try more often than can succeed: how many did, and how many failed with the errno.
    ///
    /// # Errors
    /// None failed, or one with another errno.
    pub fn overrun(&mut self, tries: u32, errno: &str) -> Result<(u64, u64)> {
        let outcomes = self.more(tries)?;
        let of = |name: &str| outcomes.get(name).copied().unwrap_or(0);
        let (ok, failed) = (of("ok"), of(errno));
        ensure!(failed > 0 && ok + failed == u64::from(tries), "{tries} tries: {outcomes:?}");
        Ok((ok, failed))
    }

    fn answer(&mut self) -> Result<Value> {
        let wanted = self.answers;
        let line = wait_for("an answer of socklife-load", || {
            let said = self.process.stdout_so_far();
            let whole = said.rfind('\n').map_or("", |end| &said[..end]);
            let line = whole.lines().nth(wanted).map(str::to_owned);
            if line.is_none() && self.process.ended()? {
                bail!("socklife-load ended: {}", self.process.stderr_so_far());
            }
            Ok(line)
        })?;
        self.answers += 1;
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }
}

/// Sets a process's limit of open files from outside, as an administrator does.
///
/// # Errors
/// `prlimit` fails.
pub fn limit_files(pid: u64, soft: u64) -> Result<()> {
    let limit = format!("--nofile={soft}:");
    run(Command::new("prlimit").args(["--pid", &pid.to_string(), &limit])).map(drop)
}

/// Room that a process has for further files: numbers below its limit that are free.
///
/// # Errors
/// It is gone.
pub fn room_for_files(pid: u64, limit: u64) -> Result<u64> {
    let mut taken = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let number: u64 = entry?.file_name().to_string_lossy().parse()?;
        taken += u64::from(number < limit);
    }
    Ok(limit - taken)
}

/// Files that a process has open.
///
/// # Errors
/// It is gone.
pub fn open_files(pid: u64) -> Result<u64> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}
