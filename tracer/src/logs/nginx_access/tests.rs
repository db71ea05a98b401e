use super::{format::Error, *};
use crate::logs::tests::{fixture, summary, words};

const QUOTED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" ua="$upstream_addr" us="$upstream_status" rt=$request_time"#;
const JSON: &str = r#"{"t":"$time_iso8601","status":$status,"upstream_addr":"$upstream_addr","upstream_status":"$upstream_status","request":"$request","ref":"$http_referer"}"#;
const SPACES: &str = "$msec $http_user_agent $status $upstream_addr $upstream_status $http_referer";

fn format(text: &str) -> Format {
    Format::compile(text, Escape::Default).unwrap()
}

fn say(format: &Format, line: &str) -> String {
    words(&format.parse(line.as_bytes()))
}

#[test]
fn real_lines() {
    insta::assert_snapshot!(summary("nginx-access-upstream.log", |line| format(QUOTED).parse(line)));
}

/// The same requests: what a format leaves unknown is unknown, and the rest is the same.
#[test]
fn real_lines_in_other_formats() {
    let quoted = summary("nginx-access-upstream.log", |line| format(QUOTED).parse(line));
    let json = Format::compile(JSON, Escape::Json).unwrap();
    assert_eq!(summary("nginx-access-json.log", |line| json.parse(line)), quoted);
    let guessed = summary("nginx-access-json.log", |line| Format::guess().parse(line));
    // Nginx wrote a status as 009 there, which is none of JSON.
    let unknown = guessed.lines().zip(quoted.lines()).filter(|(guessed, quoted)| guessed != quoted);
    assert_eq!(unknown.map(|(guessed, _)| guessed).collect::<Vec<_>>(), ["6 unknown"]);
    let spaces = summary("nginx-access-spaces.log", |line| format(SPACES).parse(line));
    let unknown = spaces.lines().zip(quoted.lines()).filter(|(spaces, quoted)| spaces != quoted);
    // Lists beside headers of clients, and headers with spaces.
    let wanted =
        ["12 unknown", "13 unknown", "23 unknown", "33 unknown", "37 unknown", "40 unknown"];
    assert_eq!(unknown.map(|(spaces, _)| spaces).collect::<Vec<_>>(), wanted);
    let statuses = |text: &str| {
        text.lines()
            .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    for name in ["nginx-access-combined.log", "nginx-access-upstream.log"] {
        assert_eq!(statuses(&summary(name, |line| Format::guess().parse(line))), statuses(&quoted));
    }
}

#[test]
fn times() {
    let at = |parsed| match parsed {
        Parsed::Entry(Entry::Answer(answer)) => answer.at.unwrap(),
        other => panic!("{other:?}"),
    };
    let compiled = Format::compile(JSON, Escape::Json).unwrap();
    for line in
        fixture("nginx-access-spaces.log").into_iter().zip(fixture("nginx-access-json.log")).take(5)
    {
        let seconds = at(format(SPACES).parse(&line.0)).as_second();
        assert_eq!(at(compiled.parse(&line.1)).as_second(), seconds);
        assert!((1_795_609_569..1_795_609_580).contains(&seconds));
    }
    for json in [
        r#""ts":1795609569.5"#,
        r#""@timestamp":"2026-11-25T12:26:09.5Z""#,
        r#""time":"2026-11-25T13:26:09.5+01:00""#,
    ] {
        let parsed = Format::guess().parse(format!(r#"{{"status":"502",{json}}}"#).as_bytes());
        assert_eq!(at(parsed), "2026-11-25T12:26:09.5Z".parse().unwrap(), "{json}");
    }
}

#[test]
fn formats_of_no_use_are_refused() {
    let refused = |text: &str| Format::compile(text, Escape::Default).unwrap_err();
    assert_eq!(refused("$remote_addr $request"), Error::NoStatus);
    assert_eq!(refused("$status cost: 5$"), Error::NoName(15));
    assert_eq!(refused("${status"), Error::NoName(0));
    assert_eq!(refused("$status$request"), Error::Adjacent("status".to_owned()));
    assert_eq!(
        refused("$request${upstream_addr} $status"),
        Error::Adjacent("upstream_addr".to_owned())
    );
    assert_eq!(say(&format("$bytes_sent$pipe=${status}x"), "12p=502x"), "502 - +0");
}

#[test]
fn headers_of_clients_move_nothing() {
    // Between a header and the end that is told.
    let spaced = format("$http_a $status $request_time");
    assert_eq!(say(&spaced, "a 200 0.1 b 502 0.003"), "502 - +0");
    // Between two headers nothing is.
    let both = format("$http_a $status $http_b");
    assert_eq!(say(&both, "a 502 b"), "502 - +0");
    assert_eq!(say(&both, "a 200 x 502 b"), "unknown");
    // A list that a header could go on with.
    let list = format("$status $upstream_addr $http_a");
    assert_eq!(say(&list, "502 10.0.0.9:80 : 6.6.6.6:6"), "unknown");
    assert_eq!(say(&list, "502 10.0.0.9:80 x"), "502 - +0 10.0.0.9:80=0");
    let list = format("$http_a $upstream_addr|$status");
    assert_eq!(say(&list, "x 6.6.6.6:6, 10.0.0.9:80|502"), "unknown");
    // A list before a value that is none of a client.
    let list = format("$upstream_addr $upstream_status $status $http_a");
    assert_eq!(
        say(&list, "1.1.1.1:1, 2.2.2.2:2 : 3.3.3.3:3 502, 504 : 200 200 : 9.9.9.9:9"),
        "200 - +0 1.1.1.1:1=502 2.2.2.2:2=504 3.3.3.3:3=200"
    );
    // A quote that is escaped is none, in JSON; where nothing is escaped, nothing is told.
    let json = Format::compile(r#"{"a":"$http_a","s":"$status"}"#, Escape::Json).unwrap();
    assert_eq!(say(&json, r#"{"a":"x\",\"s\":\"200","s":"502"}"#), "502 - +0");
    assert_eq!(say(&json, r#"{"a":"x\\","s":"502"}"#), "502 - +0");
    let none = Format::compile(r#"{"a":"$http_a","s":"$status"}"#, Escape::None).unwrap();
    assert_eq!(say(&none, r#"{"a":"x","s":"502"}"#), "502 - +0");
    let guess = Format::guess();
    assert_eq!(
        say(&guess, r#"1.1.1.1 - a [b] [25/Nov/2026:12:26:16 +0000] "GET / HTTP/1.1" 502 1"#),
        "502 - +0"
    );
    assert_eq!(say(&guess, r#"{"status":502,"status":200}"#), "unknown");
    assert_eq!(say(&guess, "502"), "unknown");
}

#[test]
fn tries_that_are_told_and_those_that_are_not() {
    let answer = |format: &Format, line: &str| match format.parse(line.as_bytes()) {
        Parsed::Entry(Entry::Answer(answer)) => {
            let tries = answer.tries.iter().map(|it| (it.upstream.clone(), it.status));
            (answer.tells_tries, tries.collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    let (a, b) = ("10.0.0.8:80".to_owned(), "10.0.0.9:80".to_owned());
    let full = format("$status [$upstream_addr] $upstream_status");
    for none in ["500 [] -", "503 [-] -"] {
        assert_eq!(answer(&full, none), (true, vec![]), "{none}");
    }
    let wanted = vec![(a.clone(), Some(502)), (String::new(), None)];
    assert_eq!(answer(&full, "500 [10.0.0.8:80 : ] 502 : -"), (true, wanted));
    assert_eq!(answer(&Format::guess(), r#"{"status":500,"upstream_addr":""}"#), (true, vec![]));
    assert_eq!(answer(&Format::guess(), r#"{"status":500}"#), (false, vec![]));
    // A stream's: the next server is tried after a failure alone.
    let stream = format("$status [$upstream_addr]");
    let wanted = vec![(a.clone(), Some(502)), (b.clone(), None)];
    assert_eq!(answer(&stream, "200 [10.0.0.8:80, 10.0.0.9:80]"), (true, wanted));
    let wanted = vec![(a, None), (b, None)];
    assert_eq!(answer(&stream, "200 [10.0.0.8:80 : 10.0.0.9:80]"), (true, wanted));
}
