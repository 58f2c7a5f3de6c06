//! Security headers for browsers and caches.

use poem::Response;
use poem::http::{HeaderName, HeaderValue, header};

/// For the built frontend: everything from the same origin, no inline scripts or styles, and no
/// framing (clickjacking).
pub(in crate::http) const FRONTEND_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// For `/docs`, a single document with inline script and style. It contains no user input.
pub(in crate::http) const DOCS_CSP: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For all other responses: opened as a page, they run nothing.
const DATA_CSP: &str = "default-src 'none'; frame-ancestors 'none'";

/// Added to every response that does not set them itself. No response has a `Server` header.
const DEFAULT_HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, DATA_CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // The page's URL can contain the id of a checkout session.
    (header::REFERRER_POLICY, "no-referrer"),
    // For browsers that do not know `frame-ancestors`.
    (header::X_FRAME_OPTIONS, "DENY"),
    // Responses are private or temporary. The frontend's files set their own value.
    (header::CACHE_CONTROL, "no-store"),
    // Other sites may not embed responses. Allowed origins use CORS, which this does not affect.
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Sets a page's content security policy, and denies it browser features that it does not need.
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

/// Only for connections with our own TLS: a proxy that terminates TLS sets it itself.
const HSTS: (HeaderName, &str) = (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");

pub(super) fn add(response: &mut Response, is_https: bool) {
    for (name, value) in DEFAULT_HEADERS.into_iter().chain(is_https.then_some(HSTS)) {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
}
