//! Where Stripe is told to post events.

use std::fmt;

use url::Url;

use super::secure_url::{InvalidUrl, SecureUrl};

/// The route of webhooks below an address.
const ROUTE: &str = "/api/billing/webhook/";

/// The URL of a webhook endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

const FORM: &str = "https://host[:port][/path]";

impl WebhookUrl {
    /// Reads the endpoint's URL, or the address of the service, to which the route of webhooks is added.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let mut url = SecureUrl::parse(text, FORM, "Stripe does not post")?.into_url();
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidUrl::NotAUrl(FORM));
        }
        match without_double_slashes(url.path()).as_str() {
            "/" => url.set_path(ROUTE),
            path => url.set_path(path),
        }
        Ok(Self(url))
    }

    /// Whether an endpoint's URL is this one; the service takes both with and without the slash at the end.
    pub fn is(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| without_last_slash(&url) == without_last_slash(&self.0))
    }

    /// Whether an endpoint's URL ends in the route of our webhooks.
    pub fn is_like_ours(url: &str) -> bool {
        url.trim_end_matches('/').ends_with(ROUTE.trim_end_matches('/'))
    }

    /// The host that Stripe posts to.
    pub fn host(&self) -> String {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

fn without_last_slash(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// The service has no route with an empty part, so a second slash is a mistake.
fn without_double_slashes(path: &str) -> String {
    let mut plain = path.to_owned();
    while plain.contains("//") {
        plain = plain.replace("//", "/");
    }
    plain
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
    fn its_host_is_without_a_port() {
        for (text, host) in [
            ("https://billing.example.com", "billing.example.com"),
            ("https://billing.example.com:8443/hook", "billing.example.com"),
            ("https://[2001:db8::1]:8443", "2001:db8::1"),
        ] {
            assert_eq!(WebhookUrl::parse(text).expect("a URL").host(), host);
        }
    }

    #[test]
    fn an_address_gets_the_route_and_an_endpoint_keeps_its_own() {
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
    fn what_stripe_should_not_post_to_is_refused() {
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
    fn a_slash_at_the_end_makes_no_other_endpoint() {
        let url = WebhookUrl::parse("https://a.example").expect("a URL");
        assert!(url.is("https://a.example/api/billing/webhook"));
        assert!(!url.is("https://b.example/api/billing/webhook/"));
        assert!(WebhookUrl::is_like_ours("https://b.example/api/billing/webhook"));
        assert!(!WebhookUrl::is_like_ours("https://b.example/webhook"));
    }
}
