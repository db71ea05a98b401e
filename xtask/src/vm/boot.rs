//! One kernel under QEMU: started, watched, and ended in any case.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// The emulator.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// What a kernel says when it is broken, or when we broke it.
const SPLATS: [&str; 5] = ["Kernel panic", "BUG:", "Oops", "WARNING:", "general protection fault"];

/// Lines of the console that a failure shows.
const TAIL: usize = 40;

/// What a boot gave.
#[derive(Debug)]
pub(crate) struct Booted {
    /// What process 1 wrote to the second serial line.
    pub(crate) results: String,
    /// Why the boot itself counts as failed, with the end of the console.
    pub(crate) failure: Option<String>,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// What to boot.
#[derive(Debug)]
pub(crate) struct Boot<'a> {
    pub(crate) image: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Appended to the kernel's command line.
    pub(crate) arguments: &'a str,
    /// Console and results are kept in here.
    pub(crate) directory: &'a Path,
    pub(crate) deadline: Duration,
}

/// Ends what it holds.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // Already gone is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Boot<'_> {
    /// Runs the kernel to its end, or to the deadline.
    pub(crate) fn run(&self) -> Result<Booted> {
        let started = Instant::now();
        let results = self.directory.join("results");
        fs::write(&results, "")?;
        let mut machine =
            Machine(self.command(&results)?.spawn().with_context(|| QEMU.to_owned())?);
        let console = machine.0.stdout.take().context("the emulator has no output")?;
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (mut said, mut failure) = (Vec::new(), None);
        let mut log = fs::File::create(self.directory.join("console.log"))?;
        loop {
            let left = self.deadline.saturating_sub(started.elapsed());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    writeln!(log, "{line}")?;
                    if failure.is_none() && SPLATS.iter().any(|splat| line.contains(splat)) {
                        failure = Some(format!("the kernel says: {line}"));
                    }
                    said.push(line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    failure = Some(format!("not done within {} s", self.deadline.as_secs()));
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        drop(machine);
        // It ends with the emulator's output.
        let _ = reader.join();
        let results = String::from_utf8_lossy(&fs::read(&results)?).into_owned();
        if failure.is_none() && !results.contains("SCENARIO-END") {
            failure = Some("it ended before the scenario did".to_owned());
        }
        let failure = failure.map(|why| {
            let tail = said[said.len().saturating_sub(TAIL)..].join("\n    ");
            format!("{why}; the console's end:\n    {tail}")
        });
        Ok(Booted { results, failure, seconds: started.elapsed().as_secs_f64() })
    }

    fn command(&self, results: &Path) -> Result<Command> {
        let mut command = Command::new(QEMU);
        // Software emulation: works on every machine, also where KVM is there and fails. One thread for
        // both CPUs: with two, one may go on with old code that the other has patched (jump labels,
        // ftrace), and hang or trap there.
        command.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        command.args(["-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot"]);
        // Results have a line of their own, so that no word of the kernel falls into them.
        command.args(["-serial", "stdio", "-serial"]).arg(format!("file:{}", results.display()));
        command.arg("-kernel").arg(self.image).arg("-initrd").arg(self.initramfs);
        // Warnings of the kernel are wanted, its chatter is not.
        command.arg("-append").arg(format!("console=ttyS0 loglevel=5 panic=-1 {}", self.arguments));
        let errors = fs::File::create(self.directory.join("qemu.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        Ok(command)
    }
}
