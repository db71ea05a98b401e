//! Where a recording goes: a file that nobody else may read, several in turn, or standard output.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Stdout, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file; `None`: standard output.
    pub path: Option<PathBuf>,
    /// What is there may be overwritten.
    pub force: bool,
    /// How many files are kept: the newest has the name that was given, older ones `.1`, `.2`, ...; 1: no others.
    pub files: u32,
}

impl Place {
    /// Whether a recording can begin there: to be asked before anything is attached.
    ///
    /// # Errors
    /// There are files already, or standard output is a terminal.
    pub fn check(&self) -> Result<()> {
        let Some(path) = &self.path else {
            ensure!(
                !io::stdout().is_terminal(),
                "standard output is a terminal, and a capture is no text: redirect it, or give -o FILE"
            );
            return Ok(());
        };
        ensure!(!path.is_dir(), "{} is a directory: name a file", path.display());
        let there = (0..self.files).map(|number| numbered(path, number)).find(|path| {
            fs::symlink_metadata(path).is_ok_and(|it| it.is_file() || it.is_symlink())
        });
        match there {
            Some(there) if !self.force => {
                bail!("{} exists already: --force overwrites it", there.display())
            }
            _ => Ok(()),
        }
    }

    /// Opens the first file, or the next one; those before it move on.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(&self, first: bool) -> Result<Target> {
        let Some(path) = &self.path else { return Ok(Target::Stdout(io::stdout())) };
        let failed = || format!("can't create {}", path.display());
        // What is no file, such as a FIFO, is just written to.
        if fs::metadata(path).is_ok_and(|it| !it.is_file()) {
            let file = OpenOptions::new().write(true).open(path).with_context(failed)?;
            return Ok(Target::Pipe(file));
        }
        if first {
            if self.force {
                for number in 0..self.files {
                    remove(&numbered(path, number)).with_context(failed)?;
                }
            }
        } else {
            self.move_on(path).with_context(failed)?;
        }
        let mut options = OpenOptions::new();
        // With --force what was there is gone by now: it may have been another's, or a link.
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        Ok(Target::File(file.with_context(failed)?))
    }

    /// Takes the newest file away again.
    pub fn discard(&self) {
        if let Some(path) = &self.path
            && fs::symlink_metadata(path).is_ok_and(|it| it.is_file())
        {
            // It is empty: who looks at it sees that.
            let _ = fs::remove_file(path);
        }
    }

    fn move_on(&self, path: &Path) -> io::Result<()> {
        remove(&numbered(path, self.files - 1))?;
        for number in (0..self.files - 1).rev() {
            match fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `FILE`, `FILE.1`, `FILE.2`, ...
#[must_use]
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is written to.
#[derive(Debug)]
pub enum Target {
    /// A file of ours.
    File(File),
    /// Something else that was there.
    Pipe(File),
    /// Standard output.
    Stdout(Stdout),
}

impl Target {
    /// Makes sure that what was written outlives the host, where that can be had.
    ///
    /// # Errors
    /// The disk says so.
    pub fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_data(),
            Self::Pipe(_) => Ok(()),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }

    /// Cuts off what is beyond so many bytes: part of a frame that found no room.
    pub fn cut(&mut self, bytes: u64) {
        if let Self::File(file) = self {
            // A reader passes over what can't be cut off.
            let _ = file.set_len(bytes);
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) | Self::Pipe(file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) | Self::Pipe(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}
