//! A capture's file, to be read from its beginning as often as wanted, and what its end says.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};

use crate::{
    capture::{
        frame::{HEAD, Head, Kind, MARKER},
        walk::Walk,
    },
    event::visible,
    human::thousands,
};

/// Bytes at the end of a file in which its last frame begins, most of the time.
const END: u64 = 8 << 20;

/// The file.
pub(super) struct Tape {
    file: Arc<File>,
    name: Arc<str>,
    shown: String,
    last_ns: Option<u64>,
    /// It ends as a recording does that was ended.
    whole: bool,
}

/// A reader with a place of its own in the file.
struct Reading {
    file: Arc<File>,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Tape {
    /// Opens it and looks at its end.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = || format!("can't read {shown}");
        let file = File::open(path).with_context(failed)?;
        let about = file.metadata().with_context(failed)?;
        ensure!(
            about.is_file(),
            "{shown} is no file that one can go back in, as a replay does: store it in one, or take \
             `socklife report`"
        );
        let name =
            path.file_name().map_or_else(String::new, |name| visible(name.as_encoded_bytes()));
        let last = last_frame(&file, about.len()).with_context(failed)?;
        Ok(Self {
            file: Arc::new(file),
            name: name.into(),
            last_ns: last.as_ref().map(|head| head.last_ns),
            whole: last.is_some_and(|head| head.kind == Some(Kind::End)),
            shown,
        })
    }

    /// Reads it from its beginning.
    pub(super) fn walk(&self) -> Result<Walk> {
        let from = Reading { file: Arc::clone(&self.file), at: 0 };
        Walk::of(from).with_context(|| format!("can't read {}", self.shown))
    }

    /// The file's name, inert.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Time of the last thing in it, nanoseconds since boot; `None`: nobody knows.
    pub(super) fn last_ns(&self) -> Option<u64> {
        self.last_ns
    }

    /// What is wrong with it, as far as it was read.
    pub(super) fn flaw(&self, walk: &Walk) -> Option<String> {
        let mut flaws = Vec::new();
        if !self.whole {
            flaws.push("CUT OFF: the recording has no end, or is still being made".to_owned());
        }
        match walk.damage() {
            [] => {}
            [only] if walk.damaged() == 1 => flaws.push(format!("DAMAGED: {only}")),
            some => {
                let unknown = some.iter().any(|damage| damage.events.is_none());
                let more = if unknown { " at least" } else { "" };
                let (places, missing) = (thousands(walk.damaged()), thousands(walk.missing()));
                flaws.push(format!("DAMAGED at {places} places: {missing} events missing{more}"));
            }
        }
        if walk.undecodable() > 0 {
            flaws.push(format!("{} RECORDS NOT UNDERSTOOD", thousands(walk.undecodable())));
        }
        (!flaws.is_empty()).then(|| flaws.join("; "))
    }
}

/// The last frame of which the head is sound.
fn last_frame(file: &File, length: u64) -> io::Result<Option<Head>> {
    let from = length.saturating_sub(END);
    let mut end = Vec::new();
    Read::take(Reading { file: Arc::new(file.try_clone()?), at: from }, END)
        .read_to_end(&mut end)?;
    let last = (0..=end.len().saturating_sub(HEAD)).rev().find_map(|at| {
        let bytes = end.get(at..)?;
        bytes.starts_with(&MARKER).then(|| Head::read(bytes)).flatten()
    });
    Ok(last)
}
