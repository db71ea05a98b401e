//! Words of the command line to values.

use std::time::Duration;

use crate::{
    event::{Errno, State},
    table::Selection,
};

pub(super) fn parse_rows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if rows > 0 => Ok(rows),
        _ => Err("give a number of rows from 1 on".to_owned()),
    }
}

pub(super) fn parse_state(text: &str) -> Result<State, String> {
    text.parse()
}

/// Parses `--error`.
///
/// # Errors
/// A name that errno(3) does not have.
pub fn parse_errors(list: &[String]) -> Result<Selection, String> {
    if list.iter().any(|item| item == "all") {
        return Ok(Selection::All);
    }
    let errors: Result<_, String> = list.iter().map(|item| item.parse::<Errno>()).collect();
    errors.map(Selection::Errors)
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let seconds = text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    let parsed = seconds.or_else(|| text.parse::<jiff::SignedDuration>().ok()?.try_into().ok());
    match parsed {
        Some(duration) if duration >= Duration::from_millis(1) => Ok(duration),
        Some(_) => Err("it must be at least 1ms".to_owned()),
        None => Err("give a number and a unit, such as 30s, 500ms or 2m".to_owned()),
    }
}

/// How often the live view may be renewed.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(200)..=Duration::from_mins(1);

pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if INTERVALS.contains(&interval) {
        Ok(interval)
    } else {
        Err("it must be from 200ms to 60s".to_owned())
    }
}

/// Smallest and largest ring, bytes.
const RING_SIZES: std::ops::RangeInclusive<u64> = 4096..=1 << 30;

/// Smallest file that has room for anything, bytes.
const MIN_SIZE: u64 = 64 << 10;

pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes < MIN_SIZE { Err("it must be at least 64K".to_owned()) } else { Ok(bytes) }
}

pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        other => return Err(format!("no unit {other:?}; give bytes, or K, M, G")),
    };
    let number = digits.parse::<u64>().map_err(|_| "give a size such as 8M".to_owned())?;
    Ok(number.saturating_mul(unit))
}

pub(super) fn parse_ring_size(text: &str) -> Result<u32, String> {
    let bytes = parse_bytes(text)?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    if !RING_SIZES.contains(&bytes) || bytes < page {
        return Err(format!("out of range: it must be from {}K to 1G", page.max(4096) >> 10));
    }
    if !bytes.is_power_of_two() {
        let below = 1u64 << bytes.ilog2();
        return Err(format!("not a power of two: take {below} or {} bytes", below * 2));
    }
    u32::try_from(bytes).map_err(|_| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes() {
        assert_eq!(parse_ring_size("8M"), Ok(8 << 20));
        assert_eq!(parse_ring_size("4096"), Ok(4096));
        assert_eq!(parse_ring_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_ring_size("1G"), Ok(1 << 30));
        assert!(parse_ring_size("2G").unwrap_err().contains("from 4K to 1G"));
        assert!(parse_ring_size("1024").unwrap_err().contains("out of range"));
        assert!(parse_ring_size("99999999999999G").unwrap_err().contains("out of range"));
        assert_eq!(
            parse_ring_size("3M").unwrap_err(),
            "not a power of two: take 2097152 or 4194304 bytes"
        );
        assert!(parse_ring_size("8 parsecs").is_err());
        assert!(parse_ring_size("").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("0").is_err());
        assert!(parse_duration("soon").unwrap_err().contains("30s"));
        assert!(parse_duration("1e300").is_err());
    }

    #[test]
    fn errors_to_count() {
        let parse = |list: &[&str]| {
            parse_errors(&list.iter().map(|&item| item.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(parse(&["all"]), Ok(Selection::All));
        let two = parse(&["EADDRNOTAVAIL", "econnrefused"]).unwrap();
        assert_eq!(two, Selection::Errors([Errno(99), Errno(111)].into()));
        assert!(parse(&["EWHAT"]).unwrap_err().contains("EWHAT"));
    }
}
