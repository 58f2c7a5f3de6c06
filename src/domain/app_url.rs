//! The app's URL, which the operator configures, and the paths to which Stripe redirects the
//! browser, which the client chooses. Also the origins that CORS allows.

use std::fmt;

use url::Url;

use super::secure_url::{InvalidUrl, SecureUrl, http_url};

/// With the app's URL before it, a path stays below the 2 000 characters that all browsers and
/// proxies support.
const MAX_PATH_BYTES: usize = 1024;

/// Stripe replaces it with the session's id. Other braces are invalid in a URL.
const SESSION_PLACEHOLDER: &str = "{CHECKOUT_SESSION_ID}";

/// Without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppUrl(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a URL of the form `https://host[:port][/path]`")]
pub struct InvalidAppUrl;

/// A path of the app, optionally with a query and a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnPath(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a path of the app: it starts with one `/`, contains only characters that are valid in a URL (percent-encode \
     others), has no segment `.` or `..` and at most 1024 characters"
)]
pub struct InvalidReturnPath;

/// An origin that CORS allows, as browsers send it in `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has an item that {0}")]
pub struct InvalidOrigin(InvalidUrl);

const ORIGIN_FORM: &str = "https://host[:port]";

impl AppUrl {
    /// Rejects credentials, a query, a fragment and dot segments.
    pub fn parse(text: &str) -> Result<Self, InvalidAppUrl> {
        let is_plain = |_: &Url| !text.contains(['?', '#']) && !has_dot_segments(text);
        http_url(text).filter(is_plain).ok_or(InvalidAppUrl)?;
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    pub fn join(&self, path: &ReturnPath) -> String {
        format!("{}{}", self.0, path.0)
    }
}

impl ReturnPath {
    /// Rejects what a browser would resolve to another host (`//evil`, `/\evil`, `https:`),
    /// characters that are invalid in a URL (RFC 3986, appendix A), since browsers drop some of
    /// them and Stripe rejects the URL, and dot segments, which lead out of an app whose URL has a
    /// path (`/../other-app`) or to another host (`/.//evil`).
    pub fn parse(text: &str) -> Result<Self, InvalidReturnPath> {
        let is_local = text.starts_with('/') && !text.starts_with("//");
        if is_local && text.len() <= MAX_PATH_BYTES && has_url_characters(text) && !has_dot_segments(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReturnPath)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn has_url_characters(text: &str) -> bool {
    let text = text.replace(SESSION_PLACEHOLDER, "_");
    let encoded = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?#%".contains(&b))
        && text.matches('#').count() <= 1
        && text.split('%').skip(1).all(encoded)
}

/// Whether the path has a single-dot or double-dot segment, as the URL Standard defines them: a dot
/// may be written `%2e`.
fn has_dot_segments(text: &str) -> bool {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    path.split('/')
        .any(|segment| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."))
}

impl Origin {
    /// `https`, or plain `http` to loopback, whose pages no other machine can replace.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let url = SecureUrl::parse(text, ORIGIN_FORM, "its pages could be replaced in transit")
            .map_err(InvalidOrigin)?;
        let has_path = text.splitn(4, ['/', '?', '#']).count() > 3;
        if has_path {
            return Err(InvalidOrigin(InvalidUrl::NotAUrl(ORIGIN_FORM)));
        }
        Ok(Self(url.into_url().origin().ascii_serialization()))
    }

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
    fn return_path_is_joined_to_app_url() {
        let app = AppUrl::parse("https://app.example.com/").expect("a URL");
        for path in ["/", "/billing", "/billing?session_id={CHECKOUT_SESSION_ID}#top", "/%2F%2Fevil.example"]
        {
            let joined = app.join(&ReturnPath::parse(path).expect(path));
            assert_eq!(joined, format!("https://app.example.com{path}"));
        }
    }

    #[test]
    fn return_path_to_another_host_or_invalid_url_is_rejected() {
        for bad in [
            "",
            "billing",
            "evil.example",
            "@evil.example",
            ".evil.example",
            ":80/evil",
            "?next=/",
            "#/",
            // Another host, without the scheme.
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
            // Browsers drop tabs and line breaks anywhere, and white space and control characters
            // at both ends.
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
            // Characters that look like a slash, become one by normalisation, or are invisible.
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
    fn absolute_url_as_return_path_is_rejected() {
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
            // An encoded slash at the start.
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
    fn return_path_with_dot_segment_is_rejected() {
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
    fn return_path_that_looks_like_another_host_stays_in_app() {
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
            let joined = Url::parse(&app.join(&path)).expect(odd);
            assert_eq!(joined.origin().ascii_serialization(), "https://app.example.com", "{odd}");
            assert!(joined.path().starts_with("/base/"), "{odd}");
            assert!(!joined.path().starts_with("/base//"), "{odd}");
            let resolved =
                Url::parse("https://app.example.com").expect("a URL").join(path.as_str()).expect(odd);
            assert_eq!(resolved.origin(), joined.origin(), "{odd}");
        }
    }

    #[test]
    fn app_url_is_a_bare_http_url() {
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
    fn origin_is_normalised_as_browsers_send_it() {
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
    fn invalid_origin_is_rejected() {
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
