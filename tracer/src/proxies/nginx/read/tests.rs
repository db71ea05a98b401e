use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::*;
use crate::proxies::nginx::settings::{Escape, Pass};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/nginx");

/// The files of this machine.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

/// Files that are made up, all in `/c`.
struct Memory(BTreeMap<String, Vec<u8>>);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let name = path.strip_prefix("/c").ok().and_then(Path::to_str);
        name.and_then(|name| self.0.get(name).cloned()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        if directory != Path::new("/c") {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(self.0.keys().map(OsString::from).collect())
    }
}

fn fixture(name: &str) -> Settings {
    read(&Disk, &Path::new(FIXTURES).join(name), Path::new("/p"), "").unwrap()
}

fn files(files: &[(&str, &str)]) -> Memory {
    Memory(
        files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect(),
    )
}

fn of(text: &str) -> Settings {
    read(&files(&[("m", text)]), Path::new("/c/m"), Path::new("/p"), "").unwrap()
}

/// Target, address, bind and `kept` of each pass.
fn passes(settings: &Settings) -> Vec<String> {
    let shown = |pass: &Pass| {
        let address =
            pass.address.map_or("-".to_owned(), |(address, port)| format!("{address} {port}"));
        let bind = pass.bind.as_deref().unwrap_or("-");
        format!("{} {} | {address} | {bind} | {}", pass.directive, pass.target, pass.kept)
    };
    settings.passes.iter().map(shown).collect()
}

fn listens(settings: &Settings) -> Vec<(Option<u16>, Option<u32>, bool)> {
    settings.listens.iter().map(|it| (it.port, it.backlog, it.reuseport)).collect()
}

fn no_paths() -> [PathBuf; 0] {
    []
}

#[test]
fn tls_proxy() {
    let settings = fixture("tls_proxy.conf");
    assert_eq!(settings.unread, [""; 0]);
    assert_eq!(settings.worker_processes.value, None);
    assert_eq!(settings.worker_processes.place.as_ref().unwrap().line, 3);
    assert_eq!(settings.worker_connections.value, 4096);
    assert_eq!(settings.worker_rlimit_nofile.as_ref().unwrap().value, 65535);
    let [app, still] = settings.upstreams.as_slice() else { panic!("{:?}", settings.upstreams) };
    assert_eq!(
        (app.name.as_str(), app.zone, app.keepalive, app.stream),
        ("app", true, Some(64), false)
    );
    assert_eq!(still.keepalive, None);
    let limits: Vec<_> = app.servers.iter().map(|it| (it.max_conns, it.backup, it.down)).collect();
    let none = (None, false, false);
    assert_eq!(
        limits,
        [
            (Some(200), false, false),
            (Some(200), false, false),
            (None, true, false),
            (None, false, true),
            none
        ]
    );
    assert_eq!(app.servers[3].address, None);
    assert_eq!(app.servers[4].address, Some(("2001:db8::14".parse().unwrap(), 8080)));
    assert_eq!(still.servers[0].address, None);
    assert_eq!(still.servers[1].address, Some(("10.0.0.21".parse().unwrap(), 80)));
    assert_eq!(
        passes(&settings),
        [
            "proxy_pass app | - | $local_ip | true",
            "proxy_pass static | - | $local_ip | false",
            "proxy_pass 10.0.0.30 | 10.0.0.30 443 | $local_ip | true",
            "proxy_pass 10.0.0.31:9000 | 10.0.0.31 9000 | 10.0.0.2 | true",
            "proxy_pass $backend$request_uri | - | - | true",
            "proxy_pass app | - | 10.0.0.2 | true",
        ]
    );
    assert_eq!(
        listens(&settings),
        [
            (Some(80), Some(4096), false),
            (Some(80), None, false),
            (Some(443), Some(8192), true),
            (None, None, false)
        ]
    );
    assert_eq!(settings.error_logs, [Path::new("/var/log/nginx/error.log")]);
    let [timed, json] = settings.access_logs.as_slice() else {
        panic!("{:?}", settings.access_logs)
    };
    assert_eq!(timed.path, Path::new("/var/log/nginx/access.log"));
    assert!(timed.format.as_ref().unwrap().contains("\"$request\" $status $body"));
    assert_eq!((&*json.path, json.escape), (Path::new("logs/$host.log"), Escape::Json));
    assert_eq!(
        json.format.as_deref(),
        Some(r#"{"time":"$time_iso8601","status":"$status","upstream":"$upstream_addr"}"#)
    );
    assert_eq!(settings.upstream_of(&settings.passes[1]).unwrap().name, "Static");
    assert!(settings.upstream_of(&settings.passes[2]).is_none());
}

#[test]
fn what_leads_to_an_address() {
    let settings = fixture("tls_proxy.conf");
    let lines = |address: &str, port| {
        let found = settings.toward(address.parse().unwrap(), port);
        found.map(|(pass, upstream)| (pass.place.line, upstream.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(lines("10.0.0.12", 8080), [(57, true), (77, true)]);
    assert_eq!(lines("::ffff:10.0.0.12", 8080), lines("10.0.0.12", 8080));
    assert_eq!(lines("10.0.0.21", 80), [(62, true)]);
    assert_eq!(lines("10.0.0.30", 443), [(66, false)]);
    assert_eq!(lines("10.0.0.12", 80), []);
    let both = of("http{upstream a{server 1.1.1.1:1;} server{location /{proxy_pass http://A;}}}
        stream{upstream a{server 2.2.2.2:2;} server{proxy_pass a;}}");
    let upstreams = |address: &str, port| both.toward(address.parse().unwrap(), port).count();
    assert_eq!(
        (upstreams("1.1.1.1", 1), upstreams("2.2.2.2", 2), upstreams("2.2.2.2", 1)),
        (1, 1, 0)
    );
}

#[test]
fn ingress() {
    let settings = fixture("ingress.conf");
    assert_eq!(settings.unread, [""; 0]);
    assert_eq!(settings.worker_processes.value, Some(4));
    assert_eq!(settings.worker_connections.value, 16384);
    assert_eq!(settings.upstreams.len(), 2);
    assert_eq!(settings.upstreams[0].keepalive, Some(320));
    assert!(settings.upstreams[1].stream);
    assert_eq!(
        passes(&settings),
        [
            "proxy_pass upstream_balancer | - | - | true",
            "proxy_pass upstream_balancer | - | - | false"
        ]
    );
    let ports = listens(&settings);
    assert_eq!(ports[2], (Some(443), Some(16384), true));
    assert_eq!(ports.len(), 4);
    assert_eq!(settings.access_logs.len(), 2);
}

#[test]
fn grpc_and_websockets() {
    assert_eq!(
        passes(&fixture("grpc_websocket.conf")),
        [
            "grpc_pass grpc_back | - | 10.9.9.9 | true",
            "grpc_pass 10.2.0.1:50443 | 10.2.0.1 50443 | - | true",
            "grpc_pass localhost:50051 | - | - | true",
            "proxy_pass sockets | - | - | true",
            "proxy_pass sockets | - | - | false",
            "proxy_pass sockets | - | - | false",
        ]
    );
}

#[test]
fn lua() {
    let settings = fixture("lua.conf");
    assert_eq!(settings.worker_connections.value, 77);
    assert_eq!(listens(&settings), [(Some(8081), None, false)]);
    assert_eq!(passes(&settings), ["proxy_pass 10.7.0.1:7000 | 10.7.0.1 7000 | - | false"]);
    assert_eq!(settings.passes[0].place.line, 21);
}

#[test]
fn odd_quoting() {
    let settings = fixture("quoting.conf");
    assert_eq!(settings.worker_processes.value, Some(3));
    assert_eq!(listens(&settings), [(Some(8080), None, false)]);
    assert_eq!(passes(&settings), ["proxy_pass 127.0.0.1:81 | 127.0.0.1 81 | - | true"]);
    assert_eq!(settings.passes[0].place.line, 15);
}

#[test]
fn data_is_not_taken_for_directives() {
    let settings = fixture("maps.conf");
    assert_eq!(settings.unread, [""; 0]);
    assert_eq!(settings.files.len(), 1);
    assert_eq!(
        passes(&settings),
        [
            "proxy_pass $target | - | - | false",
            "proxy_pass org$request_uri | - | - | false",
            "memcached_pass 127.0.0.1:11211 | 127.0.0.1 11211 | - | true",
            "uwsgi_pass unix:/run/u.sock | - | 10.0.0.7 | false",
            "scgi_pass localhost:4000 | - | - | false",
        ]
    );
    let ports: Vec<_> = settings.listens.iter().map(|it| it.port).collect();
    assert_eq!(ports, [Some(8000), Some(8001), Some(8002)]);
    assert_eq!(settings.worker_connections.value, 512);
    assert_eq!(settings.worker_connections.place, None);
}

#[test]
fn stream_and_mail() {
    let settings = fixture("stream_mail.conf");
    assert_eq!(settings.unread, [""; 0]);
    assert_eq!(
        passes(&settings),
        [
            "proxy_pass db | - | 10.3.0.9 | false",
            "proxy_pass 10.3.0.53:53 | 10.3.0.53 53 | 10.3.0.9 | false",
            "proxy_pass 10.3.0.4:6379 | 10.3.0.4 6379 | - | false",
            "proxy_pass $name | - | 10.3.0.9 | false",
        ]
    );
    let db = &settings.upstreams[0];
    assert_eq!(db.servers[0].max_conns, Some(50));
    // In `stream` there is no port of a scheme.
    assert_eq!(db.servers[2].address, None);
    let ports: Vec<_> = settings.listens.iter().map(|it| it.port).collect();
    assert_eq!(ports, [5432, 6379, 8443, 110, 143, 1935].map(Some));
    assert_eq!(settings.listens[0].backlog, Some(512));
    let logs = ["/p/logs/error.log", "/var/log/nginx/mail.log"].map(Path::new);
    assert_eq!(settings.error_logs, logs);
    assert_eq!(settings.access_logs[0].path, Path::new("/p/logs/stream.log"));
}

#[test]
fn lines_of_windows_and_a_missing_file() {
    let settings = fixture("php_crlf.conf");
    assert_eq!(settings.upstreams[0].keepalive, Some(8));
    assert_eq!(
        passes(&settings),
        [
            "fastcgi_pass php | - | - | true",
            "fastcgi_pass 10.0.0.5:9000 | 10.0.0.5 9000 | - | false"
        ]
    );
    assert_eq!(
        settings.unread,
        ["/nowhere/fastcgi_params: No such file or directory (os error 2)"]
    );
}

#[test]
fn includes() {
    let settings = fixture("includes/nginx.conf");
    let within = Path::new(FIXTURES).join("includes");
    let names = settings.files.iter().map(|file| file.strip_prefix(&within).unwrap());
    let expected = [
        "nginx.conf",
        "events.conf",
        "snippets/keep.conf",
        "conf.d/20-back.conf",
        "servers.conf",
        "sites/alpha/server1.conf",
        // As whole paths are sorted: `-` comes before `/`.
        "sites/beta-2/server2.conf",
        "sites/beta/server1.conf",
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected.map(Path::new));
    let [missing] = settings.unread.as_slice() else { panic!("{:?}", settings.unread) };
    assert!(missing.contains("missing.conf: No such file"), "{missing}");
    assert_eq!(settings.worker_connections.value, 333);
    assert_eq!(settings.upstreams[0].servers[1].max_conns, Some(7));
    assert_eq!(settings.upstreams[0].servers[1].place.file, within.join("servers.conf"));
    assert_eq!(passes(&settings), ["proxy_pass back | - | - | true"; 3]);
}

#[test]
fn includes_that_never_end() {
    let read =
        |all: &[(&str, &str)]| read(&files(all), Path::new("/c/m"), Path::new("/p"), "").unwrap();
    let settings = read(&[
        ("m", "include m; include a; worker_processes 2;"),
        ("a", "include b;"),
        ("b", "include a;"),
    ]);
    assert_eq!(
        settings.unread,
        ["/c/m: includes itself, by /c/m", "/c/a: includes itself, by /c/b"]
    );
    assert_eq!(settings.worker_processes.value, Some(2));
    // Each level twice: 2 to the power of 40 in all.
    let levels: Vec<(String, String)> = (0..40)
        .map(|level| (format!("l{level}"), format!("include l{0}; include l{0};", level + 1)))
        .collect();
    let mut all: Vec<(&str, &str)> = levels.iter().map(|(name, text)| (&**name, &**text)).collect();
    all.extend([("m", "include l0;"), ("l40", "")]);
    let settings = read(&all);
    assert_eq!(settings.files.len(), 10_000);
    assert_eq!(settings.unread.last().unwrap(), "left out what comes after more than 10000 files");
    // A chain.
    let levels: Vec<(String, String)> =
        (0..100).map(|level| (format!("l{level}"), format!("include l{};", level + 1))).collect();
    let mut all: Vec<(&str, &str)> = levels.iter().map(|(name, text)| (&**name, &**text)).collect();
    all.push(("m", "include l0;"));
    assert_eq!(read(&all).unread, ["/c/l63: over 64 files that include each other"]);
}

#[test]
fn a_broken_file_breaks_nothing_else() {
    let all = files(&[
        ("m", "http { include a.conf; include /c/?.c*f; server { listen 2; } }"),
        ("a.conf", "server { listen 1; location / {\n x 'y'z;"),
    ]);
    let settings = read(&all, Path::new("/c/m"), Path::new("/p"), "").unwrap();
    assert_eq!(settings.listens.iter().map(|it| it.port).collect::<Vec<_>>(), [1, 1, 2].map(Some));
    assert_eq!(settings.unread, ["/c/a.conf, line 2: unexpected \"z\": left out from there on"; 2]);
    let error = |text: &str, globals: &str| {
        read(&files(&[("m", text)]), Path::new("m"), Path::new("/c"), globals)
            .unwrap_err()
            .to_string()
    };
    assert!(error("a {", "").starts_with("/c/m, line 1: unexpected end of file"));
    assert!(error("", "daemon off").starts_with("-g, line 1"));
    let missing = read(&files(&[]), Path::new("/c/m"), Path::new("/"), "").unwrap_err().to_string();
    assert!(missing.starts_with("can't read /c/m, the configuration of Nginx: "), "{missing}");
}

#[test]
fn directives_of_the_command_line() {
    let all = files(&[("m", "events{}")]);
    let globals = "worker_processes 7; worker_rlimit_nofile 99; daemon off;";
    let settings = read(&all, Path::new("/c/m"), Path::new("/p"), globals).unwrap();
    assert_eq!(settings.worker_processes.value, Some(7));
    assert_eq!(settings.worker_processes.place.unwrap().file, Path::new("-g"));
    assert_eq!(settings.worker_rlimit_nofile.unwrap().value, 99);
}

#[test]
fn what_makes_no_sense_is_noted() {
    let settings =
        of("worker_processes lots; events{worker_connections \x1b;} http{access_log /a none;}");
    assert_eq!(
        settings.unread,
        [
            "/c/m:1: worker_processes lots: no number",
            "/c/m:1: worker_connections \\u{1b}: no number",
            "/c/m:1: access_log /a none: no such log_format before it"
        ]
    );
    assert_eq!(settings.error_logs, no_paths());
    let many = of(&"worker_processes x;".repeat(300));
    assert_eq!((many.unread.len(), many.unread[100].as_str()), (101, "and 200 more"));
}

#[test]
fn a_long_file() {
    let mut text = "http {\n".to_owned();
    for number in 0..2_500 {
        text +=
            &format!("upstream u{number} {{ server 10.0.{}.{}; }}\n", number / 250, number % 250);
        text += &format!(
            "server {{\n listen {};\n location / {{ proxy_pass http://u{number}; }} }}\n",
            number + 1
        );
    }
    text += "}\n";
    assert!(text.lines().count() > 10_000);
    let settings = of(&text);
    assert_eq!(
        (settings.upstreams.len(), settings.listens.len(), settings.passes.len()),
        (2500, 2500, 2500)
    );
    assert_eq!(settings.passes[2499].place.line, 10_001);
    let found: Vec<_> = settings.toward("10.0.9.249".parse().unwrap(), 80).collect();
    assert_eq!(found[0].1.unwrap().name, "u2499");
}

/// Each of these would take gigabytes or hours if something were not bounded.
#[test]
fn what_is_kept_is_bounded() {
    let long = "x".repeat(4000);
    let binds = format!("http {{ proxy_bind {long}; {} }}", "proxy_pass a;".repeat(200_000));
    let settings = of(&binds);
    assert!(settings.passes.len() < 20_000);
    assert_eq!(settings.unread, ["left out passes after 64 MiB of settings"]);
    let ports = of(&format!("http {{ {} }}", "listen 1-65535;".repeat(10_000)));
    assert_eq!(ports.unread, ["left out what comes after 64 MiB of settings"]);
    let many = of(&"a;".repeat(1_000_001));
    assert_eq!(many.unread, ["left out what comes after 1000000 directives"]);
    let deep = of(&format!("http {{ {} {} }}", "a {".repeat(300_000), "}".repeat(300_000)));
    assert_eq!(deep.unread, [""; 0]);
}

proptest! {
    #[test]
    fn any_words_are_read(words in prop::collection::vec(prop::sample::select(WORDS), 0..60)) {
        let all = files(&[("m", &words.concat()), ("a", "server { listen 1;")]);
        let _ = read(&all, Path::new("/c/m"), Path::new("/p"), "");
    }
}

const WORDS: &[&str] = &[
    "http",
    "stream",
    "server",
    "upstream a",
    "location /",
    "map",
    "events",
    "{",
    "{",
    "}",
    ";",
    ";",
    " ",
    "\n",
    "include a;",
    "include *;",
    "include [;",
    "listen ",
    "8000-8002",
    "[::",
    "proxy_pass ",
    "http://",
    "unix:",
    "grpc_pass ",
    "proxy_bind ",
    "off",
    "proxy_set_header Connection ",
    "close",
    "''",
    "keepalive ",
    "9999999999999",
    "access_log ",
    "log_format f ",
    "escape=json ",
    "f",
    "a_by_lua_block {",
    "\\",
    "\"",
    "#",
    "$x",
    "${",
    "-1",
    "max_conns=",
    "proxy_http_version ",
    "1.1",
    "worker_processes ",
    "auto",
    "\u{feff}",
    "error_log ",
    "server ",
];
