//! Times of events as dates.

use jiff::{Timestamp, ToSpan, tz::TimeZone};

/// Turns nanoseconds since boot into dates. Keeps the second that it formatted last.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch_ns: u64,
    zone: TimeZone,
    second: u64,
    date: String,
    time: String,
}

impl Clock {
    /// `epoch_ns`: nanoseconds between the Unix epoch and boot. `zone`: for [`Self::time`].
    #[must_use]
    pub fn new(epoch_ns: u64, zone: TimeZone) -> Self {
        Self { epoch_ns, zone, second: u64::MAX, date: String::new(), time: String::new() }
    }

    fn seek(&mut self, ts_ns: u64) -> u64 {
        let since_epoch = self.epoch_ns.saturating_add(ts_ns);
        let second = since_epoch / 1_000_000_000;
        if second != self.second {
            let stamp = i64::try_from(second).ok().and_then(|s| Timestamp::from_second(s).ok());
            let stamp = stamp.unwrap_or(Timestamp::MAX);
            self.second = second;
            self.date = stamp.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            self.time = stamp.to_zoned(self.zone.clone()).strftime("%m-%d %H:%M:%S").to_string();
        }
        since_epoch % 1_000_000_000
    }

    /// RFC 3339 in UTC, with nanoseconds.
    pub fn rfc3339(&mut self, ts_ns: u64) -> String {
        let nanos = self.seek(ts_ns);
        format!("{}.{nanos:09}Z", self.date)
    }

    /// Time of day in the zone, with microseconds.
    pub fn time(&mut self, ts_ns: u64) -> String {
        let nanos = self.seek(ts_ns);
        format!("{}.{:06}", &self.time[6..], nanos / 1000)
    }

    /// When it is that hour, minute and second in the zone, on the day of `near_ns` and the ones beside it:
    /// nanoseconds since boot. `None`: there is no such time of day.
    #[must_use]
    pub fn at_time_of_day(
        &self,
        near_ns: u64,
        (hour, minute, second): (i8, i8, i8),
    ) -> Option<Vec<u64>> {
        let time = jiff::civil::Time::new(hour, minute, second, 0).ok()?;
        let near_s = i64::try_from(self.epoch_ns.saturating_add(near_ns) / 1_000_000_000).ok()?;
        let day = Timestamp::from_second(near_s).ok()?.to_zoned(self.zone.clone()).date();
        let at = |days: i32| {
            let day = day.checked_add(days.days()).ok()?;
            let stamp = day.to_datetime(time).to_zoned(self.zone.clone()).ok()?.timestamp();
            let since_epoch = u64::try_from(stamp.as_nanosecond()).ok()?;
            since_epoch.checked_sub(self.epoch_ns)
        };
        Some((-1..=1).filter_map(at).collect())
    }

    /// Time of day in the zone, whole seconds.
    pub fn time_of_day(&mut self, ts_ns: u64) -> String {
        self.seek(ts_ns);
        self.time[6..].to_owned()
    }

    /// Month, day and time of day in the zone, whole seconds.
    pub fn day_and_time(&mut self, ts_ns: u64) -> String {
        self.seek(ts_ns);
        self.time.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let mut clock = Clock::new(1_700_000_000_000_000_000, TimeZone::UTC);
        assert_eq!(clock.rfc3339(5), "2023-11-14T22:13:20.000000005Z");
        assert_eq!(clock.rfc3339(1_000_000_000), "2023-11-14T22:13:21.000000000Z");
        assert_eq!(clock.time(1_500), "22:13:20.000001");
        assert_eq!(clock.day_and_time(1_500), "11-14 22:13:20");
        assert_eq!(clock.rfc3339(u64::MAX).len(), 30);
    }
}
