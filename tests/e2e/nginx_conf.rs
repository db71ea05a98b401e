//! Configurations of Nginx, read as Nginx itself and another reader of them read them.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use ::socklife::proxies::{
    files::Rooted,
    nginx::{
        read::read,
        statements::{Body, Directive, Statements, Step},
    },
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use socklife_tests::{
    process::{Process, run},
    python::interpreter,
    wait_for,
};
use tempfile::TempDir;

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("nginx_conf::as_crossplane", &[Need::Python], as_crossplane),
        Test::new("nginx_conf::refused_as_nginx_does", &[Need::Nginx], refused_as_nginx_does),
        Test::new("nginx_conf::words_of_nginx", &[Need::Nginx], words_of_nginx),
        Test::new("nginx_conf::files_of_nginx", &[Need::Nginx], files_of_nginx),
    ]
}

const NGINX: &str = "/usr/sbin/nginx";
/// What crossplane can't read: it takes quotes and braces in Lua's comments and long strings for its own.
const NOT_CROSSPLANES: [&str; 1] = ["lua.conf"];

fn as_crossplane() -> Result<()> {
    let (python, here) = (interpreter()?, Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut files = Vec::new();
    let fixtures = here.join("../tracer/fixtures/nginx");
    for directory in [&fixtures, &fixtures.join("includes"), &fixtures.join("includes/conf.d")] {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".conf")
                && !name.starts_with('.')
                && !NOT_CROSSPLANES.contains(&&*name)
            {
                files.push(path);
            }
        }
    }
    ensure!(files.len() >= 11, "{files:?}");
    let room = tempfile::tempdir()?;
    let long = room.path().join("long.conf");
    let text = long_conf();
    ensure!(text.lines().count() > 10_000, "{} lines", text.lines().count());
    fs::write(&long, text)?;
    files.push(long);
    for file in files {
        let printed = run(Command::new(&python).arg(here.join("e2e/nginx_conf.py")).arg(&file))?;
        let theirs: Value = serde_json::from_str(&printed)?;
        let ours = tree(&fs::read(&file)?).with_context(|| file.display().to_string())?;
        ensure!(ours == theirs, "{}:\n{ours}\n{theirs}", file.display());
    }
    Ok(())
}

/// More than 10,000 lines, as of a host with many sites.
fn long_conf() -> String {
    let mut text = "events { worker_connections 16384; }\nhttp {\n".to_owned();
    for site in 0..1000 {
        let (a, b) = (site / 250, site % 250);
        text += &format!(
            "upstream site{site} {{\n  server 10.1.{a}.{b}:8080 max_conns=100; # {site}\n  keepalive 8;\n}}\n\
             map $http_upgrade $up{site} {{ default \"upgrade\"; '' close; ~*^x{site}$ \"a;b\"; }}\n\
             server {{\n  server_name site{site}.example ~^w{site}\\.(?<n>.+)$;\n\
             \x20 location ~* \"\\.(png|jpe?g){{1,2}}$\" {{ expires 1d; }}\n\
             \x20 location / {{\n    proxy_set_header X-A 'its \"own\"' ;\n    proxy_pass http://site{site}$request_uri;\n\
             \x20   add_header X-B \"q \\\" ${{n}} {{}};\" always;\n  }}\n}}\n"
        );
    }
    text + "}\n"
}

/// The directives of a file as the script prints them.
fn tree(text: &[u8]) -> Result<Value> {
    let mut open: Vec<(Value, Vec<Value>)> = vec![(Value::Null, Vec::new())];
    for step in Statements::new(text.to_vec()) {
        let done = match step? {
            Step::Directive(directive) => {
                let mut shown = shown(&directive);
                match directive.body {
                    Body::Block => {
                        open.push((shown, Vec::new()));
                        continue;
                    }
                    Body::Lua(code) => {
                        let code = String::from_utf8(code)?;
                        shown[1].as_array_mut().context("no arguments")?.push(json!(code));
                    }
                    Body::None => {}
                }
                shown
            }
            Step::Close => {
                let (mut directive, block) = open.pop().context("no block")?;
                directive[3] = Value::Array(block);
                directive
            }
        };
        open.last_mut().context("no block")?.1.push(done);
    }
    let (_, all) = open.pop().context("no block")?;
    Ok(Value::Array(all))
}

fn shown(directive: &Directive) -> Value {
    let text = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
    let mut arguments: Vec<String> = directive.arguments().iter().map(text).collect();
    let name = String::from_utf8_lossy(directive.name());
    if name == "if" {
        // crossplane leaves out the brackets of a condition.
        if let Some(first) = arguments.first_mut() {
            *first = first.strip_prefix('(').unwrap_or(first).to_owned();
        }
        if let Some(last) = arguments.last_mut() {
            *last = last.strip_suffix(')').unwrap_or(last).to_owned();
        }
        arguments.retain(|argument| !argument.is_empty());
    }
    json!([name, arguments, directive.line, Value::Null])
}

/// A line of a `map`, where any words can stand, or what is in the main block.
const REFUSED: [&str; 19] = [
    "http { map $host $b { a 'b'c; } }",
    "http { map $host $b { a \"b\"'c'; } }",
    "http { map $host $b { 'a'b c; } }",
    "http { map $host $b { a b }; }",
    "http { map $host $b { a 'b; } }",
    "http { map $host $b { a b#c;\n#; } }\n }",
    "http { map $host $b { a 'b';; } }",
    "http { map $host $b { a b\\; } }",
    "http { map $host $b { \\ a b; } }",
    "http { map $host $b { a\\\nb c; } }",
    "http { map $host $b { a '}'; ; } }",
    "http { map $host $b { a b; } } }",
    "http { map $host $b { a b; }",
    "http { map $host $b { a b; } } x",
    "http { map $host $b { a b; } } 'x",
    "http { map $host $b { a b; } };",
    "http {{ map $host $b { a b; } }",
    "http { server { location ~ ^/a{2}$ { } } }",
    "http { map $host $b { a 'b\\'; } }",
];

const ACCEPTED: [&str; 17] = [
    "",
    "# no end of line",
    "http{}#",
    "http { map $host $b { a (b); 'c'); } }",
    "http{map $host $b{a 'b';c \"d\";}}",
    "http { map $host $b { a 'b'\n;\r\n} }",
    "http { map $host $b { a # ; }\n b; } }",
    "http { map $host $b { a#b c#d; } }",
    "http { map $host $b { a\"b c'd; } }",
    "http { map $host $b { a\\;b c\\{d; } }",
    "http { map $host $b { '' \"\"; } }",
    "http { map $host $b { a ${host}; b '${host}{}'; } }",
    "http { map $host $b { a }; } }",
    "http { map $host $b { a}b c}d; } }",
    "http { map $host $b { \"a\\\"b\" 'c\\'d'; } }",
    "http { map $host $b { a 'two\nlines'; } }",
    "http { server { location ~ \"^/a{2}$\" { } } }",
];

fn refused_as_nginx_does() -> Result<()> {
    let directory = TempDir::new()?;
    let long = |length: usize| format!("http {{ map $host $b {{ a {}; }} }}", "b".repeat(length));
    let comment = |length: usize| format!("#{}\nhttp {{ }}", "b".repeat(length));
    let lengths = [4094, 4095, 4096, 4097];
    let by_length = lengths.iter().flat_map(|&length| [long(length), comment(length)]);
    let mut texts: Vec<String> = REFUSED.iter().chain(&ACCEPTED).map(|&it| it.to_owned()).collect();
    texts.extend(by_length);
    let (mut refused, mut accepted) = (0, 0);
    for text in texts {
        let text = format!("events {{ }} {text}");
        let file = directory.path().join("nginx.conf");
        fs::write(&file, &text)?;
        let globals = format!("pid {}/pid; error_log stderr;", directory.path().display());
        let end =
            Command::new(NGINX).args(["-t", "-q", "-g", &globals, "-c"]).arg(&file).output()?;
        let said = String::from_utf8_lossy(&end.stderr);
        let start: String = text.chars().take(100).collect();
        // Each is refused for its words alone, not for what they mean.
        let ours = Statements::new(text.into_bytes()).find_map(Result::err);
        ensure!(ours.is_some() != end.status.success(), "{start}: {ours:?}, but Nginx: {said}");
        *if ours.is_some() { &mut refused } else { &mut accepted } += 1;
    }
    println!("refused {refused}, accepted {accepted}");
    ensure!(refused >= 15 && accepted >= 15, "refused {refused}, accepted {accepted}");
    Ok(())
}

/// Words as they are written. Nginx sends what it makes of them.
const WORDS: [&str; 22] = [
    "plain",
    "'single quoted'",
    "\"double quoted\"",
    "''",
    "\"a'b\"",
    "'a\"b'",
    "\"a\\\"b\"",
    "'a\\'b'",
    "a\"b",
    "a'b'c",
    "a\\ b",
    "a\\;b",
    "\"a\\\\b\"",
    "a\\\\\\b",
    "'a\\nb\\tc\\rd\\xe'",
    "a\\nb",
    "\"two\nlines\"",
    "a#b",
    "\\#a",
    "\\\"a",
    "a}b",
    "'{;}'",
];

fn words_of_nginx() -> Result<()> {
    let directory = TempDir::new()?;
    let socket = directory.path().join("socket");
    let places = WORDS.iter().enumerate();
    let places =
        places.map(|(number, word)| format!("location = /{number} {{ return 200 {word}; }}\n"));
    let at = directory.path().display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {at}/{name};"))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr; events {{ }}
         http {{ access_log off; {temporary} server {{ listen unix:{at}/socket;\n{} }} }}",
        places.collect::<String>()
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, &text)?;
    let ours: Vec<Vec<u8>> = Statements::new(text.into_bytes())
        .filter_map(|step| match step {
            Ok(Step::Directive(it)) if it.name() == b"return" => it.words.get(2).cloned(),
            _ => None,
        })
        .collect();
    ensure!(ours.len() == WORDS.len(), "{ours:?}");
    let mut command = Command::new(NGINX);
    command.args(["-e", "stderr", "-c"]).arg(&file);
    let nginx = Process::start(&mut command)?;
    for (number, (word, ours)) in WORDS.iter().zip(ours).enumerate() {
        let body = wait_for("Nginx", || Ok(answer(&socket, number).ok()))?;
        ensure!(body == ours, "{word}: {ours:?}, but Nginx: {body:?}");
    }
    drop(nginx);
    Ok(())
}

/// The body that Nginx answers with.
fn answer(socket: &Path, number: usize) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "GET /{number} HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").context("no end of headers")?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    Ok(answer.split_off(end + 4))
}

/// Patterns of `include`, in a directory of files whose names are ordered and matched in ways of their own.
const PATTERNS: [&str; 14] = [
    "*",
    "*.conf",
    ".*.conf",
    "?.conf",
    "[ab].conf",
    "[!ab].conf",
    "[^a-c]*.conf",
    "[[:digit:]]*",
    "*/*.conf",
    "d*/a.conf",
    "*/none.conf",
    "d/../[a].conf",
    "\\[*.conf",
    "none/*",
];

const NAMES: [&str; 15] = [
    "a.conf",
    "b.conf",
    "B.conf",
    "c.conf",
    "10-x.conf",
    "9-x.conf",
    ".hidden.conf",
    "[x.conf",
    "a.conf.bak",
    "\u{e4}.conf",
    "d/a.conf",
    "d-2/a.conf",
    "d/b.conf",
    "D/a.conf",
    "-.conf",
];

fn files_of_nginx() -> Result<()> {
    let directory = TempDir::new()?;
    let included = directory.path().join("i");
    for name in NAMES {
        let path = included.join(name);
        fs::create_dir_all(path.parent().context("no parent")?)?;
        fs::write(path, "# nothing\n")?;
    }
    for pattern in PATTERNS {
        // `*` would lead to directories, which Nginx refuses.
        let pattern = if pattern == "*" { "i/*.*" } else { &format!("i/{pattern}") };
        let main = directory.path().join("nginx.conf");
        fs::write(&main, format!("include {pattern};\nevents {{ }}\n"))?;
        let globals = format!("pid {}/pid; error_log stderr;", directory.path().display());
        let end =
            Command::new(NGINX).args(["-T", "-q", "-g", &globals, "-c"]).arg(&main).output()?;
        let dump = String::from_utf8(end.stdout)?;
        if !end.status.success() {
            bail!("{pattern}: {}", String::from_utf8_lossy(&end.stderr));
        }
        let line = |line: &str| {
            line.strip_prefix("# configuration file ")?.strip_suffix(':').map(PathBuf::from)
        };
        // Nginx prints a file once, in the order of their first reading.
        let theirs: Vec<PathBuf> = dump.lines().filter_map(line).collect();
        let files = Rooted::of(std::process::id())?;
        let ours = read(&files, &main, Path::new("/"), "")?;
        ensure!(ours.files == theirs, "{pattern}: {:?}, but Nginx: {theirs:?}", ours.files);
        ensure!(ours.unread.is_empty(), "{pattern}: {:?}", ours.unread);
    }
    Ok(())
}
