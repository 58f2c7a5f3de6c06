//! Where Stripe's API is.

use url::Url;

use super::secure_url::{InvalidSecureUrl, SecureUrl};

/// Where Stripe's API is.
#[derive(Debug, Clone)]
pub struct ApiBase(Url);

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
        let url = SecureUrl::parse(text).map_err(|error| match error {
            InvalidSecureUrl::NotAUrl => InvalidApiBase::NotAUrl,
            InvalidSecureUrl::PlainHttp => InvalidApiBase::PlainHttp,
        })?;
        let url = url.into_url();
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidApiBase::NotAUrl);
        }
        Ok(Self(url))
    }

    /// The URL, whose path is `/`.
    pub fn into_url(self) -> Url {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
