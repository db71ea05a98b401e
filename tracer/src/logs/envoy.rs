//! Envoy's access log: its default format, Istio's, or JSON with the usual keys.
//!
//! Response flags, with their long names, and details: Envoy's documentation, "Access logging" (command operators)
//! and "Response code details". In its text formats Envoy writes headers as the client sent them, quotes too: a line
//! that can be read in more than one way is unknown. Envoy keeps spaces out of paths.

use jiff::Timestamp;
use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Answer, Class, Entry, Parsed, Try,
    fields::{iso_time, later, number, split, status, tried, word},
};

/// As much of what Envoy says of a failure is looked at.
const LONGEST_DETAILS: usize = 1024;

/// What a line, given without its end, says.
#[must_use]
pub fn parse(line: &[u8]) -> Parsed {
    let answer = if line.starts_with(b"{") { json(line) } else { text(line) };
    answer.map_or(Parsed::Unknown, |answer| Parsed::Entry(Entry::Answer(answer)))
}

/// What follows the request.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Said<'a> {
    code: Option<u16>,
    /// `None`: the format has none.
    flags: Option<&'a [u8]>,
    details: &'a [u8],
    reason: &'a [u8],
    /// In milliseconds.
    duration: Option<u32>,
}

fn text(line: &[u8]) -> Option<Answer> {
    let (start, rest) = split(line.strip_prefix(b"[")?, b"] \"")?;
    // A client's header can hold what looks like this; then there is more than one.
    let mut all = memmem::find_iter(rest, b"\" ").filter_map(|at| said(rest.get(at + 2..)?));
    let said = all.next()?;
    if !all.all(|other| other == said) {
        return None;
    }
    let (before, after) = rest.split_at(memchr::memrchr(b'"', rest)?);
    let host = before.get(memchr::memrchr(b'"', before)? + 1..)?;
    let cluster = match after.get(1..)? {
        // Envoy's own format ends with the host.
        [] => None,
        // Istio's: cluster, local, downstream's local and remote address, server name, route.
        after => {
            let mut words = after.strip_prefix(b" ")?.split(|byte| *byte == b' ');
            let cluster = words.next()?;
            if words.count() < 5 {
                return None;
            }
            Some(cluster)
        }
    };
    let at = ended(iso_time(start)?, said.duration);
    answer(at, &said, host, cluster.unwrap_or(b"-"))
}

/// `CODE FLAGS [DETAILS TERMINATION "REASON"] RECEIVED SENT DURATION TIME "`
fn said(text: &[u8]) -> Option<Said<'_>> {
    let (code, rest) = word(text)?;
    let (flags, rest) = word(rest)?;
    let flag = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b',' | b'-');
    if !(flags.iter().all(flag) && code.len() <= 3) {
        return None;
    }
    let (first, after) = word(rest)?;
    let (details, reason, rest) = if first.iter().all(u8::is_ascii_digit) {
        (&b"-"[..], &b"-"[..], rest)
    } else {
        let (_termination, rest) = word(after)?;
        let (reason, rest) = split(rest.strip_prefix(b"\"")?, b"\" ")?;
        (first, reason, rest)
    };
    let (received, rest) = word(rest)?;
    let (sent, rest) = word(rest)?;
    let (duration, rest) = word(rest)?;
    let (service, rest) = word(rest)?;
    number::<u64>(received).and(number::<u64>(sent))?;
    let numbered = |word: &[u8]| word == b"-" || number::<u64>(word).is_some();
    let fits = numbered(duration) && numbered(service) && rest.starts_with(b"\"");
    let duration = number(duration);
    fits.then_some(Said { code: status(code)?, flags: Some(flags), details, reason, duration })
}

/// Keys as Istio and Envoy's examples have them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Json {
    response_code: Value,
    response_flags: Value,
    response_code_details: Value,
    upstream_transport_failure_reason: Value,
    upstream_host: Value,
    upstream_cluster: Value,
    start_time: Value,
    duration: Value,
}

fn json(line: &[u8]) -> Option<Answer> {
    let json: Json = serde_json::from_slice(line).ok()?;
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    };
    let code = match &json.response_code {
        Value::Null => return None,
        code => status(text(code).as_bytes())?,
    };
    let details = text(&json.response_code_details);
    // Where there is no such key, it is not known whether it was Envoy that failed.
    let flags = (!json.response_flags.is_null()).then(|| text(&json.response_flags));
    let reason = text(&json.upstream_transport_failure_reason);
    let said = Said {
        code,
        flags: flags.as_ref().map(String::as_bytes),
        details: details.as_bytes(),
        reason: reason.as_bytes(),
        duration: number(text(&json.duration).as_bytes()),
    };
    let start = iso_time(text(&json.start_time).as_bytes());
    let at = start.and_then(|start| ended(start, said.duration));
    answer(at, &said, text(&json.upstream_host).as_bytes(), text(&json.upstream_cluster).as_bytes())
}

fn ended(start: Timestamp, duration: Option<u32>) -> Option<Timestamp> {
    later(start, duration.unwrap_or(0))
}

fn answer(at: Option<Timestamp>, said: &Said<'_>, host: &[u8], cluster: &[u8]) -> Option<Answer> {
    let upstream = if host == b"-" { cluster } else { host };
    let tries: Vec<Try> = match upstream {
        b"-" | b"" => Vec::new(),
        upstream => vec![tried(upstream, said.code)],
    };
    let (class, lacks) = match said.flags {
        Some(flags) => (class(said, flags)?, None),
        None => without_flags(said),
    };
    let (status, retries) = (said.code, 0);
    Some(Answer { at, status, tries, tells_tries: true, retries, class, lacks })
}

/// A server's error is a failure, unless the details say that the upstream sent it.
fn without_flags(said: &Said<'_>) -> (Option<Class>, Option<&'static str>) {
    let failed = said.code.is_some_and(|code| (500..600).contains(&code));
    match by_details(said) {
        _ if !failed || said.details == b"via_upstream" => (None, None),
        Some(class) => (Some(class), None),
        None => (Some(Class::Other), Some("response_flags")),
    }
}

/// Why, by the flags. Outer `None`: a flag that is none.
#[expect(clippy::option_option, reason = "no failure, and no such flag, differ")]
fn class(said: &Said<'_>, flags: &[u8]) -> Option<Option<Class>> {
    let mut class = None;
    let mut exceeded = false;
    for flag in flags.split(|byte| *byte == b',') {
        let one = match flag {
            b"UF" | b"UpstreamConnectionFailure" => connect(said),
            // A reset and a mere close look alike.
            b"UC" | b"UpstreamConnectionTermination" => by_details(said).unwrap_or(Class::Ended),
            b"UO"
            | b"UpstreamOverflow"
            | b"OM"
            | b"OverloadManagerTerminated"
            | b"DO"
            | b"DropOverLoad" => Class::OwnLimit,
            b"UH" | b"NoHealthyUpstream" => Class::NoServer,
            b"UT" | b"UpstreamRequestTimeout" => Class::ReadTimeout,
            b"UR" | b"UpstreamRemoteReset" | b"LR" | b"LocalReset" | b"ConnectionLocalReset" => {
                Class::Reset
            }
            b"UPE" | b"UpstreamProtocolError" => Class::BadAnswer,
            // Retries or connects were used up; the reason is beside it.
            b"URX" | b"UpstreamRetryLimitExceeded" => {
                exceeded = true;
                continue;
            }
            // The client went away, or sent what is none of HTTP.
            b"DC"
            | b"DownstreamConnectionTermination"
            | b"DPE"
            | b"DownstreamProtocolError"
            | b"DR"
            | b"DownstreamRemoteReset" => return Some(None),
            b"-" => continue,
            b"" => return None,
            _ => Class::Other,
        };
        // What says most stays: others add how it was dealt with.
        class = class.filter(|class| *class != Class::Other).or(Some(one));
    }
    // A TCP proxy says so alone where no connection was allowed to wait.
    let alone = if said.code.is_none() { Class::Connect } else { Class::Other };
    Some(class.or(exceeded.then_some(alone)))
}

fn connect(said: &Said<'_>) -> Class {
    match by_details(said) {
        Some(class) => class,
        None if has(said.details, b"connection_timeout") => Class::ConnectTimeout,
        None => Class::Connect,
    }
}

/// What the system said, where the log's format has that: by strerror(3), spaces made `_`.
fn by_details(said: &Said<'_>) -> Option<Class> {
    const WORDS: [(&[u8], Class); 10] = [
        (b"annot_assign_requested_address", Class::PortsExhausted),
        (b"onnection_refused", Class::Refused),
        (b"onnection_reset_by_peer", Class::Reset),
        (b"roken_pipe", Class::Reset),
        (b"onnection_timed_out", Class::ConnectTimeout),
        (b"etwork_is_unreachable", Class::Unreachable),
        (b"o_route_to_host", Class::Unreachable),
        (b"ost_is_down", Class::Unreachable),
        (b"oo_many_open_files", Class::OpenFiles),
        (b"socket_creation_failure", Class::OpenFiles),
    ];
    // Before 1.20 or so only the number.
    const NUMBERS: [(&[u8], Class); 6] = [
        (b"connect_error:_99", Class::PortsExhausted),
        (b"connect_error:_111", Class::Refused),
        (b"connect_error:_104", Class::Reset),
        (b"connect_error:_110", Class::ConnectTimeout),
        (b"connect_error:_101", Class::Unreachable),
        (b"connect_error:_113", Class::Unreachable),
    ];
    let texts = [said.details, said.reason];
    // An address of its own that it was told to use: one in use has no port left, others are not the host's.
    if texts.iter().any(|text| has(text, b"failed_to_bind_to_")) {
        let in_use = texts.iter().any(|text| has(text, b"ddress_already_in_use"));
        return Some(if in_use { Class::PortsExhausted } else { Class::Other });
    }
    let found = |words: &[(&[u8], Class)]| {
        words
            .iter()
            .find(|(word, _)| texts.iter().any(|text| has(text, word)))
            .map(|(_, class)| *class)
    };
    found(&WORDS).or_else(|| found(&NUMBERS))
}

/// Whether words, with `_` between, are in a text that has `_` or spaces between.
fn has(text: &[u8], words: &[u8]) -> bool {
    let text = text.get(..LONGEST_DETAILS).unwrap_or(text);
    let same = |(a, b): (&u8, &u8)| a == b || (*a == b' ' && *b == b'_');
    text.windows(words.len()).any(|window| window.iter().zip(words).all(same))
}

#[cfg(test)]
mod tests;
