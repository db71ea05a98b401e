use super::*;
use crate::logs::tests::{summary, words};

fn say(line: &str) -> String {
    words(&parse(line.as_bytes(), &TimeZone::UTC))
}

#[test]
fn real_lines() {
    insta::assert_snapshot!(summary("haproxy.log", |line| parse(line, &TimeZone::UTC)));
}

#[test]
fn real_lines_of_syslog() {
    insta::assert_snapshot!(summary("haproxy-syslog.log", |line| parse(line, &TimeZone::UTC)));
}

/// The manual's own, as rsyslog and others write it.
#[test]
fn headers_of_syslog() {
    let line = r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1""#;
    for header in [
        "",
        "Nov 25 11:00:00 host haproxy[123]: ",
        "<134>Nov 25 11:00:00 host haproxy[123]: ",
        "2026-11-25T11:00:00.123456+01:00 host haproxy[123]: ",
        "Nov 25 11:00:00 host haproxy: ",
        "<134>1 2026-11-25T12:41:33.297000+00:00 host haproxy 123 - - ",
    ] {
        let Parsed::Entry(Entry::Answer(answer)) =
            parse(format!("{header}{line}").as_bytes(), &TimeZone::UTC)
        else {
            panic!("{header}")
        };
        assert_eq!(answer.at, Some("2009-02-06T12:14:14.764Z".parse().unwrap()));
        assert_eq!(answer.tries[0].upstream, "static/srv1");
    }
    let Parsed::Entry(Entry::Trouble(trouble)) = parse(
        b"Nov 25 11:00:00 host haproxy[123]: Connect() failed for backend app: no free ports.",
        &TimeZone::UTC,
    ) else {
        panic!()
    };
    assert_eq!((trouble.pid, trouble.class), (Some(123), Class::PortsExhausted));
}

#[test]
fn states_that_were_not_provoked() {
    let line = |state: &str, server: &str| {
        say(&format!(
            r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] web app/{server} 10/0/-1/-1/+109 503 +2750 - - {state} 1/1/1/1/+2 0/0 "GET / HTTP/1.1""#
        ))
    };
    assert_eq!(line("RC--", "s"), "503 Connect +2 app/s=503");
    assert_eq!(line("PC--", "s"), "503 OpenFiles +2 app/s=503");
    assert_eq!(line("SQ--", "s"), "503 OwnLimit +2 app/s=503");
    assert_eq!(line("CD--", "s"), "503 - +2 app/s=503");
    assert_eq!(line("CH--", "s"), "503 - +2 app/s=503");
    assert_eq!(line("LR--", "<STATS>"), "503 - +2");
    assert_eq!(line("XX--", "s"), "unknown");
    assert_eq!(line("S", "s"), "unknown");
    assert_eq!(say("what is this"), "unknown");
    assert_eq!(
        say("Proxy web reached system FD limit (maxsock=428). Please check system tunables."),
        "OpenFiles 0 ?"
    );
}

#[test]
fn lines_of_other_programs_are_nothing() {
    let line = r#"1.2.3.4:5 [25/Nov/2026:12:41:12.325] f b/s1 0/0/-1/-1/5 503 217 - - SC-- 1/1/0/0/3 0/0 "GET / HTTP/1.1""#;
    let fields = line.strip_prefix("1.2.3.4:5").unwrap();
    for other in [
        format!("Nov 25 11:00:00 host sshd[99]: Invalid user {line}"),
        format!("Nov 25 11:00:00 host sshd[99]: {line}"),
        format!("<86>Nov 25 11:00:00 sshd[99]: {line}"),
        format!("2026-11-25T11:00:00.123456+01:00 host kernel: {line}"),
        format!("<134>1 2026-11-25T12:41:33.297000+00:00 host sshd 99 - - {line}"),
        format!("sshd[99]: haproxy[1]: {line}"),
        "Nov 25 11:00:00 host last message repeated 2 times".to_owned(),
        "Nov 25 11:00:00 host app[1]: Connect() failed for backend app: no free ports.".to_owned(),
        "Nov 25 11:00:00 host app[1]: what haproxy: says".to_owned(),
    ] {
        assert_eq!(say(&other), "nothing", "{other}");
    }
    // What its own lines have to begin with.
    for client in
        ["Invalid user 1.2.3.4:5", "x", "1.2.3.4", "1.2.3.4:x", "unix:x", "1.2.3.4:70000", ""]
    {
        for header in ["", "Nov 25 11:00:00 host haproxy[1]: "] {
            assert_eq!(say(&format!("{header}{client}{fields}")), "unknown", "{client}");
        }
    }
    for client in ["2001:db8::1:443", "unix:1", "-:-", "::ffff:1.2.3.4:5"] {
        for header in ["", "2026-11-25T11:00:00.1Z stdout F ", "Nov 25 11:00:00 haproxy-web[1]: "] {
            let line = format!("{header}{client}{fields}");
            assert_eq!(say(&line), "503 Connect +3 b/s1=503", "{line}");
        }
    }
}
