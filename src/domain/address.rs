//! Where a browser is sent back to: a path of the caller's choosing, at an origin of the operator's. And the origins of
//! pages that may ask us.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The longest path that is taken: with the app's URL before it, it stays under the 2 000 characters that every
/// browser and proxy carries.
const PATH_LENGTH: usize = 1024;

/// What Checkout replaces by the session's id. Its braces have no place in a URL otherwise.
const SESSION_PLACEHOLDER: &str = "{CHECKOUT_SESSION_ID}";

/// The app's address, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppUrl(String);

/// Not an address that a path could be joined to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a URL of the form `https://host[:port][/path]`")]
pub struct InvalidAppUrl;

/// A path of the app, with a query or fragment perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnPath(String);

/// Not a path of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a path of the app: one `/` at its start, only what a URL may hold (encode the rest with `%`), at most \
     1024 characters"
)]
pub struct InvalidReturnPath;

/// Where a page comes from, as its browser says it in `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// Not an origin whose pages may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// No origin at all, or a pattern that stands for several.
    #[error("has an item that is not of the form `https://host[:port]`: name each origin, without a path")]
    NotAnOrigin,
    /// Somebody on the way could put a page there.
    #[error("has an item that is plain http to a host that is not loopback: use https")]
    PlainHttp,
}

impl AppUrl {
    /// Reads the app's address. Credentials, a query or a fragment have no place in it.
    pub fn parse(text: &str) -> Result<Self, InvalidAppUrl> {
        let rest =
            text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(InvalidAppUrl)?;
        let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = Authority::parse(authority);
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'\\' | b'?' | b'#' | b'@');
        if authority.is_some() && rest.bytes().all(plain) {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(InvalidAppUrl)
        }
    }

    /// The absolute URL of a path.
    pub fn join(&self, path: &ReturnPath) -> String {
        format!("{}{}", self.0, path.0)
    }
}

impl ReturnPath {
    /// Reads a path. What a browser would take for another host (`//evil`, `/\evil`, `https:`) is refused, and so is
    /// what has no place in a URL (RFC 3986, appendix A): browsers drop some of it before looking, and Stripe refuses
    /// the whole.
    pub fn parse(text: &str) -> Result<Self, InvalidReturnPath> {
        let local = text.starts_with('/') && !text.starts_with("//");
        if local && is_of_a_url(text) && text.len() <= PATH_LENGTH {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReturnPath)
        }
    }

    /// The path as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a path, its query and its fragment are made of what may stand there.
fn is_of_a_url(text: &str) -> bool {
    let text = text.replace(SESSION_PLACEHOLDER, "_");
    let encoded = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?#%".contains(&b))
        && text.matches('#').count() <= 1
        && text.split('%').skip(1).all(encoded)
}

impl Origin {
    /// Reads an origin: `https`, or plain `http` to loopback, where no other machine can bring a page from.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://").ok_or(InvalidOrigin::NotAnOrigin)?;
        let authority = Authority::parse(authority).ok_or(InvalidOrigin::NotAnOrigin)?;
        let usual_port = match scheme {
            "https" => 443,
            "http" if authority.is_loopback() => 80,
            "http" => return Err(InvalidOrigin::PlainHttp),
            _ => return Err(InvalidOrigin::NotAnOrigin),
        };
        let host = authority.host;
        // Browsers leave the usual port out.
        Ok(Self(match authority.port.filter(|port| *port != usual_port) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }

    /// The origin as browsers write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A host, and a port perhaps. No credentials.
pub(super) struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            // The last colon of an IPv6 address without a port.
            Some((host, _)) if host.starts_with('[') && !host.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        let is_host = match in_brackets {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(plain),
        };
        is_host.then_some(Self { host, port })
    }

    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for AppUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_app_is_joined_to_its_address() {
        let app = AppUrl::parse("https://app.example.com/").expect("a URL");
        for path in ["/", "/billing", "/billing?session_id={CHECKOUT_SESSION_ID}#top", "/%2F%2Fevil.example"]
        {
            let joined = app.join(&ReturnPath::parse(path).expect(path));
            assert_eq!(joined, format!("https://app.example.com{path}"));
        }
    }

    #[test]
    fn what_a_browser_would_take_for_another_host_or_stripe_for_no_url_is_refused() {
        for bad in [
            "",
            "billing",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "https:evil",
            "javascript:alert(1)",
            "/a\nb",
            "/\t/evil.example",
            " /billing",
            "/a b",
            "/\u{0}",
            "/ä",
            "/`a",
            "/a|b",
            "/{SESSION}",
            "/a#b#c",
            "/100%",
            "/%2",
            "/%zz",
            "/%{CHECKOUT_SESSION_ID}",
            &format!("/{}", "a".repeat(1024)),
        ] {
            assert_eq!(ReturnPath::parse(bad), Err(InvalidReturnPath), "{bad:?}");
        }
    }

    #[test]
    fn an_app_has_a_plain_http_address() {
        for good in
            ["http://localhost:5173", "https://app.example.com", "https://x.example/base/", "http://[::1]:80"]
        {
            assert!(AppUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "app.example.com",
            "ftp://x",
            "https://",
            "https:///path",
            "https://u:p@x",
            "https://x?a",
            "https://x#a",
            "https://x y",
            "https://x:port",
            "https://x\\y",
        ] {
            assert_eq!(AppUrl::parse(bad), Err(InvalidAppUrl), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, written) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.com:443", "https://app.example.com"),
            ("https://app.example.com:8443", "https://app.example.com:8443"),
            ("https://10.0.0.1", "https://10.0.0.1"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://app.localhost", "http://app.localhost"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(Origin::parse(text).as_ref().map(Origin::as_str), Ok(written));
        }
    }

    #[test]
    fn what_is_not_one_origin_is_refused() {
        for bad in [
            "",
            "*",
            "null",
            "https://",
            "https://*",
            "https://*.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://user@app.example.com",
            "https://app.example.com?a",
            "https://app.example.com#a",
            "https://app.example.com:port",
            "https://app.example.com:99999",
            "https://a b",
            "https://ä.example",
            "app.example.com",
            "//app.example.com",
            "ftp://app.example.com",
            "file://",
        ] {
            assert_eq!(Origin::parse(bad), Err(InvalidOrigin::NotAnOrigin), "{bad:?}");
        }
        for plain in ["http://app.example.com", "http://localhost.example.com", "http://10.0.0.1:8080"] {
            assert_eq!(Origin::parse(plain), Err(InvalidOrigin::PlainHttp), "{plain:?}");
        }
    }
}
