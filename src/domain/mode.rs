//! Test and live: two worlds that must never meet.

use std::fmt;

/// Test or live data, as Stripe keeps them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Test data: no money moves.
    Test,
    /// Live data.
    Live,
}

impl Mode {
    /// The word in the database, in idempotency keys and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }

    /// Reads the word in the database.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Test, Self::Live].into_iter().find(|mode| mode.as_str() == text)
    }

    /// Whether an object with this `livemode` belongs to this mode.
    pub fn holds(self, livemode: bool) -> bool {
        livemode == (self == Self::Live)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
