//! Follows a log as `tail -F` does: whole lines, through rotation by renaming and by truncation.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, SeekFrom, open, seek},
    io::Errno,
};

use self::lines::Lines;
use crate::proxies::files::open_found;

mod lines;

/// Longest line, in bytes: what is longer is cut. Nginx's error log has lines of at most 2047, `HAProxy` of 1024 by
/// default; headers in access logs are as long as the proxy's buffers for them.
pub const LONGEST: usize = 64 << 10;
/// So long without anything new, and a file that was rotated away is let go. Its writer holds it until it is told
/// (Nginx by `USR1`), which a rotation of many logs does at its end.
const QUIET: Duration = Duration::from_mins(1);
/// Most files that were rotated away and are still read.
const MOST_OLD: usize = 8;
/// Most bytes that a poll reads: whoever asks for it has other things to do.
const MOST_POLLED: u64 = 8 << 20;
/// Whoever is farther behind the end of a file that grows goes on near it,
const FAR_BEHIND: u64 = 256 << 20;
/// and so near.
const NEAR: u64 = MOST_POLLED;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With what the file has: for a log that is complete. Its last line needs no end.
    Start,
    /// With what comes from now on.
    End,
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
    /// What comes next is behind a hole or at the start: zero bytes there are what is left of one.
    behind_hole: bool,
    /// When there was something new.
    news: Instant,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Self> {
        refuse_own_outputs(path)?;
        let found = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let file = open_found(&found).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => refused(path, &format!("is {error}: {TO_A_FILE}")),
            _ => error,
        })?;
        let metadata = file.metadata()?;
        let mut magic = [0; 2];
        if file.read_at(&mut magic, 0)? == 2 && magic == [0x1f, 0x8b] {
            return Err(refused(path, "is compressed: unpack it first, as zcat does, into a file"));
        }
        let identity = (metadata.dev(), metadata.ino());
        let (lines, news) = (Lines::default(), Instant::now());
        Ok(Self { file, identity, at: 0, lines, behind_hole: true, news })
    }

    /// Goes to the end. A line that has begun there is none of ours.
    fn skip_all(&mut self) -> io::Result<()> {
        self.go_to(self.file.metadata()?.len())
    }

    /// Goes to a place, and from there to the next start of a line.
    fn go_to(&mut self, at: u64) -> io::Result<()> {
        self.at = at;
        let mut last = [b'\n'];
        if let Some(before) = self.at.checked_sub(1) {
            self.file.read_at(&mut last, before)?;
        }
        self.lines.begun.clear();
        self.lines.skipping = last != [b'\n'];
        self.behind_hole = false;
        Ok(())
    }

    /// Reads what there is now, and no more: however fast it grows, this ends. Of it at most what `most` has left.
    /// A hole costs nothing (`truncate -s`; a writer without `O_APPEND` after `copytruncate`), and ends a line.
    fn poll(&mut self, most: &mut u64, each: &mut dyn FnMut(&[u8])) -> io::Result<Polled> {
        let length = self.file.metadata()?.len();
        let truncated = length < self.at;
        if truncated {
            self.at = 0;
            self.lines.begun.clear();
            self.lines.skipping = false;
            self.behind_hole = true;
        }
        if length > self.at {
            self.news = Instant::now();
        }
        while self.at < length && *most > 0 {
            let data = self.data(length)?;
            if data.start > self.at {
                self.lines.break_off(each);
                self.behind_hole = true;
                self.at = data.start;
            }
            let end = data.end.min(self.at.saturating_add(*most));
            if !self.read_to(end, most, each)? {
                break;
            }
        }
        Ok(Polled { truncated, left: length.saturating_sub(self.at) })
    }

    /// The next bytes that are stored; empty, at `length`: there are none any more.
    fn data(&self, length: u64) -> io::Result<std::ops::Range<u64>> {
        let start = match seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(start) => start.clamp(self.at, length),
            // Nothing up to its end.
            Err(Errno::NXIO) => return Ok(length..length),
            // A file system that doesn't know.
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(self.at..length),
            Err(error) => return Err(error.into()),
        };
        let end = seek(&self.file, SeekFrom::Hole(start)).unwrap_or(length);
        Ok(start..end.clamp(start, length))
    }

    /// Reads up to there; `false`: it ended before.
    fn read_to(
        &mut self,
        end: u64,
        most: &mut u64,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<bool> {
        let mut chunk = [0; 16 << 10];
        while self.at < end {
            let want = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(chunk.len());
            let got = match self.file.read_at(&mut chunk[..want], self.at) {
                Ok(0) => return Ok(false),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.at += got as u64;
            *most = most.saturating_sub(got as u64);
            let mut bytes = &chunk[..got];
            if self.behind_hole {
                // A hole ends where a block does, not where the text begins.
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                bytes = &bytes[zeros..];
                self.behind_hole = bytes.is_empty();
            }
            self.lines.feed(bytes, each);
        }
        Ok(true)
    }
}

/// What came of a poll of a file.
struct Polled {
    /// It had been truncated.
    truncated: bool,
    /// Bytes that are there and were not read.
    left: u64,
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
    skipped_bytes: u64,
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
        let (current, old) = (None, Vec::new());
        Self { path, from, current, old, cut: 0, skipped_bytes: 0, truncated: 0, rotated: 0 }
    }

    /// Gives each line that was ended since, without its end. Of files that were rotated away first. Reads at most
    /// 8 MiB: whether there is more, to be polled again. With [`From::End`], where more than 256 MiB are left of a file
    /// after that, the next poll goes on near its end ([`Follower::skipped_bytes`]).
    ///
    /// # Errors
    /// A file can't be read, or what has the path now is no file.
    pub fn poll(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        self.poll_files(MOST_POLLED, each).map_err(|error| named(&self.path, error))
    }

    fn poll_files(&mut self, mut most: u64, each: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut more = false;
        for tail in self.old.iter_mut().chain(&mut self.current) {
            let polled = tail.poll(&mut most, each)?;
            self.truncated += u64::from(polled.truncated);
            more |= polled.left > 0;
            if self.from == From::End && polled.left > FAR_BEHIND {
                tail.go_to(tail.at + polled.left - NEAR)?;
                self.skipped_bytes += polled.left - NEAR;
            }
        }
        let gone = |tail: &Tail| tail.news.elapsed() >= QUIET;
        while self.old.first().is_some_and(gone) || self.old.len() > MOST_OLD {
            let mut tail = self.old.remove(0);
            // There is none where it was quiet.
            let left = tail.file.metadata()?.len().saturating_sub(tail.at);
            self.skipped_bytes += left;
            tail.lines.finish(each);
            self.cut += tail.lines.cut;
        }
        let now = match fs::metadata(&self.path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            // Between renaming and creating.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(more),
            Err(error) => return Err(error),
        };
        if self.current.as_ref().is_some_and(|current| current.identity == now) {
            return Ok(more);
        }
        let mut tail = match Tail::open(&self.path) {
            Ok(tail) => tail,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(more),
            Err(error) => return Err(error),
        };
        // What was written to the old one before the new one was there comes first.
        if let Some(mut old) = self.current.take() {
            let polled = old.poll(&mut most, each)?;
            self.truncated += u64::from(polled.truncated);
            more |= polled.left > 0;
            old.news = Instant::now();
            self.old.push(old);
            self.rotated += 1;
        }
        let polled = tail.poll(&mut most, each);
        self.current = Some(tail);
        Ok(more || polled?.left > 0)
    }

    /// The last poll, of all that there is now. Of a log that was read from its start the last line needs no end.
    ///
    /// # Errors
    /// As [`Follower::poll`].
    pub fn finish(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.poll_files(u64::MAX, each).map_err(|error| named(&self.path, error))?;
        if self.from == From::Start {
            for tail in self.old.iter_mut().chain(&mut self.current) {
                tail.lines.finish(each);
            }
        }
        Ok(())
    }

    /// Bytes that were passed over, for they came faster than they could be read; holes among them count too.
    #[must_use]
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
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
