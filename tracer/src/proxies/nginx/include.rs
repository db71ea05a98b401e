//! The files of a configuration, and how much of them is read at most.

use std::{
    io::ErrorKind,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    super::files::Files,
    glob::{Pattern, is_pattern},
};
use crate::event::visible;

/// Most files.
pub(super) const MOST_FILES: usize = 10_000;
/// Most bytes of all files.
pub(super) const MOST_BYTES: usize = 64 << 20;
/// Most names of all directories that patterns are looked for in.
const MOST_NAMES: usize = 200_000;
/// Most directories that are listed.
const MOST_LISTINGS: usize = 10_000;
/// Most notes.
const MOST_NOTES: usize = 100;

/// Where files are read from, what was read, and what could not be.
pub(super) struct Sources<'a> {
    files: &'a dyn Files,
    /// The directory of the main file: what relative paths of `include` begin from (`ngx_conf_full_name`).
    directory: PathBuf,
    /// The files that were read.
    pub(super) read: Vec<PathBuf>,
    bytes: usize,
    names: usize,
    listings: usize,
    notes: Vec<String>,
    left_out: usize,
}

/// A file that `include` leads to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// By a pattern: it is left out where it isn't there.
    by_pattern: bool,
}

impl<'a> Sources<'a> {
    pub(super) fn new(files: &'a dyn Files, main: &Path) -> Self {
        let directory = main.parent().unwrap_or(Path::new("/")).to_path_buf();
        let (read, notes) = (Vec::new(), Vec::new());
        Self { files, directory, read, bytes: 0, names: 0, listings: 0, notes, left_out: 0 }
    }

    /// Notes what could not be read or understood.
    pub(super) fn note(&mut self, note: impl FnOnce() -> String) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(note());
        } else {
            self.left_out += 1;
        }
    }

    /// The files that were read, and all notes.
    pub(super) fn finish(self) -> (Vec<PathBuf>, Vec<String>) {
        let mut notes = self.notes;
        if self.left_out > 0 {
            notes.push(format!("and {} more", self.left_out));
        }
        (self.read, notes)
    }

    /// The content of the main file.
    ///
    /// # Errors
    /// As of [`Files::read`].
    pub(super) fn main(&mut self, path: &Path) -> std::io::Result<Vec<u8>> {
        let content = self.files.read(path)?;
        self.bytes = content.len();
        self.read.push(path.to_path_buf());
        Ok(content)
    }

    /// The content of an included file; `None`: it is noted, or a pattern led to nothing. `Err`: too much was
    /// read already.
    pub(super) fn open(&mut self, found: &Found) -> Result<Option<Vec<u8>>, String> {
        if self.read.len() >= MOST_FILES {
            return Err(format!("more than {MOST_FILES} files"));
        }
        let content = match self.files.read(&found.path) {
            Ok(content) => content,
            Err(error) => {
                let absent = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
                if !(absent && found.by_pattern) {
                    self.note(|| format!("{}: {error}", shown(&found.path)));
                }
                return Ok(None);
            }
        };
        self.bytes += content.len();
        if self.bytes > MOST_BYTES {
            return Err(format!("more than {} MiB of files", MOST_BYTES >> 20));
        }
        self.read.push(found.path.clone());
        Ok(Some(content))
    }

    /// The files that an argument of `include` stands for, sorted as glob(3) does.
    pub(super) fn find(&mut self, argument: &[u8]) -> Vec<Found> {
        let Ok(text) = std::str::from_utf8(argument) else {
            self.note(|| format!("include {}: the path is no UTF-8", visible(argument)));
            return Vec::new();
        };
        let path = self.directory.join(text);
        if !is_pattern(path.as_os_str().as_bytes()) {
            return vec![Found { path, by_pattern: false }];
        }
        let mut found = self.matching(&path);
        // Byte by byte, as strcoll(3) does in the C locale: the order of `Path` is another.
        found.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
        found.into_iter().map(|path| Found { path, by_pattern: true }).collect()
    }

    fn matching(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let mut paths = vec![PathBuf::from("/")];
        let components = pattern.as_os_str().as_bytes().split(|&byte| byte == b'/');
        for component in components.filter(|component| !component.is_empty()) {
            let of = Pattern::new(component);
            if let Some(name) = of.literal() {
                let name = std::ffi::OsStr::from_bytes(&name);
                for path in &mut paths {
                    path.push(name);
                }
                continue;
            }
            let mut next = Vec::new();
            for directory in paths {
                self.list(&directory, &of, &mut next);
            }
            paths = next;
        }
        paths
    }

    /// Adds what matches in a directory.
    fn list(&mut self, directory: &Path, of: &Pattern, found: &mut Vec<PathBuf>) {
        if self.names >= MOST_NAMES || self.listings >= MOST_LISTINGS || found.len() >= MOST_FILES {
            self.note(|| format!("{}: not looked into: too many names before", shown(directory)));
            return;
        }
        self.listings += 1;
        let names = match self.files.names(directory) {
            Ok(names) => names,
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                    self.note(|| format!("{}: {error}", shown(directory)));
                }
                return;
            }
        };
        self.names += names.len();
        for name in names.into_iter().filter(|name| of.matches(name.as_bytes())) {
            let path = directory.join(&name);
            if name.to_str().is_none() {
                self.note(|| format!("{}: the path is no UTF-8", shown(&path)));
            } else if found.len() < MOST_FILES {
                found.push(path);
            } else {
                self.note(|| format!("{}: more than {MOST_FILES} names match", shown(directory)));
                return;
            }
        }
    }
}

/// A path in a note.
pub(super) fn shown(path: &Path) -> String {
    visible(path.as_os_str().as_bytes())
}
