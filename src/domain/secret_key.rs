use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::mode::Mode;

/// A secret or restricted key for Stripe's API. It cannot be printed.
#[derive(Clone)]
pub struct SecretKey {
    key: SecretString,
    mode: Mode,
}

/// Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("is a publishable key: use a secret key (`sk_...`) or a restricted key (`rk_...`)")]
    Publishable,
    #[error("is not a Stripe secret key (`sk_test_...`, `sk_live_...`, `rk_test_...` or `rk_live_...`)")]
    Unknown,
}

impl SecretKey {
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.starts_with("pk_") {
            return Err(InvalidKey::Publishable);
        }
        let (prefix, rest) = text.split_at_checked("sk_test_".len()).ok_or(InvalidKey::Unknown)?;
        let mode = match prefix {
            "sk_test_" | "rk_test_" => Mode::Test,
            "sk_live_" | "rk_live_" => Mode::Live,
            _ => return Err(InvalidKey::Unknown),
        };
        let is_valid = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic());
        if is_valid { Ok(Self { key: text.into(), mode }) } else { Err(InvalidKey::Unknown) }
    }

    pub(crate) fn expose(&self) -> &str {
        self.key.expose_secret()
    }

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
    fn secret_key_has_a_mode_and_is_never_printed() {
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
