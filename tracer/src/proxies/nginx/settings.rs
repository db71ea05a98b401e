//! What an Nginx configuration says of connections: of all its directives, those that decide a ceiling.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::program::{KEEPS, Version};

/// Where a directive stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file, as the process sees it.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
}

/// A value, and where it stands; `None`: the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set<T> {
    /// The value.
    pub value: T,
    /// Where it is set.
    pub place: Option<Place>,
}

/// What a configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `worker_processes`; `None`: `auto`.
    pub worker_processes: Set<Option<u32>>,
    /// `worker_connections`: 512 where it is not set.
    pub worker_connections: Set<u64>,
    /// `worker_rlimit_nofile`
    pub worker_rlimit_nofile: Option<Set<u64>>,
    /// `upstream` blocks of `http` and `stream`.
    pub upstreams: Vec<Upstream>,
    /// Directives that pass requests or connections on: `proxy_pass`, `fastcgi_pass`, `grpc_pass`, `uwsgi_pass`, `scgi_pass`, `memcached_pass`.
    pub passes: Vec<Pass>,
    /// `listen`
    pub listens: Vec<Listen>,
    /// `error_log`, of all contexts.
    pub error_logs: Vec<PathBuf>,
    /// `access_log`, of all contexts, with its format in full.
    pub access_logs: Vec<AccessLog>,
    /// The files that were read: the first is the main one.
    pub files: Vec<PathBuf>,
    /// What could not be read or understood, in a person's words.
    pub unread: Vec<String>,
    /// Which Nginx runs by it: defaults differ. `None`: not known.
    pub version: Option<Version>,
}

impl Settings {
    /// Whether connections that this passes to are kept for another request, as far as the directive and the headers
    /// decide; whether its upstream keeps any, [`Self::idle`] tells.
    #[must_use]
    pub fn keeps(&self, pass: &Pass) -> bool {
        match pass.keeping {
            Keeping::Always => true,
            Keeping::ByDefault => self.keeps_by_default(),
            Keeping::Closes | Keeping::Varies => false,
        }
    }

    /// Idle connections that each worker keeps toward an upstream; `None`: none.
    #[must_use]
    pub fn idle(&self, upstream: &Upstream) -> Option<u32> {
        let by_default = (self.keeps_by_default() && !upstream.stream).then_some(32);
        upstream.keepalive.or(by_default).filter(|&idle| idle > 0)
    }

    /// After how many requests a connection to an upstream is closed (`ngx_http_upstream_keepalive_module.c`).
    #[must_use]
    pub fn requests(&self, upstream: &Upstream) -> u64 {
        let few = self.version.is_some_and(|version| version < Version(1, 19, 10));
        upstream.keepalive_requests.unwrap_or(if few { 100 } else { 1000 })
    }

    /// Where the version is not known, no.
    fn keeps_by_default(&self) -> bool {
        self.version.is_some_and(|version| version >= KEEPS)
    }
}

/// What Nginx does without any directive (`src/core/nginx.c`, `ngx_core_module_init_conf`; `src/event/ngx_event.c`,
/// `DEFAULT_CONNECTIONS`).
impl Default for Settings {
    fn default() -> Self {
        Self {
            worker_processes: Set { value: Some(1), place: None },
            worker_connections: Set { value: 512, place: None },
            worker_rlimit_nofile: None,
            upstreams: Vec::new(),
            passes: Vec::new(),
            listens: Vec::new(),
            error_logs: Vec::new(),
            access_logs: Vec::new(),
            files: Vec::new(),
            unread: Vec::new(),
            version: None,
        }
    }
}

/// An `upstream` block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// In `stream`, where there is no keepalive.
    pub stream: bool,
    /// Where it stands.
    pub place: Place,
    /// Its servers.
    pub servers: Vec<Server>,
    /// `keepalive`: idle connections that each worker keeps, 0: none; `None`: not set, or undone by a balancing method
    /// behind it.
    pub keepalive: Option<u32>,
    /// `keepalive_requests`: a connection is closed after so many.
    pub keepalive_requests: Option<u64>,
    /// `zone`: workers share what they count, `max_conns` too.
    pub zone: bool,
}

/// A `server` of an `upstream` block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// As it is written: `10.0.0.9:9001`, `app.example:80`, `unix:/run/app`.
    pub name: String,
    /// Its address where it is written as one; names are not looked up.
    pub address: Option<(IpAddr, u16)>,
    /// `max_conns`; `None`: not set, or 0, which is no limit.
    pub max_conns: Option<u64>,
    /// `backup`
    pub backup: bool,
    /// `down`
    pub down: bool,
    /// Where it stands.
    pub place: Place,
}

/// A directive that passes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// `proxy_pass`, ...
    pub directive: String,
    /// In `stream`, whose upstreams have names of their own.
    pub stream: bool,
    /// Where to, as it is written without scheme and path: an upstream's name, a host and port, or with variables.
    pub target: String,
    /// Its address where it is written as one, with the port of the scheme where none is written.
    pub address: Option<(IpAddr, u16)>,
    /// `proxy_bind` (`fastcgi_bind`, ...) that holds here, as it is written; `None`: not set, or `off`.
    pub bind: Option<String>,
    /// Whether connections can be kept for another request.
    pub keeping: Keeping,
    /// `proxy_http_version` 1.1 or 2 is set, and holds here.
    pub persistent: bool,
    /// Where the last `proxy_set_header` stands of the block whose headers hold here: a block that sets any takes none
    /// from outside.
    pub headers: Option<Place>,
    /// Where it stands.
    pub place: Place,
}

/// Whether connections can be kept for another request: whether the upstream is told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeping {
    /// `proxy_http_version 1.1` with `proxy_set_header Connection` that does not say `close`, or 2;
    /// `fastcgi_keep_conn on`; `grpc_pass` and `memcached_pass` always.
    Always,
    /// The upstream is told to close, or the protocol has no such thing.
    Closes,
    /// What decides is not set: closed before Nginx 1.29.7, kept since.
    ByDefault,
    /// `Connection` has a variable in it, as where `WebSockets` are passed on.
    Varies,
}

/// A `listen` directive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// As it is written.
    pub name: String,
    /// Its port, where it has one.
    pub port: Option<u16>,
    /// `backlog`
    pub backlog: Option<u32>,
    /// `reuseport`
    pub reuseport: bool,
    /// Where it stands.
    pub place: Place,
}

/// An `access_log` directive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Where to; relative paths are resolved against the prefix.
    pub path: PathBuf,
    /// The format's text, its pieces joined; `None`: `combined`.
    pub format: Option<String>,
    /// `escape=` of the format.
    pub escape: Escape,
}

/// How values are written into an access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Escape {
    /// `\xXX`, and `-` for what is empty.
    #[default]
    Default,
    /// As in JSON strings, and nothing for what is empty.
    Json,
    /// As it is.
    None,
}
