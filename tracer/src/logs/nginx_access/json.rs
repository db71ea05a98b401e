//! A line that is a JSON object with the usual keys.

use serde::Deserialize;
use serde_json::Value;

use super::{answer, format::Values};
use crate::logs::Answer;

/// Keys named as Nginx's variables are, and common ones for the time.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    status: Value,
    upstream_addr: Value,
    upstream_status: Value,
    time_local: Value,
    time_iso8601: Value,
    #[serde(rename = "@timestamp")]
    timestamp: Value,
    msec: Value,
    ts: Value,
    time: Value,
}

/// The answer, if there is a status.
pub(super) fn line(line: &[u8]) -> Option<Answer> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let [status, addresses, statuses] = [&line.status, &line.upstream_addr, &line.upstream_status]
        .map(|value| match value {
            // Nothing was tried; a key that is not there says nothing.
            Value::String(empty) if empty.is_empty() => Some(String::new()),
            value => text(value),
        });
    let (mut local, mut iso, mut epoch) = (None, None, None);
    let times =
        [&line.time_iso8601, &line.time_local, &line.timestamp, &line.msec, &line.ts, &line.time];
    // Of most keys it is the look that says which time it is.
    for time in times.into_iter().filter_map(text) {
        let kind = match time.as_bytes() {
            [_, _, b'/', ..] => &mut local,
            [_, _, _, _, b'-', ..] => &mut iso,
            _ => &mut epoch,
        };
        kind.get_or_insert(time);
    }
    answer(&Values {
        status: status.as_deref().map(str::as_bytes),
        addresses: addresses.as_deref().map(str::as_bytes),
        statuses: statuses.as_deref().map(str::as_bytes),
        local: local.as_deref().map(str::as_bytes),
        iso: iso.as_deref().map(str::as_bytes),
        epoch: epoch.as_deref().map(str::as_bytes),
    })
}
