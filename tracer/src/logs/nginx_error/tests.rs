use super::*;
use crate::logs::tests::{fixture, summary, words};

const FIELDS: &str = r#"client: 10.0.0.1, server: x, request: "GET / HTTP/1.1", upstream: "http://10.0.0.9:9001/path", host: "x""#;

fn say(line: &str) -> String {
    words(&parse(line.as_bytes(), &TimeZone::UTC))
}

fn message(text: &str) -> String {
    say(&format!("2026/01/02 03:04:05 [error] 812#812: *17 {text}, {FIELDS}"))
}

/// But for lines of no interest. Of the hostile ones 39, 47 and 48 have no upstream, and 45 is made up by a client.
#[test]
fn real_lines() {
    let text = summary("nginx-error.log", |line| parse(line, &TimeZone::UTC));
    let of_interest = text.lines().filter(|line| !line.ends_with(" nothing"));
    insta::assert_snapshot!(of_interest.collect::<Vec<_>>().join("\n"));
}

#[test]
fn all_of_a_line() {
    let line = format!(
        "2026/01/02 03:04:05 [crit] 812#813: *17 connect() to 10.0.0.9:9001 failed (99: Cannot assign requested address) while connecting to upstream, {FIELDS}"
    );
    let Parsed::Entry(Entry::Trouble(trouble)) = parse(line.as_bytes(), &TimeZone::UTC) else {
        panic!("{line}")
    };
    assert_eq!(
        trouble,
        Trouble {
            at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            pid: Some(812),
            class: Class::PortsExhausted,
            errno: Some(99),
            status: Some(502),
            upstream: Some("10.0.0.9:9001".to_owned()),
            address: Some("10.0.0.9:9001".parse().unwrap()),
        }
    );
    let forwarded = format!("<187>Jan  2 03:04:05 web1 nginx: {line}");
    assert_eq!(parse(forwarded.as_bytes(), &TimeZone::UTC), Parsed::Entry(Entry::Trouble(trouble)));
}

#[test]
fn messages_that_were_not_provoked() {
    let connecting = "while connecting to upstream";
    for (text, wanted) in [
        (
            "bind(10.0.0.1) failed (98: Address already in use) while connecting to upstream",
            "PortsExhausted 98 10.0.0.9:9001",
        ),
        (
            "bind(10.0.0.1) failed (99: Cannot assign requested address) while connecting to upstream",
            "Other 99 10.0.0.9:9001",
        ),
        (
            "writev() failed (32: Broken pipe) while sending request to upstream",
            "Reset 32 10.0.0.9:9001",
        ),
        (
            "connect() failed (113: No route to host) while connecting to upstream",
            "Unreachable 113 10.0.0.9:9001",
        ),
        (
            "connect() failed (112: Host is down) while connecting to upstream",
            "Unreachable 112 10.0.0.9:9001",
        ),
        (
            "socket() failed (23: Too many open files in system) while connecting to upstream",
            "OpenFiles 23 10.0.0.9:9001",
        ),
        (
            "upstream timed out (110: Connection timed out) while SSL handshaking to upstream",
            "ConnectTimeout 110 10.0.0.9:9001",
        ),
        (
            "upstream timed out (110: Connection timed out) while sending request to upstream",
            "ReadTimeout 110 10.0.0.9:9001",
        ),
        (
            "peer closed connection in SSL handshake (104: Connection reset by peer) while SSL handshaking to upstream",
            "Reset 104 10.0.0.9:9001",
        ),
        (
            "peer closed connection in SSL handshake while SSL handshaking to upstream",
            "ClosedEarly 0 10.0.0.9:9001",
        ),
        // Of clients.
        ("peer closed connection in SSL handshake while SSL handshaking", "nothing"),
        ("recv() failed (104: Connection reset by peer) while waiting for request", "nothing"),
        ("SSL_do_handshake() failed (SSL: error:1:x:y) while SSL handshaking", "nothing"),
        (
            "connect() failed (111: Connection refused) while requesting certificate status",
            "nothing",
        ),
        ("connect() failed (999: ?) while connecting to upstream", "nothing"),
    ] {
        assert_eq!(message(text), wanted, "{text}");
    }
    let line = |level: &str| {
        format!(
            "2026/01/02 03:04:05 [{level}] 812#812: *17 connect() failed (111: Connection refused) {connecting}, {FIELDS}"
        )
    };
    assert_eq!(say(&line("info")), "nothing");
    assert_eq!(say(&line("error")), "Refused 111 10.0.0.9:9001");
    assert_eq!(say(&line("loud")), "unknown");
    assert_eq!(
        say("2026/01/02 03:04:05 [alert] 812#812: 768 worker_connections are not enough"),
        "OwnLimit 0 ?"
    );
}

#[test]
fn what_clients_send_moves_nothing() {
    let line = |request: &str, tail: &str| {
        say(&format!(
            "2026/01/02 03:04:05 [error] 812#812: *17 no live upstreams while connecting to upstream, client: 10.0.0.1, server: x, request: \"{request}\", upstream: \"http://app/\", host: \"x\"{tail}"
        ))
    };
    assert_eq!(line("GET / HTTP/1.1", ""), "NoServer 0 app");
    // Before 1.21.1 paths could have spaces.
    assert_eq!(line("GET /\", upstream: \"http://evil/ HTTP/1.1", ""), "NoServer 0 ?");
    assert_eq!(
        line("GET / HTTP/1.1", ", referrer: \"\", upstream: \"http://evil/\""),
        "NoServer 0 ?"
    );
    assert_eq!(
        line("GET /failed (99: x) while connecting to upstream, client: HTTP/1.1", ""),
        "NoServer 0 app"
    );
    // One that says the same changes nothing.
    assert_eq!(
        line("GET / HTTP/1.1", ", referrer: \"\", upstream: \"http://app/other\""),
        "NoServer 0 app"
    );
    // Cut, so that the field may be the client's.
    assert_eq!(line(&"a".repeat(2000), ""), "NoServer 0 ?");
    assert_eq!(
        message(
            "open() \"/srv/connect() failed (99: x) while connecting to upstream\" failed (2: No such file or directory)"
        ),
        "nothing"
    );
    assert_eq!(
        message(
            "open() \"/srv/x could not be resolved (3: Host not found)\" failed (2: No such file)"
        ),
        "nothing"
    );
}

/// A client's path that is no file can be a line of its own, which nothing in it tells. The process's number does.
#[test]
fn a_made_up_line_has_no_workers_number() {
    let lines = fixture("nginx-error.log");
    let pids: Vec<Option<u32>> = lines
        .iter()
        .filter_map(|line| match parse(line, &TimeZone::UTC) {
            Parsed::Entry(Entry::Trouble(trouble)) => Some(trouble.pid),
            _ => None,
        })
        .collect();
    assert_eq!(pids.iter().filter(|pid| **pid == Some(1)).count(), 1);
}

/// What an access log has for each of the real lines that were Nginx's words on a try: of those after the answer's
/// header, and of subrequests, nothing.
#[test]
fn lines_without_a_failed_answer() {
    let without: Vec<usize> = fixture("nginx-error.log")
        .iter()
        .enumerate()
        .filter_map(|(index, line)| match parse(line, &TimeZone::UTC) {
            Parsed::Entry(Entry::Trouble(Trouble { status: None, .. })) => Some(index + 1),
            _ => None,
        })
        .collect();
    // While reading upstream; auth_request; an upgraded and a stream's connection; resolving; accept4().
    assert_eq!(without, [12, 13, 14, 32, 36, 57, 78, 85]);
    let status = |text: &str| {
        let line = format!("2026/01/02 03:04:05 [error] 812#812: *17 {text}, {FIELDS}");
        match parse(line.as_bytes(), &TimeZone::UTC) {
            Parsed::Entry(Entry::Trouble(trouble)) => trouble.status,
            other => panic!("{other:?}"),
        }
    };
    let timed_out = "upstream timed out (110: Connection timed out) while";
    let reset = "recv() failed (104: Connection reset by peer) while";
    for (text, wanted) in [
        (format!("{timed_out} connecting to upstream"), Some(504)),
        (format!("{timed_out} reading response header from upstream"), Some(504)),
        (format!("{timed_out} reading upstream"), None),
        (format!("{reset} sending request to upstream"), Some(502)),
        (format!("{reset} reading upstream"), None),
        ("connect() failed (110: Connection timed out) while connecting to upstream".to_owned(), Some(502)),
        ("socket() failed (24: Too many open files) while connecting to upstream".to_owned(), Some(500)),
        ("bind(10.0.0.1) failed (98: Address already in use) while connecting to upstream".to_owned(), Some(500)),
        ("64 worker_connections are not enough while connecting to upstream".to_owned(), Some(500)),
        ("no live upstreams while connecting to upstream".to_owned(), Some(502)),
        ("upstream prematurely closed connection while reading upstream".to_owned(), None),
        ("upstream sent invalid header: \"a while b\" while reading response header from upstream".to_owned(), Some(502)),
        ("peer closed connection in SSL handshake while SSL handshaking to upstream".to_owned(), Some(502)),
        ("upstream SSL certificate verify error: (18:self-signed certificate) while SSL handshaking to upstream".to_owned(), Some(502)),
    ] {
        assert_eq!(status(&text), wanted, "{text}");
    }
}
