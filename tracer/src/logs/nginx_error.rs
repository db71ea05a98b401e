//! Nginx's error log: what went wrong toward upstreams.
//!
//! Nginx writes nothing escaped there: the request, the host, the referrer and decoded paths are as the client sent
//! them (`ngx_http_log_error_handler` in `src/http/ngx_http_request.c`, `ngx_log_error_core`). So:
//!
//! - A message counts only if the line's own begins as Nginx's do; nothing a client sends comes before it.
//! - The upstream is known only if all that could be its field agree: a referrer with `", upstream: "` makes it
//!   unknown, not wrong. A line as long as Nginx writes them has lost its end, and maybe that field.
//! - A path with `%0a` that is no file ends a line and begins one (Nginx's `open() "…" failed`), of which nothing in
//!   it tells that it is made up. [`Trouble::pid`] does: no client knows that of a worker.

use jiff::tz::TimeZone;
use memchr::memmem;

use super::{
    Class, Entry, Parsed, Trouble,
    fields::{nginx_time, number, split, tried},
};
use crate::event::MAX_ERRNO;

/// Longest line, without its end (`NGX_MAX_ERROR_STR` in `src/core/ngx_log.h`): a longer one was cut.
const LONGEST: usize = 2047;
/// What comes before an upstream's name, after a request.
const FIELD: &[u8] = b"\", upstream: \"";
/// What comes before a subrequest's path.
const SUBREQUEST: &[u8] = b"\", subrequest: \"";
/// Before which the tag of syslog has to be.
const LONGEST_HEADER: usize = 300;

/// Where in Nginx a message comes from.
#[derive(Clone, Copy)]
enum Scope {
    /// A request or a session: the client's address follows.
    Upstream,
    /// The whole worker.
    Worker,
}

/// What is wrong, as the message says.
struct Message<'a> {
    class: Class,
    errno: Option<u16>,
    /// As [`Trouble::status`].
    status: Option<u16>,
    scope: Scope,
    /// The upstream, where Nginx says it in the message: no client's text is there.
    upstream: Option<&'a [u8]>,
}

/// What a line, given without its end, says. Times are in the zone of the host that wrote it.
///
/// Of levels below `error` nothing counts: there Nginx logs what clients did, and `worker_connections are not enough,
/// reusing connections`, where idle connections of clients were closed and no request failed.
#[must_use]
pub fn parse(line: &[u8], zone: &TimeZone) -> Parsed {
    read(line, zone).unwrap_or(Parsed::Unknown)
}

fn read(line: &[u8], zone: &TimeZone) -> Option<Parsed> {
    let (time, rest) = match line.split_first_chunk::<19>() {
        Some((time, rest)) if time[4] == b'/' => (time, rest),
        _ => {
            let header = line.get(..LONGEST_HEADER).unwrap_or(line);
            let own = memmem::find(header, b"nginx: ")?;
            line.get(own + 7..)?.split_first_chunk::<19>()?
        }
    };
    let (level, rest) = split(rest.strip_prefix(b" [")?, b"] ")?;
    let counts = match level {
        b"error" | b"crit" | b"alert" | b"emerg" => true,
        b"debug" | b"info" | b"notice" | b"warn" => false,
        _ => return None,
    };
    let (pid, rest) = split(rest, b"#")?;
    let pid: u32 = number(pid)?;
    let (thread, mut rest) = split(rest, b": ")?;
    number::<u64>(thread)?;
    if !counts {
        return Some(Parsed::Nothing);
    }
    if let Some(connection) = rest.strip_prefix(b"*") {
        rest = split(connection, b" ")?.1;
    }
    let Some(message) = message(rest) else { return Some(Parsed::Nothing) };
    let fields = || split(rest, b", client: ").map(|(_, fields)| fields);
    let upstream = match (message.scope, message.upstream) {
        (Scope::Worker, _) => None,
        (Scope::Upstream, Some(said)) => Some(said),
        (Scope::Upstream, None) => upstream(fields()?, line.len() < LONGEST),
    };
    // Of subrequests (mirror, auth_request) the access log has no line. A client can make its own request look so.
    let sub = fields().is_some_and(|fields| memmem::find(fields, SUBREQUEST).is_some());
    let upstream = upstream.map(|upstream| tried(upstream, None));
    Some(Parsed::Entry(Entry::Trouble(Trouble {
        at: Some(nginx_time(time, zone)?),
        pid: Some(pid),
        class: message.class,
        errno: message.errno,
        status: message.status.filter(|_| !sub),
        address: upstream.as_ref().and_then(|upstream| upstream.address),
        upstream: upstream.map(|upstream| upstream.upstream),
    })))
}

/// What a message says, if it is one of those that are known; it begins with Nginx's words.
fn message(text: &[u8]) -> Option<Message<'_>> {
    let about = |class| {
        let status = is_before_answer(action(text)).then_some(502);
        Message { class, errno: None, status, scope: Scope::Upstream, upstream: None }
    };
    if text.first()?.is_ascii_digit() {
        return worker_connections(text);
    }
    if let Some(rest) = text.strip_prefix(b"upstream ") {
        return if let Some(rest) = rest.strip_prefix(b"timed out (") {
            let (errno, action) = errno(rest)?;
            // The handshake of TLS has the time of connecting (`ngx_http_upstream_ssl_handshake`).
            let connecting = action.starts_with(b"connecting to upstream")
                || action.starts_with(b"SSL handshaking to upstream");
            let class = if connecting { Class::ConnectTimeout } else { Class::ReadTimeout };
            let status = is_before_answer(action).then_some(504);
            Some(Message { errno: Some(errno), status, ..about(class) })
        } else if rest.starts_with(b"prematurely closed") || rest.starts_with(b"closed prematurely")
        {
            Some(about(Class::ClosedEarly))
        } else if rest.starts_with(b"sent ") {
            Some(about(Class::BadAnswer))
        } else if rest.starts_with(b"SSL certificate ") {
            Some(about(Class::Other))
        } else {
            None
        };
    }
    if text.starts_with(b"no live upstreams while connecting to upstream") {
        return Some(about(Class::NoServer));
    }
    if let Some(rest) = text.strip_prefix(b"peer closed connection in SSL handshake ") {
        if rest.starts_with(b"while SSL handshaking to upstream") {
            return Some(about(Class::ClosedEarly));
        }
        let (errno, action) = errno(rest.strip_prefix(b"(")?)?;
        return action
            .starts_with(b"SSL handshaking to upstream")
            .then(|| Message { errno: Some(errno), ..about(by_errno(errno)) });
    }
    if text.starts_with(b"SSL_do_handshake() failed (") {
        // OpenSSL's words follow, which hold no client's.
        let own = text.get(..text.len().min(LONGEST_HEADER))?;
        return memmem::find(own, b") while SSL handshaking to upstream, client: ")
            .map(|_| about(Class::Other));
    }
    if let Some((name, _)) = split(text, b" could not be resolved (") {
        // A name has no space; without that, a client's path could be here.
        return (!name.contains(&b' ')).then(|| about(Class::Other));
    }
    call(text)
}

/// `N worker_connections are not enough`
fn worker_connections(text: &[u8]) -> Option<Message<'_>> {
    let (limit, rest) = split(text, b" worker_connections are not enough")?;
    number::<u64>(limit)?;
    let (scope, status) = match rest {
        [] => (Scope::Worker, None),
        rest if rest.starts_with(b" while connecting to upstream, client: ") => {
            (Scope::Upstream, Some(500))
        }
        rest if rest.starts_with(b" while ") => (Scope::Worker, None),
        _ => return None,
    };
    Some(Message { class: Class::OwnLimit, errno: None, status, scope, upstream: None })
}

/// A system call that failed: `connect() to NAME failed (ERRNO: TEXT) while ACTION`.
fn call(text: &[u8]) -> Option<Message<'_>> {
    let (call, rest) = split(text.get(..text.len().min(LONGEST_HEADER))?, b"(")?;
    let (rest, argument) = match rest.strip_prefix(b")") {
        Some(rest) => (rest, None),
        None => split(rest, b")").map(|(argument, rest)| (rest, Some(argument)))?,
    };
    let (rest, upstream) = match rest.strip_prefix(b" to ") {
        Some(rest) if call == b"connect" => {
            let (name, _) = split(rest, b" failed (")?;
            (rest.get(name.len()..)?, Some(name))
        }
        _ => (rest, None),
    };
    let (errno, action) = errno(rest.strip_prefix(b" failed (")?)?;
    let class = match (call, argument) {
        (b"accept" | b"accept4", None) => {
            let class = matches!(errno, 23 | 24).then_some(Class::OpenFiles)?;
            let (errno, scope) = (Some(errno), Scope::Worker);
            return Some(Message { class, errno, status: None, scope, upstream });
        }
        // `proxy_bind`: with an address in use there is no port for it; one that can't be assigned is no address of
        // this host, and no matter of ports.
        (b"bind", Some(_)) if errno == 98 => Class::PortsExhausted,
        (b"bind", Some(_)) => Class::Other,
        (b"connect", None) => match errno {
            99 => Class::PortsExhausted,
            110 => Class::ConnectTimeout,
            // The backlog of a Unix listener is full (unix_stream_connect() in net/unix/af_unix.c).
            11 if upstream.is_some_and(|name| name.starts_with(b"unix:")) => Class::Refused,
            errno => by_errno(errno),
        },
        (b"socket" | b"recv" | b"readv" | b"send" | b"writev" | b"sendfile", None) => {
            match by_errno(errno) {
                // An answer, not a connection, that did not come.
                Class::Other if errno == 110 => Class::ReadTimeout,
                class => class,
            }
        }
        _ => return None,
    };
    // Of the client's side of a proxied connection the level is `info`.
    let ours = memmem::find(action, b"upstream").is_some() || action.starts_with(b"proxying ");
    let status = is_before_answer(action).then_some(match call {
        // Before there is a peer (`ngx_event_connect_peer` gives `NGX_ERROR`).
        b"socket" | b"bind" => 500,
        _ => 502,
    });
    ours.then_some(Message { class, errno: Some(errno), status, scope: Scope::Upstream, upstream })
}

/// What Nginx was doing, as a message says.
fn action(text: &[u8]) -> &[u8] {
    let own = split(text, b", client: ").map_or(text, |(own, _)| own);
    memmem::rfind(own, b" while ").and_then(|at| own.get(at + 7..)).unwrap_or_default()
}

/// Whether the try fails by it. Later, while the answer is passed on, the client has its status already, mostly 200.
fn is_before_answer(action: &[u8]) -> bool {
    let doing: [&[u8]; 4] = [
        b"connecting to upstream",
        b"SSL handshaking to upstream",
        b"sending request to upstream",
        b"reading response header from upstream",
    ];
    doing.contains(&action)
}

fn by_errno(errno: u16) -> Class {
    match errno {
        111 => Class::Refused,
        104 | 32 => Class::Reset,
        // ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH
        100 | 101 | 112 | 113 => Class::Unreachable,
        24 | 23 => Class::OpenFiles,
        _ => Class::Other,
    }
}

/// Of `111: Connection refused) while connecting to upstream, client: …` the number, and what Nginx was doing.
fn errno(text: &[u8]) -> Option<(u16, &[u8])> {
    let (errno, rest) = split(text, b": ")?;
    let errno = number(errno).filter(|errno| *errno <= MAX_ERRNO)?;
    let (_, rest) = split(rest, b")")?;
    let action = rest.strip_prefix(b" while ").unwrap_or_default();
    Some((errno, split(action, b", client: ").map_or(action, |(action, _)| action)))
}

/// The upstream's name, from the fields after the client's address.
fn upstream(fields: &[u8], whole: bool) -> Option<&[u8]> {
    let (_, fields) = split(fields, b", server: ")?;
    let (_, fields) = split(fields, b", ")?;
    // A stream has no request, and nothing of the client's.
    if let Some(value) = fields.strip_prefix(b"upstream: \"") {
        return name(value);
    }
    let mut found = memmem::find_iter(fields, FIELD)
        .map(|at| fields.get(at + FIELD.len()..).and_then(name))
        .take_while(|_| whole);
    let first = found.next()??;
    found.all(|other| other == Some(first)).then_some(first)
}

/// `10.0.0.9:9001` of `http://10.0.0.9:9001/path"`, `unix:/run/app` of `http://unix:/run/app:/path"`.
fn name(value: &[u8]) -> Option<&[u8]> {
    let (value, _) = split(value, b"\"")?;
    let value = match split(value, b"://") {
        Some((scheme, rest)) if scheme.iter().all(u8::is_ascii_alphabetic) => rest,
        _ => value,
    };
    if let Some(path) = value.strip_prefix(b"unix:") {
        let end = memchr::memchr(b':', path).unwrap_or(path.len());
        return value.get(..end + 5);
    }
    value.get(..memchr::memchr(b'/', value).unwrap_or(value.len()))
}

#[cfg(test)]
mod tests;
