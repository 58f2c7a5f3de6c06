//! Where a browser is sent back to: a path of the caller's choosing, at an origin of the operator's. And the origins of
//! pages that may ask us.

use std::fmt;

use url::Url;

use super::secure_url::{InvalidUrl, SecureUrl, http_url};

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
    "must be a path of the app: one `/` at its start, only what a URL may hold (encode the rest with `%`), no step `.` or \
     `..`, at most 1024 characters"
)]
pub struct InvalidReturnPath;

/// Where a page comes from, as its browser says it in `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// Not an origin whose pages may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has an item that {0}")]
pub struct InvalidOrigin(InvalidUrl);

const ORIGIN_FORM: &str = "https://host[:port]";

impl AppUrl {
    /// Reads the app's address. Credentials, a query, a fragment or dot steps have no place in it.
    pub fn parse(text: &str) -> Result<Self, InvalidAppUrl> {
        let is_address = |_: &Url| !text.contains(['?', '#']) && !has_dot_steps(text);
        http_url(text).filter(is_address).ok_or(InvalidAppUrl)?;
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    /// The absolute URL of a path.
    pub fn join(&self, path: &ReturnPath) -> String {
        format!("{}{}", self.0, path.0)
    }
}

impl ReturnPath {
    /// Reads a path. What a browser would take for another host (`//evil`, `/\evil`, `https:`) is refused, and so is
    /// what has no place in a URL (RFC 3986, appendix A): browsers drop some of it before looking, and Stripe refuses
    /// the whole. So are steps that a browser takes itself: they lead out of an app whose address has a path of its own
    /// (`/../other-app`), or leave another host (`/.//evil`).
    pub fn parse(text: &str) -> Result<Self, InvalidReturnPath> {
        let local = text.starts_with('/') && !text.starts_with("//");
        if local && text.len() <= PATH_LENGTH && is_of_a_url(text) && !has_dot_steps(text) {
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

/// Whether a step of the path is `.` or `..`, each dot of which may be written `%2e`: what the URL Standard calls
/// single-dot and double-dot URL path segments.
fn has_dot_steps(text: &str) -> bool {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    path.split('/').any(|step| matches!(step.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."))
}

impl Origin {
    /// Reads an origin: `https`, or plain `http` to loopback, where no other machine can bring a page from.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let url = SecureUrl::parse(text, ORIGIN_FORM, "anyone could put a page").map_err(InvalidOrigin)?;
        let has_path = text.splitn(4, ['/', '?', '#']).count() > 3;
        if has_path {
            return Err(InvalidOrigin(InvalidUrl::NotAUrl(ORIGIN_FORM)));
        }
        Ok(Self(url.into_url().origin().ascii_serialization()))
    }

    /// The origin as browsers write it.
    pub fn as_str(&self) -> &str {
        &self.0
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
            "evil.example",
            "@evil.example",
            ".evil.example",
            ":80/evil",
            "?next=/",
            "#/",
            // Another host, with the scheme left out.
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "//evil.example/%2f..",
            "//app.example.com@evil.example",
            "//[::1]",
            "//0x7f.1",
            // A backslash is a slash to browsers.
            "/\\evil.example",
            "\\/evil.example",
            "\\\\evil.example",
            "/billing\\..\\..\\evil.example",
            "/billing?to=\\\\evil.example",
            // They drop tabs and line ends wherever they stand, and white space and controls at both ends.
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "/\r\n//evil.example",
            "\t//evil.example",
            "/\t\\evil.example",
            " //evil.example",
            " /billing",
            "/billing ",
            "\u{0}//evil.example",
            "\u{1f}/billing",
            "/a\nb",
            "/a b",
            "/\u{0}",
            "/\u{7f}",
            "/\u{85}/evil.example",
            // What looks like a slash, or is one once somebody has normalised it, or is not seen at all.
            "/\u{ff0f}evil.example",
            "\u{ff0f}\u{ff0f}evil.example",
            "/\u{2044}evil.example",
            "/\u{2215}evil.example",
            "/\u{ff3c}evil.example",
            "/\u{2028}/evil.example",
            "/\u{3000}/evil.example",
            "/\u{a0}/evil.example",
            "/\u{ad}/evil.example",
            "/\u{feff}/evil.example",
            "/\u{200b}/evil.example",
            "/\u{202e}/evil.example",
            "/ä",
            "/`a",
            "/a|b",
            "/{SESSION}",
            "/a#b#c",
            "/100%",
            "/%2",
            "/%zz",
            "/%{CHECKOUT_SESSION_ID}",
            "/%u2215evil.example",
        ] {
            assert_eq!(ReturnPath::parse(bad), Err(InvalidReturnPath), "{bad:?}");
        }
    }

    #[test]
    fn address_of_its_own_is_no_path() {
        for bad in [
            "https://evil.example",
            "HTTPS://evil.example",
            "https:evil.example",
            "https:/evil.example",
            "http://app.example.com@evil.example",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "java\nscript:alert(1)",
            "data:text/html,<script>alert(1)</script>",
            "vbscript:x",
            "blob:https://evil.example/1",
            "file:///etc/passwd",
            "mailto:eve@evil.example",
            // Slashes that are written in another way, at the start.
            "%2f%2fevil.example",
            "%2F",
            "%5cevil.example",
            "&#47;evil.example",
            &format!("/{}", "a".repeat(1024)),
            &format!("/{}", "/".repeat(1024)),
        ] {
            assert_eq!(ReturnPath::parse(bad), Err(InvalidReturnPath), "{bad:?}");
        }
    }

    #[test]
    fn steps_that_a_browser_takes_itself_are_refused_however_they_are_written() {
        for bad in [
            "/..",
            "/../",
            "/../other-app",
            "/billing/../../other-app",
            "/billing/..?a",
            "/..#a",
            "/%2e%2e/other-app",
            "/%2E%2e/other-app",
            "/.%2e/other-app",
            "/%2E./other-app",
            "/..//evil.example",
            "/./../other-app",
            "/..;/..",
            "/.",
            "/%2e",
            "/./billing",
            "/.//evil.example",
            "/%2E//evil.example",
            "/billing/.",
        ] {
            assert_eq!(ReturnPath::parse(bad), Err(InvalidReturnPath), "{bad:?}");
        }
        for good in [
            "/...",
            "/a..b",
            "/..a",
            "/.well-known/",
            "/%252e%252e/",
            "/%2e%2e%2e",
            "/?to=/../x",
            "/#/../x",
            "/..;/x",
        ] {
            assert!(ReturnPath::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn what_only_looks_like_another_host_stays_at_the_app() {
        let app = AppUrl::parse("https://app.example.com/base").expect("a URL");
        for odd in [
            "/@evil.example",
            "/:80@evil.example",
            "/.evil.example",
            "/https://evil.example",
            "/https:evil.example",
            "/javascript:alert(1)",
            "/data:text/html,x",
            "/%2f%2fevil.example",
            "/%2F/evil.example",
            "/%5cevil.example",
            "/%5C%5Cevil.example",
            "/%09/evil.example",
            "/%0a/evil.example",
            "/%0d%0aLocation:%20https://evil.example",
            "/%00/evil.example",
            "/%ef%bc%8fevil.example",
            "/%c0%af%c0%afevil.example",
            "/%252f%252fevil.example",
            "/;//evil.example",
            "/a//evil.example",
            "/?next=//evil.example",
            "/?next=https://evil.example",
            "/#//evil.example",
            "/#@evil.example",
            "/?@evil.example",
        ] {
            let path = ReturnPath::parse(odd).expect(odd);
            let there = Url::parse(&app.join(&path)).expect(odd);
            assert_eq!(there.origin().ascii_serialization(), "https://app.example.com", "{odd}");
            assert!(there.path().starts_with("/base/"), "{odd}");
            assert!(!there.path().starts_with("/base//"), "{odd}");
            let alone = Url::parse("https://app.example.com").expect("a URL").join(path.as_str()).expect(odd);
            assert_eq!(alone.origin(), there.origin(), "{odd}");
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
            "https://x/base/../a",
            "https://x/%2e",
            "https://x y",
            "https://x:port",
            "https://x:+80",
            "https://x:65536",
            "https://x\\y",
            "https://1.2.3.4.5",
            "https://1.2.3.256",
            "https://xn--a",
            "https://[::1",
            "https://[::1]x",
            "https://[1.2.3.4]",
            "https://a%2eb",
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
            ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
            ("https://[2001:DB8::0:1]:8443", "https://[2001:db8::1]:8443"),
            ("http://127.1", "http://127.0.0.1"),
            ("https://0xa.0.0.1", "https://10.0.0.1"),
            ("https://app.example.com:0443", "https://app.example.com"),
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
            "https://app.example.com:+443",
            "https://1.2.3.4.5",
            "https://xn--a",
            "https://a b",
            "https://ä.example",
            "app.example.com",
            "//app.example.com",
            "ftp://app.example.com",
            "file://",
        ] {
            assert!(matches!(Origin::parse(bad), Err(InvalidOrigin(InvalidUrl::NotAUrl(_)))), "{bad:?}");
        }
        for plain in ["http://app.example.com", "http://localhost.example.com", "http://10.0.0.1:8080"] {
            assert!(
                matches!(Origin::parse(plain), Err(InvalidOrigin(InvalidUrl::PlainHttp(_)))),
                "{plain:?}"
            );
        }
    }
}
