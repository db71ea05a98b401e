//! Numbers as people read them.

/// `1,234,567`
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `0.25`, `12.5`, `3,412`: as many digits as matter.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below 2^64, not negative"
)]
pub fn rate(per_s: f64) -> String {
    match per_s {
        ..10.0 => format!("{per_s:.2}"),
        ..100.0 => format!("{per_s:.1}"),
        _ => thousands(per_s.round() as u64),
    }
}

/// `93 %`, `99.6 %`: never 100 where something is left.
#[must_use]
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if (99.0..100.0).contains(&percent) {
        return format!("{:.1} %", percent.min(99.9));
    }
    format!("{percent:.0} %")
}

/// `42 s`, `3 min 20 s`, `2 h 5 min`
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below 2^64, not negative"
)]
pub fn time_left(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Bytes: `12.3 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a size")]
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    while size >= 1024.0 && units.len() > 1 {
        size /= 1024.0;
        units.next();
    }
    match units.next() {
        Some("B") | None => format!("{bytes} B"),
        Some(unit) => format!("{size:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!([0.254, 12.34, 3411.7].map(rate), ["0.25", "12.3", "3,412"]);
        assert_eq!([41.6, 200.0, 7500.0].map(time_left), ["42 s", "3 min 20 s", "2 h 5 min"]);
    }
}
