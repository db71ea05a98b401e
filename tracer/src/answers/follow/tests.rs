//! Logs that grow under a reader.

use std::{
    collections::BTreeMap, fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path,
};

use jiff::{Timestamp, tz::TimeZone};

use super::*;
use crate::{
    answers::{
        read::{Log, open},
        summary::summary,
    },
    logs::{Class, Kind, follow::From, nginx_access::Format},
    proxies::nginx::settings::Escape,
};

struct Room {
    directory: tempfile::TempDir,
    following: Following,
    folded: Mutex<Folded>,
}

impl Room {
    fn new(format: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let format = Format::compile(format, Escape::Default).unwrap();
        let files = [("error.log", Kind::NginxError), ("access.log", Kind::NginxAccess(format))];
        let logs = files.map(|(name, kind)| {
            let path = directory.path().join(name);
            fs::write(&path, "").unwrap();
            Log { path, kind }
        });
        let readings = open(&logs, From::End, &TimeZone::UTC).unwrap();
        let (following, folded) = Following::new(readings, Accounts::new(&logs));
        Self { directory, following, folded: Mutex::new(folded) }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn explained(&self) -> Vec<(&'static str, u64)> {
        let folded = lock(&self.folded);
        let sum = summary(&folded.accounts, &BTreeMap::new(), &BTreeMap::new(), 0);
        let by = sum.upstreams.iter().flat_map(|it| &it.by);
        by.map(|by| (by.class, by.answers)).collect()
    }
}

/// As Nginx in a zone that is so many hours off has it.
fn refused(at: Timestamp, hours: i64) -> String {
    let at = at + SignedDuration::from_hours(hours);
    format!(
        "{} [error] 7#7: *1 connect() failed (111: X) while connecting to upstream, client: 10.0.0.1, server: , \
         request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.9:80/\"\n",
        at.strftime("%Y/%m/%d %H:%M:%S")
    )
}

const FORMAT: &str = "$status $upstream_addr $upstream_status $msec";

#[test]
fn a_log_of_another_zone_explains_as_well() {
    for hours in [0, 2, -7] {
        let mut room = Room::new(FORMAT);
        let now = Timestamp::now();
        let answer = format!("502 10.0.0.9:80 502 {}.5\n", now.as_second());
        room.write("error.log", &refused(now, hours));
        room.write("access.log", &answer);
        assert!(room.following.step(&room.folded));
        assert_eq!(room.explained(), [("refused", 1)], "{hours}");
    }
}

/// What a time becomes in a line that is read at noon.
fn corrected(shift: &mut Shift, at: &str) -> String {
    let at = Some(at.parse().unwrap());
    let (pid, errno, status, upstream, address) = (None, None, None, None, None);
    let trouble = Trouble { at, pid, class: Class::Refused, errno, status, upstream, address };
    let noon = "2026-11-25T12:00:00Z".parse().unwrap();
    shift.correct(trouble, noon).at.unwrap().to_string()
}

#[test]
fn a_made_up_time_moves_no_other() {
    let mut shift = Shift::default();
    for (at, wanted) in [
        ("2026-11-25T13:59:58Z", "2026-11-25T11:59:58Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-11-25T11:59:59Z", "2026-11-25T11:59:59Z"),
        ("2026-11-25T06:30:01Z", "2026-11-25T12:00:01Z"),
    ] {
        assert_eq!(corrected(&mut shift, at), wanted);
    }
    // An hour late, and of the zone that was found before.
    shift.is_behind = true;
    assert_eq!(corrected(&mut shift, "2026-11-25T05:30:00Z"), "2026-11-25T11:00:00Z");
}

#[test]
fn answers_without_a_time_are_of_now() {
    let mut room = Room::new("$status $upstream_addr $upstream_status");
    let old = Timestamp::now() - SignedDuration::from_mins(6);
    // Its request is not logged.
    room.write("error.log", &refused(old, 0).replace("failed (111", "failed (113"));
    assert!(room.following.step(&room.folded));
    room.write("error.log", &refused(Timestamp::now(), 0));
    room.write("access.log", "502 10.0.0.9:80 502\n");
    assert!(room.following.step(&room.folded));
    assert_eq!(room.explained(), [("refused", 1), ("unreachable", 0)]);
}

fn reads_all() -> bool {
    // Root reads everything.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o0)).unwrap();
    fs::File::open(file.path()).is_ok()
}

/// Between logrotate's creating it and giving it to its group.
fn make_unreadable(path: &Path) {
    fs::rename(path, path.with_extension("1")).unwrap();
    if reads_all() {
        fs::create_dir(path).unwrap();
    } else {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o0)).unwrap();
    }
}

fn make_readable(path: &Path) {
    if path.is_dir() {
        fs::remove_dir(path).unwrap();
        fs::write(path, "").unwrap();
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_log_that_can_be_read_again_is_not_broken_any_more() {
    let mut room = Room::new(FORMAT);
    let path = room.directory.path().join("error.log");
    let health = |room: &Room| lock(&room.folded).health[1].clone();
    make_unreadable(&path);
    room.following.step(&room.folded);
    let (_, why) = health(&room).broken.unwrap();
    assert!(why.contains("error.log"), "{why}");
    make_readable(&path);
    let now = Timestamp::now();
    room.write("error.log", &refused(now, 0));
    room.write("access.log", &format!("502 10.0.0.9:80 502 {}.5\n", now.as_second()));
    room.following.step(&room.folded);
    let told = health(&room);
    let gap = told.gap.unwrap();
    assert_eq!((told.broken, gap.why), (None, why));
    assert!(gap.from <= gap.to && gap.to.ends_with('Z'), "{} {}", gap.from, gap.to);
    assert_eq!(room.explained(), [("refused", 1)]);
}

#[test]
fn only_answers_that_may_have_lines_wait() {
    let mut room = Room::new(FORMAT);
    room.write("access.log", &"200 10.0.0.9:80 200 1.0\n".repeat(100));
    room.write("access.log", "200 10.0.0.9:80, 10.0.0.9:80 502, 200 1.0\n");
    // Before the error log is read.
    room.following.logs.truncate(1);
    room.following.step(&room.folded);
    let kept = room.following.held.capacity();
    assert!(kept < 8, "{kept} were kept");
    assert_eq!(lock(&room.folded).accounts.iter().map(|it| it.succeeded).sum::<u64>(), 101);
}

/// An answer waits while the line that explains it is not read yet.
#[test]
fn answers_wait_for_an_error_log_that_is_read_in_parts() {
    let mut room = Room::new(FORMAT);
    let now = Timestamp::now();
    let other = refused(now, 0).replace("10.0.0.9", "10.0.0.8");
    room.write("error.log", &other.repeat((9 << 20) / other.len()));
    room.write("error.log", &refused(now, 0));
    room.write("access.log", &format!("502 10.0.0.9:80 502 {}.000\n", now.as_second()));
    assert!(!room.following.step(&room.folded));
    assert_eq!(room.explained(), [("refused", 0)]);
    assert!(room.following.step(&room.folded));
    assert_eq!(room.explained(), [("refused", 1), ("refused", 0)]);
}

#[test]
fn what_is_passed_over_is_told() {
    let mut room = Room::new(FORMAT);
    let line = format!("200 10.0.0.9:80 200 {}.000\n", Timestamp::now().as_second());
    let many = line.repeat((270 << 20) / line.len());
    room.write("access.log", &many);
    while !room.following.step(&room.folded) {}
    let folded = lock(&room.folded);
    let seen = folded.accounts.iter().map(|account| account.succeeded).sum::<u64>();
    // One is cut where reading goes on.
    let lines = folded.skipped_bytes.div_ceil(line.len() as u64) + seen;
    assert!(folded.skipped_bytes > 200 << 20, "{}", folded.skipped_bytes);
    assert!(lines.abs_diff((many.len() / line.len()) as u64) <= 1, "{lines}");
}
