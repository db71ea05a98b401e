//! The zone of times that are without one.

use jiff::{
    Timestamp,
    fmt::temporal::{DateTimeParser, DateTimePrinter},
    tz::TimeZone,
};

/// Longest name of one: those of POSIX with its rules are the longest.
const LONGEST: usize = 200;

/// A zone by its name, `Europe/Berlin`; by its offset, `+02:00`; or by a rule of POSIX (`TZ` in environ(7)).
///
/// # Errors
/// There is no such zone, or this machine does not know it.
pub fn of(text: &str) -> Result<TimeZone, String> {
    let parsed = (text.len() <= LONGEST).then(|| DateTimeParser::new().parse_time_zone(text));
    parsed.and_then(Result::ok).ok_or_else(|| {
        "no time zone that this machine knows: give a name of the tz database, as Europe/Berlin, or an offset, as \
         +02:00"
            .to_owned()
    })
}

/// What [`of`] understands. Of a zone that has no name it is the offset now.
#[must_use]
pub fn name(zone: &TimeZone) -> String {
    let now = || zone.to_offset(Timestamp::now()).to_string();
    DateTimePrinter::new().time_zone_to_string(zone).unwrap_or_else(|_| now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_a_name_that_is_understood() {
        let at = "2026-07-01T12:00:00Z".parse::<Timestamp>().unwrap();
        for (text, seconds) in [
            ("UTC", 0),
            ("+02:00", 7200),
            ("-0330", -12_600),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 7200),
            ("Europe/Berlin", 7200),
        ] {
            if text == "Europe/Berlin" && !std::path::Path::new("/usr/share/zoneinfo").exists() {
                continue;
            }
            let zone = of(text).unwrap();
            assert_eq!(zone.to_offset(at).seconds(), seconds, "{text}");
            assert_eq!(of(&name(&zone)).unwrap().to_offset(at).seconds(), seconds, "{text}");
        }
        for wrong in ["", "Z", "Europe/Atlantis", "+99:00", "\u{1b}[2J", "../../etc/passwd"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(of(&"A".repeat(100_000)).is_err());
        assert!(of(&name(&TimeZone::system())).is_ok());
    }
}
