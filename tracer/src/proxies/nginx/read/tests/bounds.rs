//! Many files, broken ones, and ones that would never end.

use proptest::prelude::*;

use super::*;

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
    assert_eq!(passes(&settings), ["proxy_pass back | - | - | Always"; 3]);
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
    let leads = Leads::of(&settings);
    let found = leads.toward("10.0.9.249".parse().unwrap(), 80);
    assert_eq!(found[0].upstream.unwrap().name, "u2499");
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
