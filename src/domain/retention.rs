//! For how long the payloads of events are kept.

use std::ops::RangeInclusive;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// For how many days payloads are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    days: u32,
}

impl Retention {
    /// The fewest and the most days. Stripe lists an event, and sends it again by hand, for 30 days
    /// (<https://docs.stripe.com/webhooks#retries>): until then whatever it was can be settled anew.
    pub const DAYS: RangeInclusive<u32> = 31..=3650;

    /// So many days, if they are within the bounds.
    pub fn of_days(days: u32) -> Option<Self> {
        Self::DAYS.contains(&days).then_some(Self { days })
    }

    /// What came before that time is old. Both in Unix milliseconds.
    pub fn ends_at_ms(self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.days) * DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stripe_may_send_again_is_never_old() {
        assert_eq!(Retention::of_days(30), None);
        assert_eq!(
            Retention::of_days(31).map(|retention| retention.ends_at_ms(40 * DAY_MS)),
            Some(9 * DAY_MS)
        );
        assert_eq!(Retention::of_days(3651), None);
    }
}
