//! HAProxy's log: `option httplog`, `option tcplog` and what it reports of itself; as it comes from HAProxy, or with
//! what a syslog daemon put before it (RFC 3164, RFC 5424).
//!
//! Fields are as in its configuration manual, 8.2 and 8.5. It escapes `"`, `{`, `}` and what can't be printed in
//! what clients sent, and all that is read here comes before that. Lines of failures to connect say no errno: of used
//! up ports `no free ports` tells, one line a try.

use std::net::IpAddr;

use jiff::tz::TimeZone;
use memchr::memmem;

use super::{
    Answer, Class, Entry, Parsed, Trouble,
    fields::{common_time, later, number, split, status, tried, word},
};

/// How the tag of its lines begins, unless `log-tag` says another.
const PROGRAM: &[u8] = b"haproxy";

/// What a line, given without its end, says. Times are in the zone of the host that wrote it.
///
/// A file of a syslog daemon has lines of other programs, too: what a tag does not say to be of `haproxy` is nothing.
#[must_use]
pub fn parse(line: &[u8], zone: &TimeZone) -> Parsed {
    let Some((pid, message)) = without_header(line) else { return Parsed::Nothing };
    match answer(message, zone) {
        Some(answer) => Parsed::Entry(Entry::Answer(answer)),
        None => trouble(pid, message),
    }
}

/// The process's number, if a header has it, and the message; `None`: the line is of another program.
fn without_header(line: &[u8]) -> Option<(Option<u32>, &[u8])> {
    let (is_syslog, rest) = match line.strip_prefix(b"<").and_then(|rest| split(rest, b">")) {
        Some((priority, rest)) if number::<u16>(priority).is_some() => (true, rest),
        _ => (false, line),
    };
    // RFC 5424: `<134>1 TIME HOST APP PID MSGID DATA MESSAGE`.
    if let Some(mut rest) = rest.strip_prefix(b"1 ").filter(|_| is_syslog) {
        let mut fields = [&b""[..]; 6];
        for field in &mut fields {
            (*field, rest) = word(rest)?;
        }
        let [_time, _host, program, pid, _id, _data] = fields;
        return program.starts_with(PROGRAM).then(|| (number(pid), rest));
    }
    // RFC 3164: `TIME HOST TAG[PID]: MESSAGE`, where any of them but the tag can be missing.
    let (is_timed, rest) = match without_time(rest) {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    // A container's output, as CRI-O and containerd save it, has no tag.
    if let Some(message) = [b"stdout F ", b"stderr F "].iter().find_map(|it| rest.strip_prefix(*it))
        && is_timed
    {
        return Some((None, message));
    }
    let Some((first, after)) = word(rest) else {
        return (!is_syslog && !is_timed).then_some((None, rest));
    };
    if let Some(tag) = first.strip_suffix(b":") {
        return own(tag, after);
    }
    if !is_syslog && !is_timed {
        return Some((None, rest));
    }
    let (second, after) = word(after)?;
    own(second.strip_suffix(b":")?, after)
}

/// As [`without_header`], by the tag `haproxy[123]` or `haproxy`.
fn own<'a>(tag: &[u8], message: &'a [u8]) -> Option<(Option<u32>, &'a [u8])> {
    let (program, pid) = match split(tag, b"[") {
        Some((program, pid)) => (program, pid.strip_suffix(b"]").and_then(number)),
        None => (tag, None),
    };
    program.starts_with(PROGRAM).then_some((pid, message))
}

/// What follows `Nov 25 11:00:00 ` or `2026-11-25T11:00:00.123456+01:00 `.
fn without_time(text: &[u8]) -> Option<&[u8]> {
    if let Some((time, rest)) = text.split_first_chunk::<16>()
        && matches!(time, [_, _, _, b' ', _, _, b' ', _, _, b':', _, _, b':', _, _, b' '])
    {
        return Some(rest);
    }
    let (time, rest) = word(text)?;
    matches!(time, [b'0'..=b'9', _, _, _, b'-', _, _, b'-', _, _, b'T', ..]).then_some(rest)
}

/// `127.0.0.1:36046`, `2001:db8::1:36046`, `unix:1`; of one whose address is not known `-:-`.
fn is_client(text: &[u8]) -> bool {
    let Some(at) = memchr::memrchr(b':', text) else { return false };
    let (Some(address), Some(port)) = (text.get(..at), text.get(at + 1..)) else { return false };
    match address {
        b"-" => port == b"-",
        b"unix" => number::<u64>(port).is_some(),
        address => {
            let address = std::str::from_utf8(address).ok();
            let address = address.and_then(|address| address.parse::<IpAddr>().ok());
            address.is_some() && number::<u16>(port).is_some()
        }
    }
}

/// `CLIENT [DATE] FRONTEND BACKEND/SERVER TIMERS [STATUS] BYTES [COOKIES] STATE CONNECTIONS QUEUES …`
fn answer(message: &[u8], zone: &TimeZone) -> Option<Answer> {
    let (client, rest) = split(message, b" [")?;
    if !is_client(client) {
        return None;
    }
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
    let lacks = None;
    Some(Answer { at, status: answered, tries, tells_tries: true, retries, class, lacks })
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
        // That of an answer to which all servers failed.
        status: Some(503),
        upstream,
        address: None,
    }))
}

#[cfg(test)]
mod tests;
