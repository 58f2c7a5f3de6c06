//! The headers that keep a browser, or a cache on the way, from making more of an answer than it is for.

use poem::Response;
use poem::http::{HeaderName, HeaderValue, header};

/// For the built page: everything from here, no script or style within the document, and nobody puts it into a frame, where
/// a click could be stolen. Its calls go to the service that it came from.
pub(in crate::http) const PAGE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// For `/docs`, which is one document with its script and its style in it, and nothing in it that anybody sent.
pub(in crate::http) const DOCS: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For all else, which is data: whoever opens it as a page sees it, and nothing of it runs.
const DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// What every answer has, unless whoever made it knows better. There is no `Server` among them, and nobody adds one.
const EVERYWHERE: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, DATA),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // The page's address may bear the id of a checkout session.
    (header::REFERRER_POLICY, "no-referrer"),
    // For browsers that do not know `frame-ancestors`.
    (header::X_FRAME_OPTIONS, "DENY"),
    // Answers are private, or say what is wrong right now. The page's files say themselves how long they are good.
    (header::CACHE_CONTROL, "no-store"),
    // A page of elsewhere embeds nothing from here. What it may ask, it asks by CORS, which this leaves alone.
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Gives a page its policy, and what it does not need of a browser.
pub(in crate::http) fn protect(page: &mut Response, content_security_policy: &'static str) {
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(content_security_policy));
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    );
}

/// For a year, nobody is to come here without TLS. Only where it was agreed on with us: a proxy says so itself.
const HTTPS_ONLY: (HeaderName, &str) = (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");

/// Adds what every response has.
pub(super) fn add(response: &mut Response, is_https: bool) {
    for (name, value) in EVERYWHERE.into_iter().chain(is_https.then_some(HTTPS_ONLY)) {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
}
