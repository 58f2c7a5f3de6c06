//! Where the issuer of tokens publishes its keys.

use url::Url;

use super::secure_url::{InvalidSecureUrl, SecureUrl};

/// Where an issuer publishes its keys.
#[derive(Clone)]
pub struct JwksUrl(Url);

/// Why a text is not where keys could be had. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwksUrl {
    /// Not a URL of an HTTP server.
    #[error("is not a URL of the form `https://host[:port]/path`")]
    NotAUrl,
    /// Somebody on the way could put their own keys there.
    #[error(
        "is plain http to a host that is not loopback, where keys could be replaced on their way: use https"
    )]
    PlainHttp,
}

impl JwksUrl {
    /// Reads a URL: `https`, or plain `http` to loopback. A query is fine, some issuers have one; credentials are not.
    pub fn parse(text: &str) -> Result<Self, InvalidJwksUrl> {
        let url = SecureUrl::parse(text).map_err(|error| match error {
            InvalidSecureUrl::NotAUrl => InvalidJwksUrl::NotAUrl,
            InvalidSecureUrl::PlainHttp => InvalidJwksUrl::PlainHttp,
        })?;
        let url = url.into_url();
        if url.fragment().is_some() {
            return Err(InvalidJwksUrl::NotAUrl);
        }
        Ok(Self(url))
    }

    /// The URL.
    pub fn into_url(self) -> Url {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_loopback_only() {
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
            assert_eq!(JwksUrl::parse(plain).err(), Some(InvalidJwksUrl::PlainHttp), "{plain}");
        }
        for bad in
            ["", "id.example.com", "file:///jwks", "https://u:p@host/", "https://u@host/", "https://host/#a"]
        {
            assert_eq!(JwksUrl::parse(bad).err(), Some(InvalidJwksUrl::NotAUrl), "{bad}");
        }
    }
}
