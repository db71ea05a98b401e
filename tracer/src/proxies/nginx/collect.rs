//! Picks what decides ceilings out of directives as they come, in their blocks.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    address::{address, listen_ports, target},
    include::{Sources, shown},
    scope::{Protocol, Scope, Scopes},
    settings::{AccessLog, Escape, Keeping, Listen, Pass, Place, Server, Set, Settings, Upstream},
    statements::{Body, Directive},
};
use crate::event::visible;

/// Balancing methods of an `upstream` block: some have no argument.
const METHODS: [&str; 5] = ["least_conn", "ip_hash", "hash", "random", "least_time"];
/// Most bytes that settings hold: places, formats and what is handed down are repeated in them.
const MOST_KEPT: usize = 64 << 20;
/// Bytes of an item besides its texts.
const ITEM: usize = 200;
/// Blocks whose lines are no directives.
const DATA: [&str; 6] = ["map", "geo", "types", "split_clients", "charset_map", "match"];

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Main,
    Events,
    /// `http` and all in it but the others.
    Http,
    /// `stream`, likewise.
    Stream,
    Upstream,
    /// `mail` and what modules add.
    Other,
    Data,
}

/// A format of an access log, by whether it is in `stream`, and its name.
type Formats = HashMap<(bool, String), (Rc<str>, Escape)>;

/// What was picked so far.
pub(super) struct Collector {
    prefix: PathBuf,
    settings: Settings,
    /// The blocks around.
    blocks: Vec<(Kind, Scope)>,
    scopes: Scopes,
    /// Of each pass, in their order.
    passes_in: Vec<(Scope, Protocol)>,
    formats: Formats,
    error_logs: HashSet<PathBuf>,
    access_logs: HashSet<(PathBuf, bool, String)>,
    kept: usize,
}

/// A directive without a block.
struct Line<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
    directive: &'a Directive,
    place: Place,
}

impl Line<'_> {
    fn first(&self) -> &str {
        self.arguments.first().copied().unwrap_or_default()
    }

    /// The value of `name=value` among the arguments.
    fn option(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
    }

    fn has(&self, flag: &str) -> bool {
        self.arguments.iter().skip(1).any(|it| *it == flag)
    }

    /// The first argument as a number; else it is noted.
    fn number(&self, sources: &mut Sources<'_>) -> Option<u64> {
        let number = self.first().parse().ok();
        if number.is_none() {
            self.note(sources, "no number");
        }
        number
    }

    fn note(&self, sources: &mut Sources<'_>, why: &str) {
        sources.note(|| {
            let words = self.directive.words.join(&b' ');
            let (file, line) = (shown(&self.place.file), self.place.line);
            format!("{file}:{line}: {}: {why}", visible(&words))
        });
    }
}

impl Collector {
    pub(super) fn new(prefix: &Path) -> Self {
        let mut scopes = Scopes::default();
        let scope = scopes.push(0);
        Self {
            prefix: prefix.to_path_buf(),
            settings: Settings::default(),
            blocks: vec![(Kind::Main, scope)],
            scopes,
            passes_in: Vec::new(),
            formats: HashMap::new(),
            error_logs: HashSet::new(),
            access_logs: HashSet::new(),
            kept: 0,
        }
    }

    /// Blocks around, the file itself among them.
    pub(super) fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Leaves blocks until so many are around.
    pub(super) fn close_to(&mut self, depth: usize) {
        self.blocks.truncate(depth.max(1));
    }

    pub(super) fn close(&mut self) {
        self.close_to(self.depth() - 1);
    }

    pub(super) fn in_data(&self) -> bool {
        self.within().0 == Kind::Data
    }

    fn within(&self) -> (Kind, Scope) {
        self.blocks.last().copied().unwrap_or((Kind::Main, 0))
    }

    /// Counts an item with so many bytes of text.
    fn keep(&mut self, texts: usize) -> Result<(), String> {
        self.kept = self.kept.saturating_add(texts + ITEM);
        let fits = self.kept <= MOST_KEPT;
        fits.then_some(()).ok_or_else(|| format!("{} MiB of settings", MOST_KEPT >> 20))
    }

    /// Takes a directive, and enters its block. `Err`: too much was kept.
    pub(super) fn directive(
        &mut self,
        file: &Path,
        directive: &Directive,
        sources: &mut Sources<'_>,
    ) -> Result<(), String> {
        if self.in_data() && directive.body != Body::Block {
            return Ok(());
        }
        let name = String::from_utf8_lossy(directive.name());
        let texts: Vec<_> =
            directive.arguments().iter().map(|it| String::from_utf8_lossy(it)).collect();
        let arguments: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let place = Place { file: file.to_path_buf(), line: directive.line };
        let line = Line { name: &name, arguments, directive, place };
        match directive.body {
            Body::Block => self.enter(line),
            Body::None if line.arguments.is_empty() && !METHODS.contains(&line.name) => Ok(()),
            Body::None => self.line(line, sources),
            Body::Lua(_) => Ok(()),
        }
    }

    fn enter(&mut self, line: Line<'_>) -> Result<(), String> {
        let (kind, scope) = self.within();
        let inside = match (kind, line.name) {
            (Kind::Main, "events") => Kind::Events,
            (Kind::Main, "http") => Kind::Http,
            (Kind::Main, "stream") => Kind::Stream,
            (Kind::Main, _) => Kind::Other,
            (Kind::Http | Kind::Stream, "upstream") => {
                self.keep(line.first().len() + line.place.file.as_os_str().len())?;
                self.settings.upstreams.push(Upstream {
                    name: line.first().to_owned(),
                    stream: kind == Kind::Stream,
                    place: line.place,
                    servers: Vec::new(),
                    keepalive: None,
                    keepalive_requests: None,
                    zone: false,
                });
                Kind::Upstream
            }
            (Kind::Http | Kind::Stream, name) if DATA.contains(&name) => Kind::Data,
            (Kind::Http | Kind::Stream | Kind::Other, _) => kind,
            _ => Kind::Data,
        };
        let own = matches!(inside, Kind::Http | Kind::Stream);
        self.blocks.push((inside, if own { self.scopes.push(scope) } else { scope }));
        Ok(())
    }

    fn line(&mut self, line: Line<'_>, sources: &mut Sources<'_>) -> Result<(), String> {
        let (kind, scope) = self.within();
        match (kind, line.name) {
            (Kind::Main, "worker_processes") => {
                let auto = line.first() == "auto";
                let number = if auto { None } else { line.number(sources) };
                let value = number.and_then(|number| u32::try_from(number).ok());
                if auto || value.is_some() {
                    self.settings.worker_processes = Set { value, place: Some(line.place) };
                }
            }
            (Kind::Main, "worker_rlimit_nofile") => {
                let value = line.number(sources);
                let set = value.map(|value| Set { value, place: Some(line.place) });
                self.settings.worker_rlimit_nofile = set;
            }
            (Kind::Events, "worker_connections") => {
                if let Some(value) = line.number(sources) {
                    self.settings.worker_connections = Set { value, place: Some(line.place) };
                }
            }
            (Kind::Upstream, _) => self.upstream(line, sources)?,
            (Kind::Http | Kind::Stream | Kind::Other, "listen") => self.listen(kind, &line)?,
            (Kind::Http | Kind::Stream, "log_format") => self.format(kind, &line),
            (Kind::Http | Kind::Stream, "access_log") => self.access_log(kind, &line, sources)?,
            (Kind::Main | Kind::Http | Kind::Stream | Kind::Other, "error_log") => {
                let path = line.first();
                if path != "stderr" && !path.starts_with("syslog:") && !path.starts_with("memory:")
                {
                    let Some(path) = self.log_path(&line, sources) else { return Ok(()) };
                    if self.error_logs.insert(path.clone()) {
                        self.keep(2 * path.as_os_str().len())?;
                        self.settings.error_logs.push(path);
                    }
                }
            }
            (Kind::Http | Kind::Stream, name) => {
                if let Some(protocol) = Protocol::of(name, "_pass") {
                    return self.pass(kind, scope, protocol, line);
                }
                if name == "proxy_set_header" {
                    self.keep(line.place.file.as_os_str().len())?;
                }
                self.scopes.set(scope, name, &line.arguments, &line.place);
            }
            _ => {}
        }
        Ok(())
    }

    fn upstream(&mut self, line: Line<'_>, sources: &mut Sources<'_>) -> Result<(), String> {
        if line.name == "server" {
            self.keep(line.first().len() + line.place.file.as_os_str().len())?;
        }
        let Some(upstream) = self.settings.upstreams.last_mut() else { return Ok(()) };
        match line.name {
            "server" => upstream.servers.push(Server {
                name: line.first().to_owned(),
                address: address(line.first(), (!upstream.stream).then_some(80)),
                max_conns: line
                    .option("max_conns")
                    .and_then(|it| it.parse().ok())
                    .filter(|&it| it > 0),
                backup: line.has("backup"),
                down: line.has("down"),
                place: line.place,
            }),
            "keepalive" => {
                let number = line.number(sources);
                upstream.keepalive = number.and_then(|number| u32::try_from(number).ok());
            }
            "keepalive_requests" => {
                upstream.keepalive_requests = line.number(sources);
            }
            // It takes the place of what `keepalive` has put there: "load balancing method redefined".
            name if METHODS.contains(&name) => upstream.keepalive = None,
            "zone" => upstream.zone = true,
            _ => {}
        }
        Ok(())
    }

    fn listen(&mut self, kind: Kind, line: &Line<'_>) -> Result<(), String> {
        // QUIC is UDP too.
        if line.has("udp") || line.has("quic") {
            return Ok(());
        }
        let ports = listen_ports(line.first(), (kind == Kind::Http).then_some(80));
        let each = ports.map_or_else(|| vec![None], |ports| ports.map(Some).collect());
        for port in each {
            self.keep(line.first().len() + line.place.file.as_os_str().len())?;
            self.settings.listens.push(Listen {
                name: line.first().to_owned(),
                port,
                backlog: line.option("backlog").and_then(|backlog| backlog.parse().ok()),
                reuseport: line.has("reuseport"),
                place: line.place.clone(),
            });
        }
        Ok(())
    }

    fn pass(
        &mut self,
        kind: Kind,
        scope: Scope,
        protocol: Protocol,
        line: Line<'_>,
    ) -> Result<(), String> {
        let (to, port) = target(line.first());
        self.keep(to.len() + line.place.file.as_os_str().len())?;
        self.passes_in.push((scope, protocol));
        self.settings.passes.push(Pass {
            directive: line.name.to_owned(),
            stream: kind == Kind::Stream,
            target: to.to_owned(),
            address: address(to, port),
            bind: None,
            keeping: Keeping::Closes,
            persistent: false,
            headers: None,
            place: line.place,
        });
        Ok(())
    }

    fn format(&mut self, kind: Kind, line: &Line<'_>) {
        let (escape, pieces) = match line.arguments.get(1..).unwrap_or_default() {
            ["escape=json", pieces @ ..] => (Escape::Json, pieces),
            ["escape=none", pieces @ ..] => (Escape::None, pieces),
            ["escape=default", pieces @ ..] | pieces => (Escape::Default, pieces),
        };
        let key = (kind == Kind::Stream, line.first().to_owned());
        self.formats.insert(key, (pieces.concat().into(), escape));
    }

    fn access_log(
        &mut self,
        kind: Kind,
        line: &Line<'_>,
        sources: &mut Sources<'_>,
    ) -> Result<(), String> {
        let first = line.first();
        if first == "off" || first.starts_with("syslog:") {
            return Ok(());
        }
        let name = line.arguments.get(1).copied().unwrap_or("combined");
        let key = (kind == Kind::Stream, name.to_owned());
        let (format, escape) = match self.formats.get(&key) {
            Some((format, escape)) => (Some(Rc::clone(format)), *escape),
            None if key == (false, "combined".to_owned()) => (None, Escape::Default),
            None => {
                line.note(sources, "no such log_format before it");
                return Ok(());
            }
        };
        let Some(path) = self.log_path(line, sources) else { return Ok(()) };
        if self.access_logs.insert((path.clone(), key.0, key.1)) {
            let texts = 2 * path.as_os_str().len() + name.len();
            self.keep(texts + format.as_ref().map_or(0, |format| format.len()))?;
            let format = format.map(|format| format.to_string());
            self.settings.access_logs.push(AccessLog { path, format, escape });
        }
        Ok(())
    }

    /// A relative path of a log, from the prefix; one with variables as it is written.
    fn log_path(&self, line: &Line<'_>, sources: &mut Sources<'_>) -> Option<PathBuf> {
        let written = line.directive.arguments().first()?;
        match std::str::from_utf8(written) {
            Ok(path) if path.contains('$') => Some(path.into()),
            Ok(path) => Some(self.prefix.join(path)),
            Err(_) => {
                line.note(sources, "the path is no UTF-8");
                None
            }
        }
    }

    /// What all of it says.
    pub(super) fn finish(mut self, mut sources: Sources<'_>) -> Settings {
        let held = std::mem::take(&mut self.scopes).resolve();
        let mut passes = std::mem::take(&mut self.settings.passes);
        for (number, &(scope, protocol)) in self.passes_in.clone().iter().enumerate() {
            let (Some(pass), Some(held)) = (passes.get_mut(number), held.get(scope as usize))
            else {
                continue;
            };
            let bind = held.bind(protocol).map(str::to_owned);
            let headers = held.headers().filter(|_| protocol.is_proxy()).cloned();
            let path = headers.as_ref().map_or(0, |place| place.file.as_os_str().len());
            if let Err(what) = self.keep(bind.as_ref().map_or(0, String::len) + path) {
                sources.note(|| format!("left out passes after {what}"));
                passes.truncate(number);
                break;
            }
            pass.bind = bind;
            if !pass.stream {
                pass.keeping = held.keeping(protocol);
                pass.persistent = held.is_persistent();
                pass.headers = headers;
            }
        }
        self.settings.passes = passes;
        (self.settings.files, self.settings.unread) = sources.finish();
        self.settings
    }
}
