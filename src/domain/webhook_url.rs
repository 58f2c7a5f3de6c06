use std::fmt;

use url::Url;

use super::secure_url::{InvalidUrl, SecureUrl};

const WEBHOOK_PATH: &str = "/api/billing/webhook/";

/// The URL to which Stripe posts events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

const FORM: &str = "https://host[:port][/path]";

impl WebhookUrl {
    /// Accepts the endpoint's URL, or the URL of the service, to which the webhook path is
    /// appended.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let mut url = SecureUrl::parse(text, FORM, "Stripe does not post to it")?.into_url();
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidUrl::NotAUrl(FORM));
        }
        // The service has no route with an empty segment, so a double slash is a mistake.
        let mut path = url.path().to_owned();
        while path.contains("//") {
            path = path.replace("//", "/");
        }
        url.set_path(if path == "/" { WEBHOOK_PATH } else { &path });
        Ok(Self(url))
    }

    /// Ignores a trailing slash, since the service accepts both forms.
    pub fn matches(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| without_trailing_slash(&url) == without_trailing_slash(&self.0))
    }

    /// Whether an endpoint's URL ends with Billhook's webhook path.
    pub fn has_webhook_path(url: &str) -> bool {
        url.trim_end_matches('/').ends_with(WEBHOOK_PATH.trim_end_matches('/'))
    }

    /// Without port, and without the brackets of an IPv6 address.
    pub fn host(&self) -> String {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

fn without_trailing_slash(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_host_has_no_port() {
        for (text, host) in [
            ("https://billing.example.com", "billing.example.com"),
            ("https://billing.example.com:8443/hook", "billing.example.com"),
            ("https://[2001:db8::1]:8443", "2001:db8::1"),
        ] {
            assert_eq!(WebhookUrl::parse(text).expect("a URL").host(), host);
        }
    }

    #[test]
    fn webhook_path_is_appended_only_to_url_without_path() {
        for (text, url) in [
            ("https://billing.example.com", "https://billing.example.com/api/billing/webhook/"),
            ("https://billing.example.com/", "https://billing.example.com/api/billing/webhook/"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/billing/webhook/"),
            ("https://billing.example.com//", "https://billing.example.com/api/billing/webhook/"),
            ("https://billing.example.com///", "https://billing.example.com/api/billing/webhook/"),
            ("https://example.com//api///billing/webhook//", "https://example.com/api/billing/webhook/"),
            (
                "https://example.com/billhook/api/billing/webhook",
                "https://example.com/billhook/api/billing/webhook",
            ),
        ] {
            assert_eq!(WebhookUrl::parse(text).map(|url| url.to_string()), Ok(url.to_owned()));
        }
    }

    #[test]
    fn invalid_webhook_url_is_rejected() {
        for text in [
            "",
            "billing.example.com",
            "ftp://a.example",
            "https://u:p@a.example",
            "https://a.example/?a",
            "https:///a",
        ] {
            assert!(matches!(WebhookUrl::parse(text), Err(InvalidUrl::NotAUrl(_))), "{text}");
        }
        assert!(matches!(WebhookUrl::parse("http://a.example"), Err(InvalidUrl::PlainHttp(_))));
    }

    #[test]
    fn webhook_url_matches_without_trailing_slash() {
        let url = WebhookUrl::parse("https://a.example").expect("a URL");
        assert!(url.matches("https://a.example/api/billing/webhook"));
        assert!(!url.matches("https://b.example/api/billing/webhook/"));
        assert!(WebhookUrl::has_webhook_path("https://b.example/api/billing/webhook"));
        assert!(!WebhookUrl::has_webhook_path("https://b.example/webhook"));
    }
}
