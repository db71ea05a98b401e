//! Follows a log as `tail -F` does: whole lines, through rotation by renaming and by truncation.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::OFlags;

/// Longest line, in bytes: what is longer is cut. Nginx's error log has lines of at most 2047, `HAProxy` of 1024 by
/// default; headers in access logs are as long as the proxy's buffers for them.
pub const LONGEST: usize = 64 << 10;
/// So long without anything new, and a file that was rotated away is let go. Its writer holds it until it is told
/// (Nginx by `USR1`), which a rotation of many logs does at its end.
const QUIET: Duration = Duration::from_mins(1);
/// Most files that were rotated away and are still read.
const MOST_OLD: usize = 8;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With what the file has: for a log that is complete. Its last line needs no end.
    Start,
    /// With what comes from now on.
    End,
}

/// Bytes to lines.
#[derive(Debug, Default)]
struct Lines {
    /// The begun line; at most [`LONGEST`] bytes.
    begun: Vec<u8>,
    /// Everything up to the next end of a line is dropped.
    skipping: bool,
    /// Lines that were cut.
    cut: u64,
}

impl Lines {
    /// More bytes: gives each line that they end, without its end.
    fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.begun.is_empty() && !self.skipping && line.len() <= LONGEST {
                each(line);
                continue;
            }
            self.begin(line, each);
            if !self.skipping {
                each(&self.begun);
            }
            self.begun.clear();
            self.skipping = false;
        }
        self.begin(bytes, each);
    }

    /// More of the begun line; once it is too long, what there is of it is given.
    fn begin(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        if self.skipping {
            return;
        }
        let room = LONGEST - self.begun.len();
        self.begun.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if bytes.len() > room {
            each(&self.begun);
            self.begun.clear();
            self.skipping = true;
            self.cut += 1;
        }
    }

    /// Gives the line that has no end.
    fn finish(&mut self, each: &mut dyn FnMut(&[u8])) {
        if !self.begun.is_empty() {
            each(&self.begun);
            self.begun.clear();
        }
    }
}

/// A file that is read as it grows.
#[derive(Debug)]
struct Tail {
    file: File,
    /// Device and inode. Nothing else gets them while the file is open.
    identity: (u64, u64),
    /// Where the next byte is.
    at: u64,
    lines: Lines,
    /// When there was something new.
    news: Instant,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Self> {
        refuse_own_outputs(path)?;
        // Else a FIFO without a writer is waited for.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let kind = metadata.file_type();
            let what = match () {
                () if kind.is_dir() => "a directory",
                () if kind.is_fifo() => "a FIFO",
                () if kind.is_char_device() || kind.is_block_device() => "a device",
                () => "no regular file",
            };
            return Err(refused(path, &format!("is {what}: {TO_A_FILE}")));
        }
        let mut magic = [0; 2];
        if file.read_at(&mut magic, 0)? == 2 && magic == [0x1f, 0x8b] {
            return Err(refused(path, "is compressed: unpack it first, as zcat does, into a file"));
        }
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { file, identity, at: 0, lines: Lines::default(), news: Instant::now() })
    }

    /// Goes to the end. A line that has begun there is none of ours.
    fn skip_all(&mut self) -> io::Result<()> {
        self.at = self.file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(before) = self.at.checked_sub(1) {
            self.file.read_at(&mut last, before)?;
        }
        self.lines.skipping = last != [b'\n'];
        Ok(())
    }

    /// Reads what there is now, and no more: however fast it grows, this ends. Whether it had been truncated.
    fn poll(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        let truncated = length < self.at;
        if truncated {
            self.at = 0;
            self.lines.begun.clear();
            self.lines.skipping = false;
        }
        if length > self.at {
            self.news = Instant::now();
        }
        let mut chunk = [0; 16 << 10];
        while self.at < length {
            let want = usize::try_from(length - self.at).unwrap_or(usize::MAX).min(chunk.len());
            let got = match self.file.read_at(&mut chunk[..want], self.at) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.at += got as u64;
            self.lines.feed(&chunk[..got], each);
        }
        Ok(truncated)
    }
}

/// A log by its path, whichever file that is.
///
/// What can be lost, as with `tail -F`: a file that was rotated away before a poll had seen it, and what was written
/// before a truncation that had grown past the place of reading by the next poll (`copytruncate` also loses lines
/// itself: logrotate(8)).
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    from: From,
    current: Option<Tail>,
    /// Files that had the path before, oldest first.
    old: Vec<Tail>,
    /// Lines that were cut in files that were let go.
    cut: u64,
    /// Times that the file was shorter than what was read of it.
    pub truncated: u64,
    /// Times that another file got the path.
    pub rotated: u64,
}

impl Follower {
    /// Opens a log.
    ///
    /// # Errors
    /// It isn't there, may not be read, is compressed, or is no file: in containers logs often go to `/dev/stdout`.
    pub fn open(path: &Path, from: From) -> io::Result<Self> {
        let mut tail = Tail::open(path).map_err(|error| named(path, error))?;
        if from == From::End {
            tail.skip_all().map_err(|error| named(path, error))?;
        }
        Ok(Self { current: Some(tail), ..Self::absent(path, from) })
    }

    /// As [`Follower::open`], but a log that isn't there is waited for, and then read from its start.
    ///
    /// # Errors
    /// As [`Follower::open`], but for its absence.
    pub fn open_or_wait(path: &Path, from: From) -> io::Result<Self> {
        match Self::open(path, from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::absent(path, from)),
            other => other,
        }
    }

    fn absent(path: &Path, from: From) -> Self {
        let path = path.to_owned();
        Self { path, from, current: None, old: Vec::new(), cut: 0, truncated: 0, rotated: 0 }
    }

    /// Gives each line that was ended since, without its end. Of files that were rotated away first.
    ///
    /// # Errors
    /// A file can't be read, or what has the path now is no file.
    pub fn poll(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.poll_files(each).map_err(|error| named(&self.path, error))
    }

    fn poll_files(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        for tail in self.old.iter_mut().chain(&mut self.current) {
            self.truncated += u64::from(tail.poll(each)?);
        }
        let gone = |tail: &Tail| tail.news.elapsed() >= QUIET;
        while self.old.first().is_some_and(gone) || self.old.len() > MOST_OLD {
            let mut tail = self.old.remove(0);
            tail.lines.finish(each);
            self.cut += tail.lines.cut;
        }
        let now = match fs::metadata(&self.path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            // Between renaming and creating.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.current.as_ref().is_some_and(|current| current.identity == now) {
            return Ok(());
        }
        let mut tail = match Tail::open(&self.path) {
            Ok(tail) => tail,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // What was written to the old one before the new one was there comes first.
        if let Some(mut old) = self.current.take() {
            self.truncated += u64::from(old.poll(each)?);
            old.news = Instant::now();
            self.old.push(old);
            self.rotated += 1;
        }
        let polled = tail.poll(each);
        self.current = Some(tail);
        polled.map(drop)
    }

    /// The last poll. Of a log that was read from its start the last line needs no end.
    ///
    /// # Errors
    /// As [`Follower::poll`].
    pub fn finish(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.poll(each)?;
        if self.from == From::Start {
            for tail in self.old.iter_mut().chain(&mut self.current) {
                tail.lines.finish(each);
            }
        }
        Ok(())
    }

    /// Lines that were cut, for they were longer than [`LONGEST`].
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.old.iter().chain(&self.current).fold(self.cut, |cut, tail| cut + tail.lines.cut)
    }
}

const TO_A_FILE: &str = "have the proxy log to a file (error_log, access_log; a file of the syslog daemon), or save \
                         what the container prints to one";

/// Refuses what leads to this process's own outputs: in the proxy's container it led to the proxy's.
fn refuse_own_outputs(path: &Path) -> io::Result<()> {
    let mut path = path.to_owned();
    // The kernel follows 40 links at most (path_resolution(7)).
    for _ in 0..40 {
        let own = ["/dev/stdout", "/dev/stderr", "/dev/stdin", "/dev/fd", "/proc/self"];
        if own.iter().any(|own| path.starts_with(own)) {
            return Err(refused(&path, &format!("is this process's own: {TO_A_FILE}")));
        }
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    Ok(())
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} {why}", path.display()))
}

/// An error of the system, with the file's name.
fn named(path: &Path, error: io::Error) -> io::Error {
    if error.raw_os_error().is_none() {
        return error;
    }
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
