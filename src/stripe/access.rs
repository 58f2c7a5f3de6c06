//! Where Stripe's API is, and the key to it.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use secrecy::SecretString;

use crate::domain::mode::Mode;

/// Stripe's secret key. It cannot be printed, and it knows its mode.
#[derive(Clone)]
pub struct SecretKey {
    pub(super) key: SecretString,
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

/// Where Stripe's API is.
#[derive(Debug, Clone)]
pub struct ApiBase(pub(super) Url);

/// Why a text is not a usable base. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApiBase {
    /// Not a URL of an HTTP server.
    #[error("is not a URL of the form `https://host[:port]`")]
    NotAUrl,
    /// The key would travel in the clear.
    #[error(
        "is plain http to a host that is not loopback, where the key would travel in the clear: use https"
    )]
    PlainHttp,
}

impl ApiBase {
    /// Reads a base URL: `https`, or plain `http` to loopback.
    pub fn parse(text: &str) -> Result<Self, InvalidApiBase> {
        let url = Url::parse(text).map_err(|_| InvalidApiBase::NotAUrl)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidApiBase::NotAUrl);
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            "http" => Err(InvalidApiBase::PlainHttp),
            _ => Err(InvalidApiBase::NotAUrl),
        }
    }
}

/// Whether a URL leads to this machine, so that nobody stands on the way.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for good in
            ["https://api.stripe.com", "http://127.0.0.1:12111", "http://localhost:1/", "http://[::1]:12111"]
        {
            assert!(ApiBase::parse(good).is_ok(), "{good}");
        }
        assert_eq!(ApiBase::parse("http://stripe.example").err(), Some(InvalidApiBase::PlainHttp));
        for bad in
            ["", "api.stripe.com", "ftp://127.0.0.1", "https://u:p@host", "https://host/v1", "https://host?a"]
        {
            assert_eq!(ApiBase::parse(bad).err(), Some(InvalidApiBase::NotAUrl), "{bad}");
        }
    }
}
