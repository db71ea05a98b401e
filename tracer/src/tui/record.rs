//! Files that are made from the live view: captures, and tables as text. Each is written on a thread of its own, so
//! that a disk that hangs holds nothing else; whoever began it is told how it ended.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use super::message::Recording;
use crate::{
    capture::content::{End, Header},
    human::thousands,
    kernel::ring::boot_time_ns,
    recording::{Recorder, place::Place, scribe::Keeping},
};

/// A recording ends at so many bytes: who forgets it shall not fill the disk.
const MAX_BYTES: u64 = 1 << 30;

/// Where it is told, in words, how a file ended: once.
pub type Tell = UnboundedSender<String>;

/// `socklife-20261125T031501Z.txt`, then `…-2.txt`, ...
fn names(stem: &str, extension: &str) -> impl Iterator<Item = PathBuf> {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    (1..100).map(move |number| {
        let more = if number > 1 { format!("-{number}") } else { String::new() };
        PathBuf::from(format!("{stem}-{now}{more}.{extension}"))
    })
}

/// Opens a new file that only its owner may read.
fn create(stem: &str, extension: &str) -> Result<(File, PathBuf)> {
    for path in names(stem, extension) {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match file {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            file => {
                let file = file.with_context(|| format!("can't create {}", path.display()))?;
                return Ok((file, path));
            }
        }
    }
    anyhow::bail!("there are a hundred files of this second already")
}

/// Writes a text into a new file of its own, named after what it is.
///
/// # Errors
/// No thread can be had.
pub fn write(name: &'static str, text: String, tell: Tell) -> Result<()> {
    let write = move || {
        let written = create(&format!("socklife-{name}"), "txt").and_then(|(mut file, path)| {
            file.write_all(text.as_bytes())
                .with_context(|| format!("can't write {}", path.display()))?;
            Ok(path)
        });
        // Nobody may be there any more.
        let _ = tell.send(match written {
            Ok(path) => format!("written to {}", path.display()),
            Err(error) => format!("can't write: {error:#}"),
        });
    };
    let thread = std::thread::Builder::new().name("text".to_owned()).spawn(write);
    thread.map(drop).context("can't start a thread to write")
}

/// Begins a capture in a directory: gives its file, too.
///
/// # Errors
/// No file can be made there.
pub fn begin(directory: &Path, header: Header) -> Result<(Recorder, PathBuf)> {
    let mut names = names("socklife", "socklife").map(|name| directory.join(name));
    let free = names.find(|path| path.symlink_metadata().is_err());
    let path = free.context("there are a hundred files of this second already")?;
    let place = Place { path: Some(path.clone()), force: false, files: 1 };
    let keeping = Keeping { place, max_size: Some(MAX_BYTES), window: None };
    Ok((Recorder::start(keeping, header)?, path))
}

/// How it stands.
#[must_use]
pub fn state(recorder: &Recorder, path: &Path) -> Recording {
    let progress = recorder.progress();
    Recording {
        path: path.to_owned(),
        events: progress.events.load(Relaxed),
        bytes: progress.bytes.load(Relaxed),
        lost: recorder.lost().events(),
    }
}

/// Ends it, and waits until all is on the disk; gives how it ended, in words.
pub async fn finish(recorder: Recorder, path: &Path, why: &str) -> String {
    let (progress, lost) = (recorder.share(), recorder.lost().events());
    let end = End { at_ns: boot_time_ns(), why: why.to_owned(), ..End::default() };
    let finished = recorder.finish(end).await;
    let (events, path) = (thousands(progress.events.load(Relaxed)), path.display());
    match finished {
        Ok(()) => {
            let lost = match lost {
                0 => String::new(),
                some => format!(", {} lost", thousands(some)),
            };
            let recorded = format!("{events} events recorded in {path}{lost}");
            [vec![recorded], progress.said()].concat().join("; ")
        }
        Err(error) => {
            format!("recording broke off: {error:#}; the {events} events in {path} can be read")
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tracer_ebpf::{ABI_VERSION, RAW_EVENT_SIZE};

    use super::*;
    use crate::{
        capture::{Item, frame::FORMAT, reader::Reader, walk::Walk},
        source::Batch,
    };

    const INCIDENTS: &[u8] = include_bytes!("../../fixtures/incidents-v1.socklife");

    /// What a real kernel said goes in, and comes out again.
    #[tokio::test]
    async fn a_capture_holds_all_that_came_in() {
        let directory =
            std::env::temp_dir().join(format!("socklife-record-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let header = Header {
            format: FORMAT,
            abi: ABI_VERSION,
            record_size: RAW_EVENT_SIZE,
            ..Header::default()
        };
        let (mut recorder, path) = begin(&directory, header.clone()).unwrap();
        // A second one at once has another name.
        let (other, beside) = begin(&directory, header).unwrap();
        assert_ne!(path, beside);
        assert!(finish(other, &beside, "").await.starts_with("0 events"));
        let mut reader = Reader::open(INCIDENTS).unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            if let Item::Records(records) = item {
                recorder.batch(&Batch { records: Bytes::clone(&records), lost: None });
            }
        }
        let said = finish(recorder, &path, "it was ended by a key").await;
        assert_eq!(said, format!("32,534 events recorded in {}", path.display()));
        let mut walk = Walk::open(&path).unwrap();
        while walk.advance(|_| {}).unwrap() {}
        assert_eq!((walk.table.seen(), walk.damaged()), (32_534, 0));
        assert_eq!(walk.end().unwrap().why, "it was ended by a key");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
