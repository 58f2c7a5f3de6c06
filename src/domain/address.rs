//! Where a browser is sent back to: a path of the caller's choosing, at an origin of the operator's.

use std::fmt;

/// The longest path that is taken: with the app's URL before it, it stays under the 2 000 characters that every
/// browser and proxy carries.
const PATH_LENGTH: usize = 1024;

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
    "must be a path of the app: one `/` at its start, visible ASCII characters, no backslash, at most 1024 characters"
)]
pub struct InvalidReturnPath;

impl AppUrl {
    /// Reads the app's address. Credentials, a query or a fragment have no place in it.
    pub fn parse(text: &str) -> Result<Self, InvalidAppUrl> {
        let rest =
            text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(InvalidAppUrl)?;
        let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
        let authority_is_plain = !authority.is_empty()
            && authority
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        let has_port_at_most = authority.rsplit_once(':').is_none_or(|(host, port)| {
            host.starts_with('[') && !host.ends_with(']') || port.parse::<u16>().is_ok()
        });
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'\\' | b'?' | b'#' | b'@');
        if authority_is_plain && has_port_at_most && rest.bytes().all(plain) {
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
    /// what it would drop before looking (control characters, white space).
    pub fn parse(text: &str) -> Result<Self, InvalidReturnPath> {
        let local = text.starts_with('/') && !text.starts_with("//");
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        if local && plain && text.len() <= PATH_LENGTH {
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
    fn what_a_browser_would_take_for_another_host_is_refused() {
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
}
