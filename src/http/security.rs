//! The headers that keep a page of ours to what it is for. What answers with data alone needs none: nobody renders it.

use poem::Response;
use poem::http::{HeaderName, HeaderValue, header};

/// For the built page: everything from here, no script or style within the document, and nobody puts it into a frame, where
/// a click could be stolen. Its calls go to the service that it came from.
pub(super) const PAGE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// For `/docs`, which is one document with its script and its style in it, and nothing in it that anybody sent.
pub(super) const DOCS: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Adds the headers, with one of the policies above.
pub(super) fn protect(response: &mut Response, content_security_policy: &'static str) {
    let headers = response.headers_mut();
    let mut insert = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    insert(header::CONTENT_SECURITY_POLICY, content_security_policy);
    insert(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // The page's address may bear the id of a checkout session.
    insert(header::REFERRER_POLICY, "no-referrer");
    insert(
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    );
}
