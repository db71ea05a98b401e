//! A real terminal: a tmux server of its own with one window, in which a shell runs.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::patience;

/// The program.
pub const TMUX: &str = "/usr/bin/tmux";

/// How often the screen is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What the shell prints when it waits for a command.
const PROMPT: &str = "shell>";

/// What has been numbered so far.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A terminal with a shell in it; both go when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    server: String,
    shell: u32,
}

/// What a terminal is like beside its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modes {
    /// The alternate screen is shown.
    pub alternate: bool,
    /// The cursor can be seen.
    pub cursor: bool,
    /// Some kind of mouse report is on.
    pub mouse: bool,
    /// What `stty -a` says.
    pub line: String,
}

impl Terminal {
    /// A shell in a terminal of a size, in a directory, with something more in its environment.
    ///
    /// # Errors
    /// tmux doesn't start.
    pub fn open(
        (columns, rows): (u16, u16),
        directory: &Path,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let server = format!("socklife-tests-{}-{number}", std::process::id());
        let mut terminal = Self { server, shell: 0 };
        let mut command = terminal.tmux(&["set", "-g", "default-terminal", "tmux-256color", ";"]);
        command.args(["set", "-g", "escape-time", "0", ";", "new-session", "-d"]);
        command.args(["-x", &columns.to_string(), "-y", &rows.to_string(), "-c"]).arg(directory);
        for variable in ["NO_COLOR", "LC_ALL", "LC_CTYPE", "COLORTERM", "ENV"] {
            command.env_remove(variable);
        }
        // Those of the server are those of its panes.
        command.env("LANG", "C.UTF-8").envs(environment.iter().copied());
        command.args(["env", &format!("PS1={PROMPT} "), "sh"]);
        finish(&mut command)?;
        terminal.shell = terminal.ask("#{pane_pid}")?.parse().context("pane_pid")?;
        terminal.wait("the shell", |screen| screen.contains(PROMPT))?;
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(TMUX);
        // `-u`: what comes here is UTF-8, whatever the locale.
        command.args(["-u", "-L", &self.server, "-f", "/dev/null"]).args(arguments);
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        command
    }

    fn ask(&self, format: &str) -> Result<String> {
        let said = finish(&mut self.tmux(&["display-message", "-p", format]))?;
        Ok(said.trim_end_matches('\n').to_owned())
    }

    /// The text on the screen.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn screen(&self) -> Result<String> {
        finish(&mut self.tmux(&["capture-pane", "-p"]))
    }

    /// The same, with the escape sequences of colours and attributes.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn styled(&self) -> Result<String> {
        finish(&mut self.tmux(&["capture-pane", "-p", "-e"]))
    }

    /// Presses keys, by tmux's names: `q`, `Tab`, `C-c`, `Escape`, `Left`.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn keys(&self, keys: &[&str]) -> Result<()> {
        finish(self.tmux(&["send-keys", "--"]).args(keys)).map(drop)
    }

    /// Types text as it is.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn text(&self, text: &str) -> Result<()> {
        finish(&mut self.tmux(&["send-keys", "-l", "--", text])).map(drop)
    }

    /// Types a command for the shell: words, which are quoted.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn run<W: AsRef<OsStr>>(&self, words: &[W]) -> Result<()> {
        let quoted =
            |word: &W| format!("'{}'", word.as_ref().to_string_lossy().replace('\'', r"'\''"));
        let line: Vec<_> = words.iter().map(quoted).collect();
        self.text(&line.join(" "))?;
        self.keys(&["Enter"])
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        finish(&mut self.tmux(&["resize-window", "-x", &columns, "-y", &rows])).map(drop)
    }

    /// Waits until the screen is as wanted: gives its text.
    ///
    /// # Errors
    /// It isn't within [`patience`]: with what is on it.
    pub fn wait(&self, what: &str, wanted: impl FnMut(&str) -> bool) -> Result<String> {
        self.within(patience(), what, wanted)
    }

    /// The same, with another deadline.
    ///
    /// # Errors
    /// It isn't by then: with what is on it.
    pub fn within(
        &self,
        time: Duration,
        what: &str,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + time;
        loop {
            let screen = self.screen()?;
            if wanted(&screen) {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("waited {} s for {what}; on the screen:\n{screen}", time.as_secs_f64());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until something else than the screen is as wanted.
    ///
    /// # Errors
    /// It isn't within [`patience`]: with what is on the screen.
    pub fn wait_for<T>(&self, what: &str, ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let waited = crate::wait_for(what, ready);
        waited.with_context(|| self.screen().unwrap_or_else(|error| error.to_string()))
    }

    /// What it is like.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn modes(&self) -> Result<Modes> {
        let flags = self.ask("#{alternate_on}#{cursor_flag}#{mouse_any_flag} #{pane_tty}")?;
        let (flags, device) = flags.split_once(' ').context("flags")?;
        let on = |index| flags.as_bytes().get(index) == Some(&b'1');
        let line = finish(Command::new("stty").args(["-a", "-F", device]))?;
        Ok(Modes { alternate: on(0), cursor: on(1), mouse: on(2), line })
    }

    /// The process that has the terminal: what the shell runs, or the shell.
    ///
    /// # Errors
    /// The system doesn't say.
    pub fn foreground(&self) -> Result<u32> {
        let path = format!("/proc/{}/stat", self.shell);
        let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
        // The name may have anything in it: its end is the last bracket. Then: state, parent, group, session,
        // terminal, group in the foreground.
        let (_, words) = stat.rsplit_once(") ").with_context(|| path.clone())?;
        words.split(' ').nth(5).and_then(|group| group.parse().ok()).with_context(|| path)
    }

    /// Waits until the shell runs a program: its process id.
    ///
    /// # Errors
    /// It runs none in time.
    pub fn program(&self) -> Result<u32> {
        self.wait_for("a program in the foreground", || {
            Ok(Some(self.foreground()?).filter(|&pid| pid != self.shell))
        })
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// There is none.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.foreground()?;
        ensure!(pid != self.shell, "no program has the terminal");
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("kill()")
    }

    /// Waits until the shell has the terminal again, and has it run a command, for which `$ended` is the exit
    /// code of what ran before: what the command prints.
    ///
    /// # Errors
    /// It doesn't in time.
    pub fn shell(&self, command: &str) -> Result<String> {
        self.wait_for("the shell", || Ok((self.foreground()? == self.shell).then_some(())))?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // What is typed must not pass for what it prints.
        self.text(&format!("ended=$?; clear; {command}; echo end''of {number}"))?;
        self.keys(&["Enter"])?;
        let end = format!("endof {number}\n");
        let screen = self.wait("the shell to answer", |screen| screen.contains(&end))?;
        Ok(screen.split(&end).next().unwrap_or_default().trim().to_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Already gone is what is wanted.
        let _ = self.tmux(&["kill-server"]).stderr(Stdio::null()).status();
        // The server deletes its socket; one that was killed has not.
        let directory = std::env::var_os("TMUX_TMPDIR").unwrap_or_else(|| "/tmp".into());
        let user = nix::unistd::geteuid();
        let _ =
            fs::remove_file(Path::new(&directory).join(format!("tmux-{user}")).join(&self.server));
    }
}

fn finish(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
