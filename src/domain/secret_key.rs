//! The key to Stripe's API.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::mode::Mode;

/// Stripe's secret key. It cannot be printed, and it knows its mode.
#[derive(Clone)]
pub struct SecretKey {
    key: SecretString,
    mode: Mode,
}

/// Why a text is not a key we can use. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// A publishable key, which cannot do what we do.
    #[error("is a publishable key: use a secret key (`sk_...`) or a restricted key (`rk_...`)")]
    Publishable,
    /// Anything else.
    #[error("is not a Stripe secret key (`sk_test_...`, `sk_live_...`, `rk_test_...` or `rk_live_...`)")]
    Unknown,
}

impl SecretKey {
    /// Reads a secret or restricted key.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.starts_with("pk_") {
            return Err(InvalidKey::Publishable);
        }
        let kinds = [
            ("sk_test_", Mode::Test),
            ("rk_test_", Mode::Test),
            ("sk_live_", Mode::Live),
            ("rk_live_", Mode::Live),
        ];
        let named = |(prefix, _): &(&str, Mode)| {
            text.strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()))
        };
        let (_, mode) = kinds.into_iter().find(named).ok_or(InvalidKey::Unknown)?;
        Ok(Self { key: text.into(), mode })
    }

    /// The key itself, for the header that authenticates a request.
    pub(crate) fn expose(&self) -> &str {
        self.key.expose_secret()
    }

    /// Test or live.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, ..)", self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_knows_its_mode_and_cannot_be_printed() {
        for (text, mode) in [
            ("sk_test_canary", Mode::Test),
            ("rk_test_canary", Mode::Test),
            ("sk_live_canary", Mode::Live),
            ("rk_live_canary", Mode::Live),
        ] {
            let key = SecretKey::parse(text).expect(text);
            assert_eq!(key.mode(), mode);
            assert!(!format!("{key:?}").contains("canary"));
        }
        assert_eq!(SecretKey::parse("pk_test_1").err(), Some(InvalidKey::Publishable));
        for bad in ["", "sk_test_", "sk_1", "whsec_1", "sk_test_a b"] {
            assert_eq!(SecretKey::parse(bad).err(), Some(InvalidKey::Unknown), "{bad}");
        }
    }
}
