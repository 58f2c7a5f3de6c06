use std::ops::RangeInclusive;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How long the payloads of events are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    days: u32,
}

impl Retention {
    /// Stripe lists an event, and resends it on request, for 30 days
    /// (<https://docs.stripe.com/webhooks#retries>). Payloads are kept longer, so that any event
    /// can be applied again in that time.
    pub const ALLOWED_DAYS: RangeInclusive<u32> = 31..=3650;

    pub fn from_days(days: u32) -> Option<Self> {
        Self::ALLOWED_DAYS.contains(&days).then_some(Self { days })
    }

    /// Payloads received before this time can be deleted. Unix milliseconds.
    pub fn cutoff_ms(self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.days) * DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_outlasts_stripes_resend_period() {
        assert_eq!(Retention::from_days(30), None);
        assert_eq!(
            Retention::from_days(31).map(|retention| retention.cutoff_ms(40 * DAY_MS)),
            Some(9 * DAY_MS)
        );
        assert_eq!(Retention::from_days(3651), None);
    }
}
