//! What lines of all logs have in common: numbers, times, upstreams.

use std::str;

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

use super::Try;
use crate::event::visible;

/// English names of months, as C's locale and both proxies write them.
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// An unsigned decimal number, digits only.
pub(super) fn number<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for digit in digits {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    value.try_into().ok()
}

/// A status of HTTP: three digits, and 0 is none (Envoy's, of what is not HTTP). Outer `None`: no status at all.
#[expect(clippy::option_option, reason = "no status, and what is none, differ")]
pub(super) fn status(text: &[u8]) -> Option<Option<u16>> {
    match text {
        b"-" | b"-1" | b"" | b"0" => Some(None),
        [_, _, _] => number(text).map(|status| Some(status).filter(|&status| status > 0)),
        _ => None,
    }
}

/// A try at an upstream, by the name that a log has for it.
pub(super) fn tried(upstream: &[u8], status: Option<u16>) -> Try {
    let address = str::from_utf8(upstream).ok().and_then(|text| text.parse().ok());
    Try { upstream: visible(upstream), address, status }
}

/// Splits at the first place where `separator` is.
pub(super) fn split<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memchr::memmem::find(text, separator)?;
    Some((text.get(..at)?, text.get(at + separator.len()..)?))
}

/// The word up to a space, and what follows that space.
pub(super) fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', text)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// `2026/11/25 12:26:09`, in a zone.
pub(super) fn nginx_time(text: &[u8; 19], zone: &TimeZone) -> Option<Timestamp> {
    let [y @ .., b'/', m1, m2, b'/', d1, d2, b' ', clock1, clock2, c1, i1, i2, c2, s1, s2] = text
    else {
        return None;
    };
    let clock = [*clock1, *clock2, *c1, *i1, *i2, *c2, *s1, *s2];
    let date = civil(number(y)?, number(&[*m1, *m2])?, number(&[*d1, *d2])?, clock, 0)?;
    zone.to_timestamp(date).ok()
}

/// `25/Nov/2026:12:26:09 +0000` (Nginx's `$time_local`, `HAProxy`'s `%T`), or `25/Nov/2026:12:41:12.325` in a zone
/// (`HAProxy`'s `%tr`).
pub(super) fn common_time(text: &[u8], zone: &TimeZone) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(20)?;
    let [d1, d2, b'/', month @ .., b'/', y1, y2, y3, y4, b':', _, _, _, _, _, _, _, _] = date
    else {
        return None;
    };
    let clock = *date.last_chunk::<8>()?;
    let month = MONTHS.iter().position(|name| name[..] == *month)?;
    let thousandths = match rest {
        [b'.', thousandths @ ..] if thousandths.len() == 3 => number::<i32>(thousandths)?,
        _ => 0,
    };
    let (year, day) = (number(&[*y1, *y2, *y3, *y4])?, number(&[*d1, *d2])?);
    let date = civil(year, i8::try_from(month + 1).ok()?, day, clock, thousandths)?;
    match rest {
        [] | [b'.', ..] => zone.to_timestamp(date).ok(),
        [b' ', sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            let seconds = number::<i32>(&[*h1, *h2])? * 3600 + number::<i32>(&[*m1, *m2])? * 60;
            let seconds = if *sign == b'-' { -seconds } else { seconds };
            Offset::from_seconds(seconds).ok()?.to_timestamp(date).ok()
        }
        _ => None,
    }
}

/// `2026-11-25T12:26:33.480Z`, `2026-11-25T12:26:09+00:00`.
pub(super) fn iso_time(text: &[u8]) -> Option<Timestamp> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds since 1970 with a fraction: `1795609569.609`.
pub(super) fn epoch_time(text: &[u8]) -> Option<Timestamp> {
    let (seconds, fraction) = split(text, b".").unwrap_or((text, b"0"));
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?;
    let nanos = number::<i32>(fraction)?.checked_mul(10_i32.checked_pow(9 - digits)?)?;
    Timestamp::new(number(seconds)?, nanos).ok()
}

/// So many milliseconds later.
pub(super) fn later(at: Timestamp, milliseconds: u32) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_millis(milliseconds.into())).ok()
}

/// A date, and a clock as in `12:26:09`.
fn civil(year: i16, month: i8, day: i8, clock: [u8; 8], thousandths: i32) -> Option<DateTime> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    let (hour, minute) = (number(&[h1, h2])?, number(&[m1, m2])?);
    // A leap second counts as the one before it.
    let second: i8 = number(&[s1, s2])?;
    DateTime::new(year, month, day, hour, minute, second.min(59), thousandths * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_each_shape() {
        let at = "2026-11-25T12:26:09Z".parse::<Timestamp>().unwrap();
        let zone = TimeZone::fixed(Offset::constant(2));
        assert_eq!(nginx_time(b"2026/11/25 14:26:09", &zone), Some(at));
        assert_eq!(common_time(b"25/Nov/2026:07:26:09 -0500", &zone), Some(at));
        assert_eq!(common_time(b"25/Nov/2026:14:26:09.500", &zone), later(at, 500));
        assert_eq!(iso_time(b"2026-11-25T13:26:09+01:00"), Some(at));
        assert_eq!(epoch_time(b"1795609569.609"), later(at, 609));
        assert_eq!(epoch_time(b"1795609569"), Some(at));
        for wrong in ["25/Nov/2026:12:26:09 +9999", "31/Feb/2026:12:26:09", "25/Foo/2026:12:26:09"]
        {
            assert_eq!(common_time(wrong.as_bytes(), &zone), None, "{wrong}");
        }
        assert_eq!(nginx_time(b"2026/13/25 14:26:09", &zone), None);
        assert_eq!(epoch_time(b"99999999999999999"), None);
    }

    #[test]
    fn statuses_and_their_lack() {
        assert_eq!(status(b"502"), Some(Some(502)));
        assert_eq!(status(b"009"), Some(Some(9)));
        assert_eq!(status(b"000"), Some(None));
        assert_eq!(status(b"-"), Some(None));
        assert_eq!(status(b"50x"), None);
        assert_eq!(status(b"5020"), None);
        assert_eq!(number::<u16>(b"70000"), None);
        assert_eq!(number::<u64>(b"99999999999999999999"), None);
    }
}
