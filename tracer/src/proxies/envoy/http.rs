//! HTTP/1.1 as far as a question with one answer goes, on a connection that ends with it (RFC 9112).

use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};
use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};

use crate::event::visible;

/// Most fields of a head.
const MOST_FIELDS: usize = 64;

/// A request after whose answer the connection is closed. Envoy refuses HTTP/1.0 (426).
#[must_use]
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// Text as it may stand in a query.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// The body of an answer that is read to its end: in chunks, or as long as it says, or all.
///
/// # Errors
/// It is no HTTP, not of status 200, or not whole.
pub fn body(answer: &[u8]) -> Result<Vec<u8>> {
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    let mut head = Response::new(&mut fields);
    let Status::Complete(length) = head.parse(answer).context("is no HTTP")? else {
        bail!("ends within its head");
    };
    let rest = answer.get(length..).unwrap_or_default();
    let field = |name: &str| {
        let mut fields = head.headers.iter();
        fields.find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let code = head.code.unwrap_or_default();
    ensure!(
        code == 200,
        "is {code} {}: {}",
        visible(head.reason.unwrap_or_default().as_bytes()),
        visible(rest.get(..200).unwrap_or(rest))
    );
    if field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
        return chunks(rest);
    }
    let Some(length) = field("content-length") else { return Ok(rest.to_vec()) };
    let length = std::str::from_utf8(length).ok().and_then(|text| text.parse::<usize>().ok());
    let length = length.context("has a length that is no number")?;
    Ok(rest.get(..length).context("ends too early")?.to_vec())
}

fn chunks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Ok(Status::Complete((begin, length))) = parse_chunk_size(rest) else {
            bail!("ends too early, or has a chunk without a length");
        };
        if length == 0 {
            return Ok(body);
        }
        let end = usize::try_from(length).ok().and_then(|length| begin.checked_add(length));
        let end = end.context("has a chunk beyond all memory")?;
        body.extend_from_slice(rest.get(begin..end).context("ends within a chunk")?);
        let after = rest.get(end..).unwrap_or_default();
        rest = after.strip_prefix(b"\r\n").context("has a chunk that is longer than it says")?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(answer: &str) -> Result<String, String> {
        let body = body(answer.as_bytes()).map_err(|error| format!("{error:#}"))?;
        Ok(String::from_utf8(body).unwrap())
    }

    #[test]
    fn bodies_of_all_kinds() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let good = format!("{chunked}3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n");
        assert_eq!(said(&good).unwrap(), "abcd");
        assert_eq!(said("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc").unwrap(), "ab");
        assert_eq!(said("HTTP/1.1 200 OK\r\n\r\nabc").unwrap(), "abc");
        for (answer, why) in [
            (format!("{chunked}3\r\nabc\r\n"), "too early"),
            (format!("{chunked}3\r\nab"), "within a chunk"),
            (format!("{chunked}2\r\nabc\r\n0\r\n\r\n"), "longer than it says"),
            (format!("{chunked}ffffffffffffffff\r\n"), "beyond all memory"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab".to_owned(), "too early"),
            ("HTTP/1.1 200 OK\r\n".to_owned(), "within its head"),
            ("HTTP/1.1 404 Not Found\r\n\r\nno\x1b".to_owned(), "404 Not Found: no\\"),
            ("SSH-2.0".to_owned(), "no HTTP"),
        ] {
            let error = said(&answer).unwrap_err();
            assert!(error.contains(why), "{error} / {why}");
        }
    }

    #[test]
    fn what_stands_in_a_query_is_escaped() {
        assert_eq!(escaped("^a|(b.c)$"), "%5Ea%7C%28b.c%29%24");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(noise in proptest::collection::vec(any::<u8>(), 0..99), sizes in "[0-9a-f]{0,17}(\r\n[a-f]{0,4}){0,3}") {
            drop(body(&noise));
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            drop(body(&[head.as_bytes(), sizes.as_bytes(), &noise].concat()));
        }
    }
}
