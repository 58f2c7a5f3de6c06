//! Parsing shared by all URLs in the configuration.

use url::{Host, Url};

/// `https`, or plain `http` to loopback. Without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecureUrl(Url);

/// Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Not of the given form, or with credentials.
    #[error("is not a URL of the form `{0}`")]
    NotAUrl(&'static str),
    /// The text says what could happen.
    #[error("is plain http to a remote host: {0}. Use https")]
    PlainHttp(&'static str),
}

impl SecureUrl {
    /// Parses with [`http_url`] and rejects plain `http` to a remote host. `form` and `danger` are
    /// for the error text: the expected form of the URL, and what could happen without TLS.
    pub(super) fn parse(text: &str, form: &'static str, danger: &'static str) -> Result<Self, InvalidUrl> {
        let url = http_url(text).ok_or(InvalidUrl::NotAUrl(form))?;
        let is_secure = url.scheme() == "https" || is_loopback(&url);
        if is_secure { Ok(Self(url)) } else { Err(InvalidUrl::PlainHttp(danger)) }
    }

    pub(super) fn into_url(self) -> Url {
        self.0
    }
}

/// Parses an absolute `http` or `https` URL without credentials. Rejects text that the URL Standard
/// would repair (white space, backslashes, missing slashes, non-ASCII host names), since it is a
/// mistake in a configuration.
pub(super) fn http_url(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let in_authority = |byte: u8| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte);
    let is_well_formed = is_http
        && !authority.is_empty()
        && !authority.ends_with(':')
        && authority.bytes().all(in_authority)
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    Url::parse(text).ok().filter(|_| is_well_formed)
}

/// Names below `localhost` are loopback, too (RFC 6761, section 6.3).
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SecureUrl, InvalidUrl> {
        SecureUrl::parse(text, "form", "danger")
    }

    #[test]
    fn plain_http_is_accepted_for_loopback_only() {
        for good in [
            "https://a.example",
            "https://a.example:8443/path?query#fragment",
            "http://localhost:5173",
            "http://app.localhost",
            "http://127.0.0.1:80/",
            "http://127.1",
            "http://[::1]:3000",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for plain in
            ["http://a.example", "http://localhost.example.com", "http://10.0.0.1", "http://[2001:db8::1]"]
        {
            assert_eq!(parse(plain), Err(InvalidUrl::PlainHttp("danger")), "{plain}");
        }
    }

    #[test]
    fn malformed_urls_are_rejected_not_repaired() {
        for bad in [
            "",
            "a.example",
            "//a.example",
            "https:a.example",
            "https:user:password@a.example/://x",
            "https://a.example:",
            "https:///a.example",
            "https://",
            "ftp://a.example",
            "https://user@a.example",
            "https://:password@a.example",
            "https://@a.example",
            " https://a.example",
            "https://a\texample",
            "https://a b",
            "https:\\\\a.example",
            "https://a.example\\b",
            "https://ä.example",
            "https://*.example",
            "https://a%2eb",
            "https://a.example:port",
            "https://a.example:+443",
            "https://a.example:65536",
            "https://1.2.3.4.5",
            "https://xn--a",
            "https://[::1",
        ] {
            assert_eq!(parse(bad), Err(InvalidUrl::NotAUrl("form")), "{bad:?}");
        }
    }
}
