use std::path::Path;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::{
    nginx_access::{Escape, Format},
    *,
};

/// The lines of a fixture: real proxies' output.
pub(super) fn fixture(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/logs").join(name);
    let bytes = std::fs::read(&path).unwrap();
    bytes.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// A line's meaning in few words.
pub(super) fn words(parsed: &Parsed) -> String {
    match parsed {
        Parsed::Nothing => "nothing".to_owned(),
        Parsed::Unknown => "unknown".to_owned(),
        Parsed::Entry(Entry::Trouble(trouble)) => {
            let upstream = trouble.upstream.as_deref().unwrap_or("?");
            assert_eq!(trouble.address, upstream.parse().ok());
            format!("{:?} {} {upstream}", trouble.class, trouble.errno.unwrap_or(0))
        }
        Parsed::Entry(Entry::Answer(answer)) => {
            let tries: Vec<String> = answer
                .tries
                .iter()
                .map(|one| format!("{}={}", one.upstream, one.status.unwrap_or(0)))
                .collect();
            let class = answer.class.map_or("-".to_owned(), |class| format!("{class:?}"));
            let status = answer.status.unwrap_or(0);
            format!("{status} {class} +{} {}", answer.retries, tries.join(" "))
                .trim_end()
                .to_owned()
        }
    }
}

/// Those of a fixture, by number of the line from 1.
pub(super) fn summary(name: &str, parse: impl Fn(&[u8]) -> Parsed) -> String {
    let lines = fixture(name).into_iter().enumerate();
    let lines: Vec<_> =
        lines.map(|(at, line)| format!("{} {}", at + 1, words(&parse(&line)))).collect();
    lines.join("\n")
}

fn kinds() -> Vec<Kind> {
    let formats = [
        (
            r#"$remote_addr - $remote_user [$time_local] "$request" $status us="$upstream_addr" $upstream_status"#,
            Escape::Default,
        ),
        ("$msec $http_a $status $upstream_addr $upstream_status $http_b", Escape::Default),
        (
            r#"{"s":"$status","u":"$upstream_addr","r":"$request","v":"$upstream_status"}"#,
            Escape::Json,
        ),
        ("$http_a $upstream_addr $status|$time_iso8601 $http_b", Escape::None),
    ];
    let formats = formats.map(|(text, escape)| Format::compile(text, escape).unwrap());
    [Kind::NginxError, Kind::HaProxy, Kind::Envoy, Kind::NginxAccess(Format::guess())]
        .into_iter()
        .chain(formats.map(Kind::NginxAccess))
        .collect()
}

fn real_lines() -> Vec<Vec<u8>> {
    let names = [
        "nginx-error.log",
        "nginx-access-combined.log",
        "nginx-access-upstream.log",
        "nginx-access-json.log",
        "nginx-access-spaces.log",
        "haproxy.log",
        "haproxy-syslog.log",
        "envoy.log",
        "envoy-istio.log",
        "envoy-json.log",
    ];
    names.into_iter().flat_map(fixture).collect()
}

#[test]
fn real_lines_cut_anywhere_are_taken() {
    let kinds = kinds();
    for line in real_lines() {
        for end in 0..line.len().min(400) {
            for kind in &kinds {
                let _ = kind.parse(&line[..end], &TimeZone::UTC);
                let _ = kind.parse(&line[end..], &TimeZone::UTC);
            }
        }
    }
}

#[test]
fn the_longest_lines_take_no_longer() {
    let pieces: [&[u8]; 12] = [
        b"\", upstream: \"",
        b"\" ",
        b" : ",
        b", ",
        b" [",
        b"\" 503 UF 0 0 0 - \"",
        b"\\\"",
        b"{\"a\":",
        b"[[[[",
        b" ",
        b"failed (",
        b"connect() ",
    ];
    let starts: [&[u8]; 6] = [
        b"", b"{\"status\":", b"[2026-11-25T12:26:33.121Z] \"",
        b"2026/11/25 12:26:09 [error] 1#1: *1 connect() failed (111: C) while connecting to upstream, client: 1, server: a, request: \"",
        b"1.1.1.1:1 [25/Nov/2026:12:41:12.325] ", b"1.1.1.1 - - [25/Nov/2026:12:26:09 +0000] \"",
    ];
    let started = std::time::Instant::now();
    for (start, piece) in starts.iter().flat_map(|start| pieces.map(|piece| (start, piece))) {
        let line = [start, &*piece.repeat(follow::LONGEST / piece.len())].concat();
        for kind in kinds() {
            let _ = kind.parse(&line, &TimeZone::UTC);
        }
    }
    // 576 lines of 64 KiB; were any of these quadratic it would be minutes.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for kind in kinds() {
            let _ = kind.parse(&bytes, &TimeZone::UTC);
        }
    }

    #[test]
    fn damaged_lines_are_taken(index in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
                               with in prop::collection::vec(any::<u8>(), 0..6), drop in 0_usize..8) {
        let lines = real_lines();
        let mut line = index.get(&lines).clone();
        let from = at.index(line.len() + 1);
        let to = (from + drop).min(line.len());
        line.splice(from..to, with);
        for kind in kinds() {
            let _ = kind.parse(&line, &TimeZone::UTC);
        }
    }
}

/// `cargo test --release -p socklife --lib logs::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn speed() {
    for (name, kind) in [
        ("nginx-error.log", Kind::NginxError),
        ("haproxy.log", Kind::HaProxy),
        ("envoy.log", Kind::Envoy),
        ("nginx-access-combined.log", Kind::NginxAccess(Format::guess())),
        ("nginx-access-json.log", Kind::NginxAccess(Format::guess())),
    ] {
        let lines: Vec<_> = fixture(name).into_iter().filter(|line| line.len() < 600).collect();
        let started = std::time::Instant::now();
        let rounds = 1_000_000 / lines.len();
        for _ in 0..rounds {
            for line in &lines {
                std::hint::black_box(kind.parse(line, &TimeZone::UTC));
            }
        }
        let each = started.elapsed() / u32::try_from(rounds * lines.len()).unwrap();
        eprintln!("{name}: {each:?} a line");
    }
}
