//! The double's clock, the only call to the system clock, and the calendar arithmetic for billing
//! periods.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::macros::format_description;
use time::util::days_in_month;

/// Follows the system clock until it is advanced or stopped.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead_seconds: i64,
    stopped_at: Option<i64>,
}

impl Clock {
    /// Unix time in whole seconds, as Stripe counts time.
    pub(crate) fn now(&self) -> i64 {
        self.stopped_at.unwrap_or_else(|| system_now().saturating_add(self.ahead_seconds))
    }

    pub(crate) fn advance(&mut self, seconds: u32) {
        match &mut self.stopped_at {
            Some(stopped_at) => *stopped_at = stopped_at.saturating_add(seconds.into()),
            None => self.ahead_seconds = self.ahead_seconds.saturating_add(seconds.into()),
        }
    }

    /// From now on time passes only by [`Clock::advance`].
    pub(crate) fn stop(&mut self) {
        self.stopped_at = Some(self.now());
    }

    /// Continues from the time at which it was stopped.
    pub(crate) fn resume(&mut self) {
        if let Some(stopped_at) = self.stopped_at.take() {
            self.ahead_seconds = stopped_at.saturating_sub(system_now());
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped_at.is_some()
    }
}

/// Unix time of the machine in seconds. Used where a receiver checks a time against its own clock:
/// in signatures.
#[allow(clippy::disallowed_methods, reason = "a double of a remote service has a clock of its own")]
pub(crate) fn system_now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

/// The same day and hour `months` later, or the last day of that month if it has no such day.
pub(crate) fn months_after(seconds: i64, months: u8) -> i64 {
    let start = date(seconds);
    let (mut year, mut month) = (start.year(), start.month());
    for _ in 0..months {
        month = month.next();
        if month == time::Month::January {
            year += 1;
        }
    }
    let day = start.day().min(days_in_month(month, year));
    time::Date::from_calendar_date(year, month, day)
        .map_or(seconds, |date| start.replace_date(date).unix_timestamp())
}

/// The format of the `Date` header: `Mon, 23 Nov 2026 03:47:25 GMT`.
pub(crate) fn http_date(seconds: i64) -> String {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    date(seconds).format(format).unwrap_or_else(|_| seconds.to_string())
}

/// The format of dates on hosted pages: `23 November 2026`.
pub(crate) fn format_date(seconds: i64) -> String {
    date(seconds)
        .format(format_description!("[day padding:none] [month repr:long] [year]"))
        .unwrap_or_else(|_| seconds.to_string())
}

fn date(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumed_clock_does_not_jump() {
        let mut clock = Clock::default();
        clock.stop();
        let stopped_at = clock.now();
        clock.advance(40);
        assert_eq!(clock.now(), stopped_at + 40);
        clock.resume();
        assert!((stopped_at + 40..stopped_at + 60).contains(&clock.now()));
    }

    #[test]
    fn http_date_has_header_format() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn month_after_january_31_is_february_28() {
        let end_of_january = 1_769_860_800;
        assert_eq!(format_date(end_of_january), "31 January 2026");
        assert_eq!(format_date(months_after(end_of_january, 1)), "28 February 2026");
        assert_eq!(format_date(months_after(end_of_january, 12)), "31 January 2027");
    }
}
