use url::Url;

use super::secure_url::{InvalidUrl, SecureUrl};

/// The base URL of Stripe's API.
#[derive(Debug, Clone)]
pub struct ApiBase(Url);

const FORM: &str = "https://host[:port]";

impl ApiBase {
    /// `https`, or plain `http` to loopback.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let url = SecureUrl::parse(text, FORM, "the API key would be sent unencrypted")?.into_url();
        let has_no_path = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if has_no_path { Ok(Self(url)) } else { Err(InvalidUrl::NotAUrl(FORM)) }
    }

    pub fn into_url(self) -> Url {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_base_requires_https_except_loopback() {
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
