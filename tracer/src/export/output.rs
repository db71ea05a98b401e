//! Where an export goes: standard output, or a file that is there once it is whole.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, IsTerminal, Stdout, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

use super::To;

/// Mode of a file.
const MODE: u32 = 0o644;

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file; `None`: standard output.
    pub path: Option<PathBuf>,
    /// What is there may be overwritten.
    pub force: bool,
}

impl Place {
    /// Whether an export can go there: asked before captures are read.
    ///
    /// # Errors
    /// There is a file already, or standard output is a terminal and this is no text.
    pub fn check(&self, to: To) -> Result<()> {
        let Some(path) = &self.path else {
            ensure!(
                to != To::Parquet || !io::stdout().is_terminal(),
                "standard output is a terminal, and Parquet is no text: redirect it, or give -o FILE"
            );
            return Ok(());
        };
        ensure!(!path.is_dir(), "{} is a directory: name a file", path.display());
        let there = fs::symlink_metadata(path).is_ok_and(|it| it.is_file() || it.is_symlink());
        if there && !self.force && !is_other(path) {
            bail!("{} exists already: --force overwrites it", path.display());
        }
        Ok(())
    }
}

/// Whether something is there that is no file, such as a FIFO: that is just written to.
fn is_other(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| !it.is_file())
}

/// What is written to; counts bytes. Dropped before [`Self::finish`], it leaves no file behind.
pub struct Output {
    to: Target,
    bytes: u64,
}

enum Target {
    File { file: NamedTempFile, path: PathBuf, force: bool },
    Other(File),
    Stdout(Stdout),
}

impl Output {
    /// Opens it; a file has a name of its own until it is whole.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(place: &Place) -> Result<Self> {
        let Some(path) = &place.path else {
            return Ok(Self { to: Target::Stdout(io::stdout()), bytes: 0 });
        };
        let failed = || format!("can't create {}", path.display());
        if is_other(path) {
            let file = OpenOptions::new().write(true).open(path).with_context(failed)?;
            return Ok(Self { to: Target::Other(file), bytes: 0 });
        }
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let mut prefix = OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".");
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .with_context(failed)?;
        let to = Target::File { file, path: path.clone(), force: place.force };
        Ok(Self { to, bytes: 0 })
    }

    /// All is written: the file gets its name. Gives its size in bytes.
    ///
    /// # Errors
    /// The disk says so, or another file has that name meanwhile.
    pub fn finish(mut self) -> Result<u64> {
        self.flush().context("can't write")?;
        if let Target::File { file, path, force } = self.to {
            let failed = || format!("can't write {}", path.display());
            file.as_file().sync_data().with_context(failed)?;
            let named = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
            named.map_err(|it| it.error).with_context(failed)?;
        }
        Ok(self.bytes)
    }

    fn target(&mut self) -> &mut dyn Write {
        match &mut self.to {
            Target::File { file, .. } => file,
            Target::Other(file) => file,
            Target::Stdout(stdout) => stdout,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.target().write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target().flush()
    }
}
