//! What an Nginx configuration says of connections: of all its directives, those that decide a ceiling.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

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
    /// `keepalive`: idle connections that each worker keeps; `None`: not set, or 0.
    pub keepalive: Option<u32>,
    /// `keepalive_requests`: a connection is closed after so many; 1000 where it is not set
    /// (`ngx_http_upstream_keepalive_module.c`; 100 before 1.19.10).
    pub keepalive_requests: u64,
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
    /// Connections can be kept for another request: the upstream is told so. For `proxy_pass` in `http`: `proxy_http_version 1.1` (the
    /// default since 1.29.7) and `proxy_set_header Connection` that does not say `close`; for `fastcgi_pass`: `fastcgi_keep_conn on`; for
    /// `grpc_pass`, `memcached_pass`: always.
    pub kept: bool,
    /// Where it stands.
    pub place: Place,
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
