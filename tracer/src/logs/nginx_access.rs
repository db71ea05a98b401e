//! Nginx's access log, by the text of its `log_format`, or by guess: `combined` with anything after it, or JSON.
//!
//! Nginx escapes `"`, `\`, control characters and what is no ASCII in variables (`ngx_http_log_escape` in
//! `src/http/modules/ngx_http_log_module.c`), and nothing else: a client can put the text that follows its value into
//! the value, unless that has a `"`. Where that could move a value of interest, the line is unknown.

mod format;
mod json;
mod variable;

use jiff::tz::TimeZone;

pub use self::format::Format;
use self::format::Values;
use super::{
    Answer, Entry, Parsed, Try,
    fields::{common_time, epoch_time, iso_time, status, tried},
};
pub use crate::proxies::nginx::settings::Escape;

impl Format {
    /// What a line, given without its end, says. What can be read in more than one way is unknown.
    #[must_use]
    pub fn parse(&self, line: &[u8]) -> Parsed {
        let answer = match self {
            Self::Guess(_) if line.starts_with(b"{") => json::line(line),
            Self::Guess(combined) | Self::Compiled(combined) => {
                combined.values(line).and_then(|values| answer(&values))
            }
        };
        answer.map_or(Parsed::Unknown, |answer| Parsed::Entry(Entry::Answer(answer)))
    }
}

/// An answer of values; `None`: one of them is none.
fn answer(values: &Values<'_>) -> Option<Answer> {
    let status = status(values.status?)?;
    // Times with a zone, all of them; of one that is none it is only the time that is not known.
    let local = values.local.and_then(|text| common_time(text, &TimeZone::UTC));
    let iso = || values.iso.and_then(iso_time);
    let at = local.or_else(iso).or_else(|| values.epoch.and_then(epoch_time));
    let tries = tries(values.addresses.unwrap_or_default(), values.statuses)?;
    let tells_tries = values.addresses.is_some();
    Some(Answer { at, status, tries, tells_tries, ..Answer::default() })
}

/// Tries of `$upstream_addr` and `$upstream_status`: `, ` is between servers, ` : ` between internal redirects, or
/// before a try that got no socket.
fn tries(addresses: &[u8], statuses: Option<&[u8]>) -> Option<Vec<Try>> {
    if matches!(addresses, b"" | b"-") {
        return Some(Vec::new());
    }
    let mut said = listed(statuses.unwrap_or_default());
    listed(addresses)
        .map(|(address, goes_on)| {
            let said = status(said.next().map_or(&b""[..], |(said, _)| said))?;
            // Where no status is said (a stream has none), one after which the next server was tried failed.
            let failed = (goes_on && statuses.is_none()).then_some(502);
            Some(tried(address, said.or(failed)))
        })
        .collect()
}

/// The values of a list, and whether the next server follows.
fn listed(text: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let mut rest = Some(text).filter(|text| !text.is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let mut from = 0;
        let end = loop {
            let Some(at) = memchr::memchr(b' ', text.get(from..)?).map(|at| from + at) else {
                break None;
            };
            let before = at.checked_sub(1).and_then(|before| text.get(before));
            if before == Some(&b',') {
                break Some((at - 1, at + 1));
            }
            if text.get(at..)?.starts_with(b" : ") {
                break Some((at, at + 3));
            }
            from = at + 1;
        };
        let (value, after) = match end {
            Some((end, next)) => (text.get(..end)?, text.get(next..)),
            None => (text, None),
        };
        rest = after;
        let goes_on = end.is_some_and(|(end, next)| next - end == 2);
        Some((value, goes_on))
    })
}

#[cfg(test)]
mod tests;
