//! Where Stripe's API is.

use url::Url;

use super::secure_url::{InvalidUrl, SecureUrl};

/// Where Stripe's API is.
#[derive(Debug, Clone)]
pub struct ApiBase(Url);

const FORM: &str = "https://host[:port]";

impl ApiBase {
    /// Reads a base URL: `https`, or plain `http` to loopback.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let url = SecureUrl::parse(text, FORM, "the key would travel in the clear")?.into_url();
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if is_bare { Ok(Self(url)) } else { Err(InvalidUrl::NotAUrl(FORM)) }
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
        assert!(matches!(ApiBase::parse("http://stripe.example"), Err(InvalidUrl::PlainHttp(_))));
        for bad in
            ["", "api.stripe.com", "ftp://127.0.0.1", "https://u:p@host", "https://host/v1", "https://host?a"]
        {
            assert!(matches!(ApiBase::parse(bad), Err(InvalidUrl::NotAUrl(_))), "{bad}");
        }
    }
}
