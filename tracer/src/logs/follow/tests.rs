use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use proptest::prelude::*;

use super::*;

fn write(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn polled(follower: &mut Follower) -> Vec<String> {
    let mut lines = Vec::new();
    follower.poll(&mut |line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
    lines
}

fn finished(follower: &mut Follower) -> Vec<String> {
    let mut lines = Vec::new();
    follower.finish(&mut |line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
    lines
}

#[test]
fn from_the_end_only_whole_new_lines_come() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("error.log");
    write(&path, "old\nbegun be");
    let mut follower = Follower::open(&path, From::End).unwrap();
    assert_eq!(polled(&mut follower), [""; 0]);
    write(&path, "fore\nnew\n\nhal");
    assert_eq!(polled(&mut follower), ["new", ""]);
    write(&path, "f\nlast");
    assert_eq!(polled(&mut follower), ["half"]);
    assert_eq!(finished(&mut follower), [""; 0]);
}

#[test]
fn from_the_start_the_last_line_needs_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("error.log");
    fs::write(&path, b"one\ntwo \xff\nthree").unwrap();
    let mut follower = Follower::open(&path, From::Start).unwrap();
    assert_eq!(finished(&mut follower), ["one", "two \u{fffd}", "three"]);
}

#[test]
fn what_is_written_to_the_renamed_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("a.log"), directory.path().join("a.log.1"));
    write(&path, "1\n");
    let mut follower = Follower::open(&path, From::Start).unwrap();
    fs::rename(&path, &moved).unwrap();
    write(&moved, "2\n");
    assert_eq!(polled(&mut follower), ["1", "2"]);
    write(&moved, "3\n");
    write(&path, "5\n");
    assert_eq!(polled(&mut follower), ["3", "5"]);
    write(&moved, "4\nend");
    write(&path, "6\n");
    assert_eq!(polled(&mut follower), ["4", "6"]);
    assert_eq!(follower.old.len(), 1);
    // Once nothing more came it is let go, and what it had begun is a line.
    follower.old[0].news = Instant::now().checked_sub(QUIET).unwrap();
    assert_eq!(polled(&mut follower), ["end"]);
    assert!(follower.old.is_empty());
    assert_eq!(follower.rotated, 1);
}

#[test]
fn a_truncated_file_is_read_from_its_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    write(&path, "1\n2\nhalf");
    let mut follower = Follower::open(&path, From::Start).unwrap();
    assert_eq!(polled(&mut follower), ["1", "2"]);
    File::create(&path).unwrap();
    write(&path, "3\n");
    assert_eq!(polled(&mut follower), ["3"]);
    assert_eq!((follower.truncated, follower.rotated), (1, 0));
}

#[test]
fn a_log_that_is_not_there_is_waited_for_only_when_asked_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let error = Follower::open(&path, From::End).unwrap_err();
    assert!(error.to_string().contains("a.log"), "{error}");
    let mut follower = Follower::open_or_wait(&path, From::End).unwrap();
    assert_eq!(polled(&mut follower), [""; 0]);
    write(&path, "1\n");
    assert_eq!(polled(&mut follower), ["1"]);
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| {
        let error = Follower::open_or_wait(path, From::End).unwrap_err();
        assert!(
            error.to_string().contains(path.file_name().unwrap().to_str().unwrap())
                || path.is_symlink()
        );
        error.to_string()
    };
    let linked = directory.path().join("error.log");
    symlink("/dev/stderr", &linked).unwrap();
    assert!(refusal(&linked).contains("/dev/stderr is this process's own"), "{}", refusal(&linked));
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    assert!(refusal(&fifo).contains("is a FIFO"));
    assert!(refusal(Path::new("/dev/null")).contains("is a device"));
    assert!(refusal(directory.path()).contains("is a directory"));
    let zipped = directory.path().join("error.log.1.gz");
    fs::write(&zipped, [0x1f, 0x8b, 8, 0]).unwrap();
    assert!(refusal(&zipped).contains("zcat"));
    let looped = directory.path().join("loop");
    symlink("loop", &looped).unwrap();
    assert!(Follower::open(&looped, From::End).is_err());
}

#[test]
fn long_lines_are_cut_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let exact = "x".repeat(LONGEST);
    write(&path, &format!("{exact}\n{exact}y\nshort\n{}", "z".repeat(3 * LONGEST)));
    let mut follower = Follower::open(&path, From::Start).unwrap();
    let lines = finished(&mut follower);
    let lengths: Vec<_> = lines.iter().map(String::len).collect();
    assert_eq!(lengths, [LONGEST, LONGEST, 5, LONGEST]);
    assert_eq!(follower.cut(), 2);
}

/// Takes 100 s where the hole is read.
#[test]
fn a_hole_costs_nothing_and_ends_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    write(&path, "1\nbroken off");
    let mut live = Follower::open(&path, From::End).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(200 << 30).unwrap();
    write(&path, "2\n3\nlast");
    let started = Instant::now();
    // Live, the line had begun before: it is none of ours, but what comes behind the hole is.
    assert_eq!(polled(&mut live), ["2", "3"]);
    assert_eq!(live.skipped_bytes(), 0);
    let mut complete = Follower::open(&path, From::Start).unwrap();
    assert_eq!(finished(&mut complete), ["1", "broken off", "2", "3", "last"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// A writer without `O_APPEND` goes on where it was, whatever became of the file (`copytruncate`).
#[test]
fn behind_a_truncation_zeros_are_no_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    let mut writer = File::create(&path).unwrap();
    let filler = "x".repeat(9_999) + "\n";
    writer.write_all(filler.as_bytes()).unwrap();
    let mut follower = Follower::open(&path, From::Start).unwrap();
    assert_eq!(polled(&mut follower).len(), 1);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(polled(&mut follower), [""; 0]);
    writer.write_all(b"after\n").unwrap();
    assert_eq!(polled(&mut follower), ["after"]);
}

#[test]
fn a_poll_reads_so_much_and_says_whether_there_is_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    File::create(&path).unwrap();
    let mut live = Follower::open(&path, From::End).unwrap();
    let line = "x".repeat(1023) + "\n";
    write(&path, &line.repeat(20 << 10));
    let mut lines = 0;
    let mut poll = |follower: &mut Follower| follower.poll(&mut |_| lines += 1).unwrap();
    assert_eq!([poll(&mut live), poll(&mut live), poll(&mut live)], [true, true, false]);
    assert_eq!((lines, live.skipped_bytes()), (20 << 10, 0));
    let mut complete = Follower::open(&path, From::Start).unwrap();
    assert_eq!(finished(&mut complete).len(), 20 << 10);
}

#[test]
fn who_is_far_behind_goes_on_near_the_end_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    File::create(&path).unwrap();
    let mut live = Follower::open(&path, From::End).unwrap();
    let mebibyte = ("x".repeat(1022) + "y\n").repeat(1 << 10);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    for _ in 0..280 {
        file.write_all(mebibyte.as_bytes()).unwrap();
    }
    let mut bytes = 0;
    while live
        .poll(&mut |line| {
            assert_eq!(line.len(), 1023);
            bytes += line.len() as u64 + 1;
        })
        .unwrap()
    {}
    assert_eq!(bytes + live.skipped_bytes(), 280 << 20);
    assert_eq!(bytes, MOST_POLLED + NEAR);
}

#[test]
fn a_log_that_becomes_a_device_or_the_kernels_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    write(&path, "1\n");
    let mut follower = Follower::open(&path, From::Start).unwrap();
    for (target, what) in
        [("/dev/null", "is a device"), ("/proc/kmsg", "is a file of the kernel's own")]
    {
        fs::remove_file(&path).unwrap();
        symlink(target, &path).unwrap();
        let error = follower.poll(&mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

/// 100,000 lines by a writer that, as Nginx does, goes on writing to the renamed file until it is told.
#[test]
fn rotation_under_load_loses_nothing_and_doubles_nothing() {
    const LINES: u64 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mut file = File::create(&path).unwrap();
    let mut follower = Follower::open(&path, From::End).unwrap();
    // Rotations and truncations that were noticed: none before the one before was, as in a day's rotation.
    let (noticed, emptied) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (read, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let shared = (noticed.clone(), emptied.clone(), read.clone(), done.clone());
        thread::spawn(move || {
            let (noticed, emptied, read, done) = shared;
            for number in 0..LINES {
                if number % 10_000 == 4_000 {
                    let nth = number / 10_000;
                    while noticed.load(Ordering::Acquire) != nth {
                        thread::yield_now();
                    }
                    fs::rename(&path, path.with_extension(nth.to_string())).unwrap();
                }
                // Told a thousand lines later; in between the path is nobody's, or already the new file's.
                if number % 10_000 == 4_500 {
                    File::create(&path).unwrap();
                }
                if number % 10_000 == 5_000 {
                    file = OpenOptions::new().append(true).open(&path).unwrap();
                }
                // Only when all was read, so that none can be lost.
                if number % 20_000 == 18_000 {
                    while read.load(Ordering::Acquire) != number {
                        thread::yield_now();
                    }
                    file.set_len(0).unwrap();
                    while emptied.load(Ordering::Acquire) != number / 20_000 + 1 {
                        thread::yield_now();
                    }
                }
                let line = format!("{number} of the lines\n");
                // In two pieces: half a line is none.
                let (half, rest) = line.split_at(usize::try_from(number % 12).unwrap());
                file.write_all(half.as_bytes()).unwrap();
                file.write_all(rest.as_bytes()).unwrap();
            }
            done.store(true, Ordering::Release);
        })
    };
    let mut seen = vec![0_u8; usize::try_from(LINES).unwrap()];
    let mut count = 0;
    loop {
        let last = done.load(Ordering::Acquire);
        follower
            .poll(&mut |line| {
                let line = str::from_utf8(line).unwrap();
                let number: usize = line.strip_suffix(" of the lines").unwrap().parse().unwrap();
                seen[number] += 1;
                count += 1;
            })
            .unwrap();
        noticed.store(follower.rotated, Ordering::Release);
        emptied.store(follower.truncated, Ordering::Release);
        read.store(count, Ordering::Release);
        if last {
            break;
        }
    }
    writer.join().unwrap();
    assert_eq!(seen.iter().filter(|times| **times != 1).count(), 0);
    assert_eq!((follower.rotated, follower.truncated, follower.cut()), (10, 5, 0));
}

proptest! {
    #[test]
    fn lines_are_the_same_in_any_pieces(text in "[ab\n]{0,80}", sizes in prop::collection::vec(1_usize..9, 1..80)) {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut rest = text.as_bytes();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            lines.feed(piece, &mut |line| found.push(String::from_utf8_lossy(line).into_owned()));
            rest = after;
        }
        lines.finish(&mut |line| found.push(String::from_utf8_lossy(line).into_owned()));
        let wanted: Vec<_> = text.lines().map(str::to_owned).collect();
        prop_assert_eq!(found, wanted);
    }
}
