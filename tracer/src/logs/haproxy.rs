//! HAProxy's log: `option httplog`, `option tcplog` and what it reports of itself; as it comes from HAProxy, or with
//! what a syslog daemon put before it (RFC 3164, RFC 5424).
//!
//! Fields are as in its configuration manual, 8.2 and 8.5. It escapes `"`, `{`, `}` and what can't be printed in
//! what clients sent, and all that is read here comes before that. Lines of failures to connect say no errno: of used
//! up ports `no free ports` tells, one line a try.

use jiff::tz::TimeZone;
use memchr::memmem;

use super::{
    Answer, Class, Entry, Parsed, Trouble,
    fields::{common_time, later, number, split, status, tried, word},
};

/// Before which the message has to begin.
const LONGEST_HEADER: usize = 300;

/// What a line, given without its end, says. Times are in the zone of the host that wrote it.
#[must_use]
pub fn parse(line: &[u8], zone: &TimeZone) -> Parsed {
    let (pid, message) = without_header(line);
    match answer(message, zone) {
        Some(answer) => Parsed::Entry(Entry::Answer(answer)),
        None => trouble(pid, message),
    }
}

/// The process's number, if a header has it, and the message.
fn without_header(line: &[u8]) -> (Option<u32>, &[u8]) {
    let header = line.get(..LONGEST_HEADER).unwrap_or(line);
    // A header comes before anything that a client sent: before the date, or before a quote.
    let end = memchr::memchr2(b'"', b'/', header).unwrap_or(header.len());
    let tag = header.get(..end).unwrap_or(header);
    // RFC 3164: `haproxy[123]: `.
    if let Some(at) = memmem::find(tag, b"]: ") {
        let pid = tag.get(..at).and_then(|tag| tag.rsplit(|byte| *byte == b'[').next());
        if let (Some(pid), Some(message)) = (pid.and_then(number), line.get(at + 3..)) {
            return (Some(pid), message);
        }
    }
    // RFC 5424: `<134>1 TIME HOST APP PID MSGID DATA MESSAGE`.
    if let Some((b"1", rest)) = header.first().filter(|byte| **byte == b'<').and_then(|_| {
        let (_, rest) = split(line, b">")?;
        word(rest)
    }) {
        let mut rest = rest;
        let mut pid = None;
        for field in 0..6 {
            let Some((value, after)) = word(rest) else { return (None, line) };
            if field == 3 {
                pid = number(value);
            }
            rest = after;
        }
        return (pid, rest);
    }
    // RFC 3164 without a process's number: `haproxy: `.
    match memmem::find(tag, b"haproxy: ").and_then(|at| line.get(at + 9..)) {
        Some(message) => (None, message),
        None => (None, line),
    }
}

/// `CLIENT [DATE] FRONTEND BACKEND/SERVER TIMERS [STATUS] BYTES [COOKIES] STATE CONNECTIONS QUEUES …`
fn answer(message: &[u8], zone: &TimeZone) -> Option<Answer> {
    let (_client, rest) = split(message, b" [")?;
    let (date, rest) = split(rest, b"] ")?;
    let (_frontend, rest) = word(rest)?;
    let (server, rest) = word(rest)?;
    let (timers, rest) = word(rest)?;
    let (first, rest) = word(rest)?;
    // Of TCP three timers, and no status.
    let tcp = timers.split(|byte| *byte == b'/').count() == 3;
    let (answered, state, rest) = if tcp {
        let (state, rest) = word(rest)?;
        (None, state, rest)
    } else {
        let (_bytes, rest) = word(rest)?;
        let (_request_cookie, rest) = word(rest)?;
        let (_response_cookie, rest) = word(rest)?;
        let (state, rest) = word(rest)?;
        (status(first)?, state, rest)
    };
    let connections = word(rest).map_or(rest, |(connections, _)| connections);
    let retries = connections.rsplit(|byte| *byte == b'/').next()?;
    let retries = number(retries.strip_prefix(b"+").unwrap_or(retries))?;
    let [cause, when] = *state.first_chunk::<2>()?;
    let (_backend, name) = split(server, b"/")?;
    let total = timers.rsplit(|byte| *byte == b'/').next()?;
    let total = number(total.strip_prefix(b"+").unwrap_or(total)).unwrap_or(0);
    let at = later(common_time(date, zone)?, total);
    // Not a server's: `<NOSRV>`, `<STATS>`, `<PROMEX>` and the like.
    let tries = if name.starts_with(b"<") { Vec::new() } else { vec![tried(server, answered)] };
    let class = class(cause, when, name == b"<NOSRV>")?;
    Some(Answer { at, status: answered, tries, retries, class })
}

/// Why a session ended, by the two letters of its state (configuration manual, 8.5). Outer `None`: no such state.
#[expect(
    clippy::option_option,
    reason = "a state that is no failure, and none that is known, differ"
)]
fn class(cause: u8, when: u8, no_server: bool) -> Option<Option<Class>> {
    Some(match (cause, when) {
        // Clients that aborted, or sent nothing; what was refused by a rule, or served without a server.
        (b'-' | b'C' | b'c' | b'L', _) | (b'P', b'R' | b'T' | b'-') => None,
        (b'S', b'C') if no_server => Some(Class::NoServer),
        // Of resources, that is memory, sockets or ports, its other lines say which.
        (b'S' | b'R', b'C') => Some(Class::Connect),
        (b's', b'C') => Some(Class::ConnectTimeout),
        // Waiting for a server or a slot of one.
        (b's' | b'S', b'Q') => Some(Class::OwnLimit),
        // A reset and a mere close look alike.
        (b'S', b'H' | b'D' | b'L') => Some(Class::Ended),
        (b's', _) => Some(Class::ReadTimeout),
        // The process's limit of sockets.
        (b'P', b'C') => Some(Class::OpenFiles),
        // Refused since it is malformed, or by a rule for answers.
        (b'P', b'H' | b'D' | b'L') => Some(Class::BadAnswer),
        // Killed by the administrator or since the server went down or up, and errors inside.
        (b'S' | b'R' | b'P' | b'K' | b'D' | b'U' | b'I', _) => Some(Class::Other),
        _ => return None,
    })
}

/// What HAProxy says of itself.
fn trouble(pid: Option<u32>, message: &[u8]) -> Parsed {
    let (class, upstream) =
        if let Some(rest) = message.strip_prefix(b"Connect() failed for backend ") {
            match split(rest, b": ") {
                // EADDRNOTAVAIL, and EADDRINUSE where `source` names an address (tcp_connect_server() in src/proto_tcp.c).
                Some((backend, b"no free ports." | b"local address already in use.")) => {
                    (Class::PortsExhausted, Some(backend))
                }
                Some((backend, _)) => (Class::Connect, Some(backend)),
                None => return Parsed::Unknown,
            }
        } else if let Some(rest) =
            message.strip_prefix(b"Cannot bind to source address before connect() for backend ")
        {
            // `source` with a range of ports, all in use; or an address that is not the host's.
            (Class::Connect, split(rest, b".").map(|(backend, _)| backend))
        } else if memmem::find(message, b" reached process FD limit ").is_some()
            || memmem::find(message, b" reached system FD limit ").is_some()
        {
            // A frontend, or a backend: so no upstream.
            (Class::OpenFiles, None)
        } else if let Some(what) = message.split(|byte| *byte == b' ').next() {
            let known = [
                &b"Server"[..],
                b"backend",
                b"Backup",
                b"Health",
                b"Proxy",
                b"Connect",
                b"Stopping",
                b"Pausing",
            ];
            return if known.contains(&what) { Parsed::Nothing } else { Parsed::Unknown };
        } else {
            return Parsed::Unknown;
        };
    let upstream = upstream.map(|upstream| tried(upstream, None).upstream);
    Parsed::Entry(Entry::Trouble(Trouble {
        at: None,
        pid,
        class,
        errno: None,
        upstream,
        address: None,
    }))
}

#[cfg(test)]
mod tests;
