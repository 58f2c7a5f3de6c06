//! The one place that asks what time it is, and the calendar that billing periods follow.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::macros::format_description;
use time::util::days_in_month;

/// Now, in whole seconds, as Stripe counts time.
#[allow(clippy::disallowed_methods, reason = "a double of a remote service has a clock of its own")]
pub(crate) fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

/// The same day and hour so many months on; the last day of the month where that day does not exist.
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

/// A date as a page shows it: `23 November 2026`.
pub(crate) fn readable(seconds: i64) -> String {
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
    fn a_month_after_the_last_of_january_is_the_last_of_february() {
        let end_of_january = 1_769_860_800;
        assert_eq!(readable(end_of_january), "31 January 2026");
        assert_eq!(readable(months_after(end_of_january, 1)), "28 February 2026");
        assert_eq!(readable(months_after(end_of_january, 12)), "31 January 2027");
    }
}
