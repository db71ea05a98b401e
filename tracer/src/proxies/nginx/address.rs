//! Addresses as directives write them (`src/core/ngx_inet.c`, `ngx_parse_url`).

use std::{net::IpAddr, ops::RangeInclusive};

/// Address and port of `1.2.3.4:80` or `[::1]:80`; without a port: the default one. `None`: a name, variables, a
/// Unix socket, or no port at all.
#[must_use]
pub fn address(text: &str, default_port: Option<u16>) -> Option<(IpAddr, u16)> {
    let (host, port) = host_and_port(text)?;
    let address = match host.strip_prefix('[') {
        Some(host) => IpAddr::V6(host.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(host.parse().ok()?),
    };
    Some((address, port.map_or(default_port, number)?))
}

/// The ports of a `listen`: `80`, `8000-8010`, `*:80`, `1.2.3.4`, `[::]:80`. `None`: a Unix socket, or no port.
#[must_use]
pub fn listen_ports(text: &str, default_port: Option<u16>) -> Option<RangeInclusive<u16>> {
    if text.starts_with("unix:") {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return range(text);
    }
    match host_and_port(text)?.1 {
        Some(ports) => range(ports),
        None => default_port.map(|port| port..=port),
    }
}

/// Where a directive passes to without scheme and path, and the port where none is written.
#[must_use]
pub fn target(text: &str) -> (&str, Option<u16>) {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => (scheme, rest),
        _ => ("", text),
    };
    // Only these have a port of their own: `grpc://` has none.
    let default_port = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
    };
    let end = match rest.strip_prefix("unix:") {
        Some(path) => path.find(':').map(|end| end + "unix:".len()),
        None => rest.find(['/', '?', '#']),
    };
    (end.and_then(|end| rest.get(..end)).unwrap_or(rest), default_port)
}

/// Host, with brackets where it has them, and port.
fn host_and_port(text: &str) -> Option<(&str, Option<&str>)> {
    let end = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at_checked(end)?;
    if rest.is_empty() {
        return Some((host, None));
    }
    Some((host, Some(rest.strip_prefix(':')?)))
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

/// A port: digits only, not 0.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let of = |text| address(text, Some(80)).map(|(address, port)| format!("{address} {port}"));
        for (text, expected) in [
            ("1.2.3.4", Some("1.2.3.4 80")),
            ("1.2.3.4:9001", Some("1.2.3.4 9001")),
            ("[::1]", Some("::1 80")),
            ("[2001:db8::1]:443", Some("2001:db8::1 443")),
            ("localhost", None),
            ("app.example:80", None),
            ("unix:/run/app", None),
            ("1.2.3.4:", None),
            ("1.2.3.4:0", None),
            ("1.2.3.4:+80", None),
            ("1.2.3.4:65536", None),
            ("::1", None),
            ("[::1]80", None),
            ("[::1", None),
            ("$host:80", None),
            ("", None),
        ] {
            assert_eq!(of(text).as_deref(), expected, "{text}");
        }
        assert_eq!(address("1.2.3.4", None), None);
    }

    #[test]
    fn ports_of_listeners() {
        for (text, expected) in [
            ("80", Some(80..=80)),
            ("8000-8010", Some(8000..=8010)),
            ("*:8443", Some(8443..=8443)),
            ("127.0.0.1:8000-8001", Some(8000..=8001)),
            ("127.0.0.1", Some(80..=80)),
            ("localhost", Some(80..=80)),
            ("[::]:443", Some(443..=443)),
            ("[::]", Some(80..=80)),
            ("unix:/run/nginx.sock", None),
            ("8010-8000", None),
            ("99999", None),
        ] {
            assert_eq!(listen_ports(text, Some(80)), expected, "{text}");
        }
        assert_eq!(listen_ports("127.0.0.1", None), None);
    }

    #[test]
    fn targets() {
        for (text, expected) in [
            ("http://backend/path", ("backend", Some(80))),
            ("HTTPS://10.0.0.1", ("10.0.0.1", Some(443))),
            ("http://unix:/run/app.sock:/uri/", ("unix:/run/app.sock", Some(80))),
            ("unix:/run/php.sock", ("unix:/run/php.sock", None)),
            ("grpcs://[::1]:50051", ("[::1]:50051", None)),
            ("http://$host:8080$request_uri", ("$host:8080$request_uri", Some(80))),
            ("$scheme://app?x", ("app", None)),
            ("$backend", ("$backend", None)),
            ("127.0.0.1:9000", ("127.0.0.1:9000", None)),
        ] {
            assert_eq!(target(text), expected, "{text}");
        }
    }
}
