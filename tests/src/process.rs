//! Processes that end with their guard.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait_for;

/// What a process printed, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code; `None`: ended by a signal.
    pub code: Option<i32>,
}

/// A running process. Killed by its id when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdin: Option<ChildStdin>,
    stdout: Option<Collected>,
    stderr: Option<Collected>,
}

/// What a stream has brought so far.
#[derive(Debug)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collected {
    fn so_far(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut part = vec![0; 65_536];
        // A stream that breaks off ends like one that is closed; what came counts.
        while let Ok(length @ 1..) = stream.read(&mut part) {
            all.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&part[..length]);
        }
    });
    Collected { bytes, reader }
}

impl Process {
    /// Starts a command and collects what it prints.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("can't run {name}"))?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Self { child, name, stdin: None, stdout, stderr })
    }

    /// Starts a command that takes orders on standard input.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_ordered(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("can't run {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Self { child, name, stdin, stdout, stderr })
    }

    /// Gives it one line of input.
    ///
    /// # Errors
    /// It takes none, or is gone.
    pub fn order(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("no standard input")?;
        writeln!(stdin, "{line}").with_context(|| format!("can't order {}", self.name))
    }

    /// Ends its input.
    pub fn close_input(&mut self) {
        drop(self.stdin.take());
    }

    /// Starts a command and waits for its first line on standard output.
    ///
    /// # Errors
    /// It can't be started, or ends without a line.
    pub fn start_ready(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("can't run {name}"))?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let stderr = child.stderr.take().map(collect);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let process = Self { child, name, stdin: None, stdout: Some(collect(stdout)), stderr };
        if line.is_empty() {
            let end = process.finish()?;
            bail!("it ended instead of getting ready: {}", end.stderr);
        }
        Ok(process)
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed on standard output so far, but for the line that said it was ready.
    #[must_use]
    pub fn stdout_so_far(&self) -> String {
        self.stdout.as_ref().map_or_else(String::new, Collected::so_far)
    }

    /// What it has printed on standard error so far.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        self.stderr.as_ref().map_or_else(String::new, Collected::so_far)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        kill(pid, signal).with_context(|| format!("can't signal {}", self.name))
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// The system doesn't say.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It doesn't end in time.
    pub fn finish(mut self) -> Result<Finished> {
        self.end()
    }

    /// The same, for who has only borrowed it; what it printed is given once.
    ///
    /// # Errors
    /// It doesn't end in time.
    pub fn end(&mut self) -> Result<Finished> {
        let name = self.name.clone();
        let status = wait_for(&format!("the end of {name}"), || Ok(self.child.try_wait()?))?;
        let text = |stream: Option<Collected>| {
            let Some(Collected { bytes, reader }) = stream else { return String::new() };
            // A reader that panicked has brought what it has brought.
            let _ = reader.join();
            let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Ok(Finished { stdout, stderr, code: status.code() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps what this process inherited, beside the standard streams, from those that it starts: they
/// shall have the files that a test gave them, and no others.
///
/// # Errors
/// The kernel has no `close_range()` that does this (before 5.11).
pub fn keep_inherited_files() -> Result<()> {
    let close_on_exec = nix::libc::CLOSE_RANGE_CLOEXEC.try_into()?;
    // SAFETY: no file is closed.
    let result = unsafe { nix::libc::close_range(3, u32::MAX, close_on_exec) };
    ensure!(result == 0, "close_range(): {}", std::io::Error::last_os_error());
    Ok(())
}

/// Runs a command to its end; fails when it fails.
///
/// # Errors
/// It can't be run, or fails: with what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let name = format!("{command:?}");
    let finished = Process::start(command)?.finish()?;
    if finished.code != Some(0) {
        bail!("{name} failed: {}{}", finished.stdout, finished.stderr);
    }
    Ok(finished.stdout)
}
