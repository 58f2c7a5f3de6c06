use url::Url;

use super::secure_url::{InvalidUrl, SecureUrl};

/// The URL of a token issuer's JWK Set.
#[derive(Clone)]
pub struct JwksUrl(Url);

const FORM: &str = "https://host[:port]/path";

impl JwksUrl {
    /// `https`, or plain `http` to loopback. Some issuers need a query, so it is allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let url = SecureUrl::parse(text, FORM, "the keys could be replaced in transit")?.into_url();
        if url.fragment().is_none() { Ok(Self(url)) } else { Err(InvalidUrl::NotAUrl(FORM)) }
    }

    pub fn into_url(self) -> Url {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jwks_url_requires_https_except_loopback() {
        for good in [
            "https://id.example.com/.well-known/jwks.json",
            "https://id.example.com/keys?p=policy",
            "http://127.0.0.1:9000/jwks",
            "http://localhost/jwks",
            "http://[::1]:1/jwks",
        ] {
            assert!(JwksUrl::parse(good).is_ok(), "{good}");
        }
        for plain in ["http://id.example.com/jwks", "http://localhost.example.com/", "http://10.0.0.1/jwks"] {
            assert!(matches!(JwksUrl::parse(plain), Err(InvalidUrl::PlainHttp(_))), "{plain}");
        }
        for bad in
            ["", "id.example.com", "file:///jwks", "https://u:p@host/", "https://u@host/", "https://host/#a"]
        {
            assert!(matches!(JwksUrl::parse(bad), Err(InvalidUrl::NotAUrl(_))), "{bad}");
        }
    }
}
