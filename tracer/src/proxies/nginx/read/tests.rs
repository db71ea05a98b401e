//! The fixtures, read.

mod bounds;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::*;

use crate::proxies::nginx::{
    leads::Leads,
    settings::{Escape, Keeping, Pass},
};

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
        format!("{} {} | {address} | {bind} | {:?}", pass.directive, pass.target, pass.keeping)
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
    assert_eq!(still.keepalive, Some(0));
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
            "proxy_pass app | - | $local_ip | Always",
            "proxy_pass static | - | $local_ip | ByDefault",
            "proxy_pass 10.0.0.30 | 10.0.0.30 443 | $local_ip | Always",
            "proxy_pass 10.0.0.31:9000 | 10.0.0.31 9000 | 10.0.0.2 | Always",
            "proxy_pass $backend$request_uri | - | - | Always",
            "proxy_pass app | - | 10.0.0.2 | Always",
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
}

#[test]
fn what_leads_to_an_address() {
    let settings = fixture("tls_proxy.conf");
    let leads = Leads::of(&settings);
    let lines = |address: &str, port| {
        let ways = leads.toward(address.parse().unwrap(), port).iter();
        ways.map(|way| (way.pass.place.line, way.upstream.map(|it| it.name.as_str())))
            .collect::<Vec<_>>()
    };
    assert_eq!(lines("10.0.0.12", 8080), [(57, Some("app"))]);
    assert_eq!(lines("::ffff:10.0.0.12", 8080), lines("10.0.0.12", 8080));
    // It is written otherwise where it is passed to.
    assert_eq!(lines("10.0.0.21", 80), [(62, Some("Static"))]);
    assert_eq!(lines("10.0.0.30", 443), [(66, None)]);
    assert_eq!(lines("10.0.0.12", 80), []);
    let both = of("http{upstream a{server 1.1.1.1:1;} server{location /{proxy_pass http://A;}}}
        stream{upstream a{server 2.2.2.2:2;} server{proxy_pass a;}}");
    let leads = Leads::of(&both);
    let ways = |address: &str, port| leads.toward(address.parse().unwrap(), port).len();
    assert_eq!((ways("1.1.1.1", 1), ways("2.2.2.2", 2), ways("2.2.2.2", 1)), (1, 1, 0));
}

/// Of several directives the one that closes its connections is the one to change.
#[test]
fn the_directive_that_keeps_no_connections_comes_first() {
    let settings = of("http { upstream a { server 1.1.1.1:1; server 1.1.1.1:1; keepalive 4; }
        server { location / { proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_pass http://a; }
        location /b { proxy_pass http://a; } } }");
    let leads = Leads::of(&settings);
    let [way] = leads.toward("1.1.1.1".parse().unwrap(), 1) else { panic!("{leads:?}") };
    assert_eq!((way.pass.place.line, way.pass.keeping), (3, Keeping::ByDefault));
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
            "proxy_pass upstream_balancer | - | - | Varies",
            "proxy_pass upstream_balancer | - | - | Closes"
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
            "grpc_pass grpc_back | - | 10.9.9.9 | Always",
            "grpc_pass 10.2.0.1:50443 | 10.2.0.1 50443 | - | Always",
            "grpc_pass localhost:50051 | - | - | Always",
            "proxy_pass sockets | - | - | Varies",
            "proxy_pass sockets | - | - | Closes",
            "proxy_pass sockets | - | - | ByDefault",
        ]
    );
}

#[test]
fn lua() {
    let settings = fixture("lua.conf");
    assert_eq!(settings.worker_connections.value, 77);
    assert_eq!(listens(&settings), [(Some(8081), None, false)]);
    assert_eq!(passes(&settings), ["proxy_pass 10.7.0.1:7000 | 10.7.0.1 7000 | - | ByDefault"]);
    assert_eq!(settings.passes[0].place.line, 21);
}

#[test]
fn odd_quoting() {
    let settings = fixture("quoting.conf");
    assert_eq!(settings.worker_processes.value, Some(3));
    assert_eq!(listens(&settings), [(Some(8080), None, false)]);
    assert_eq!(passes(&settings), ["proxy_pass 127.0.0.1:81 | 127.0.0.1 81 | - | Always"]);
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
            "proxy_pass $target | - | - | ByDefault",
            "proxy_pass org$request_uri | - | - | ByDefault",
            "memcached_pass 127.0.0.1:11211 | 127.0.0.1 11211 | - | Always",
            "uwsgi_pass unix:/run/u.sock | - | 10.0.0.7 | Closes",
            "scgi_pass localhost:4000 | - | - | Closes",
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
            "proxy_pass db | - | 10.3.0.9 | Closes",
            "proxy_pass 10.3.0.53:53 | 10.3.0.53 53 | 10.3.0.9 | Closes",
            "proxy_pass 10.3.0.4:6379 | 10.3.0.4 6379 | - | Closes",
            "proxy_pass $name | - | 10.3.0.9 | Closes",
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
            "fastcgi_pass php | - | - | Always",
            "fastcgi_pass 10.0.0.5:9000 | 10.0.0.5 9000 | - | Closes"
        ]
    );
    assert_eq!(
        settings.unread,
        ["/nowhere/fastcgi_params: No such file or directory (os error 2)"]
    );
}
