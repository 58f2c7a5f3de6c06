//! CORS (<https://fetch.spec.whatwg.org/#http-cors-protocol>): the configured origins may call the
//! operations for tenants' users. Access needs a token, so browser credentials such as cookies are
//! never allowed.
//!
//! poem's own CORS middleware would reject the service's own page, since browsers send `Origin`
//! there too.

use std::sync::Arc;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{IntoResponse, Request, Response};

use crate::clock::Clock;
use crate::domain::app_url::Origin;
use crate::http::problem::{Code, Problem};
use crate::http::throttle::{LineLimiter, one_line_per_minute};

const METHODS: &str = "GET, POST";

/// The headers that the API reads besides the CORS-safelisted ones.
const REQUEST_HEADERS: &str = "authorization, content-type, if-none-match, last-event-id, traceparent";

/// The headers that a page may read besides the CORS-safelisted ones.
const RESPONSE_HEADERS: &str = "etag, retry-after";

/// How long a browser may cache a preflight response. Chromium's maximum is two hours.
const MAX_AGE_SECONDS: &str = "7200";

pub(in crate::http) struct CorsRules {
    allowed: Vec<Origin>,
    warnings: LineLimiter,
}

impl CorsRules {
    pub(in crate::http) fn new(allowed: Vec<Origin>, clock: Arc<dyn Clock>) -> Self {
        Self { allowed, warnings: one_line_per_minute(clock) }
    }

    pub(super) fn check(&self, request: &Request) -> Check<'_> {
        let origin = request.header(header::ORIGIN).map(str::to_owned);
        let allowed = self.allowed.iter().find(|allowed| Some(allowed.as_str()) == origin.as_deref());
        Check { rules: self, is_preflight: is_preflight(request), origin, allowed }
    }

    /// Rejects a page and logs its origin: only the operator knows whether it belongs to the
    /// product.
    fn reject(&self, origin: Option<&str>) -> Response {
        if self.warnings.check().is_ok() {
            let origin = origin.and_then(|origin| Origin::parse(origin).ok());
            let origin = origin.as_ref().map_or("(not an https origin)", Origin::as_str);
            tracing::warn!(
                origin,
                "rejected a page of another origin; BILLHOOK_CORS_ORIGINS does not contain it"
            );
        }
        let detail =
            "Pages of this origin may not call the API. The operator can add it to BILLHOOK_CORS_ORIGINS.";
        Problem::new(Code::NotAllowed, detail).into_response()
    }
}

/// The rules applied to one request.
pub(super) struct Check<'a> {
    rules: &'a CorsRules,
    is_preflight: bool,
    origin: Option<String>,
    allowed: Option<&'a Origin>,
}

impl Check<'_> {
    /// The response if the request is a preflight. Browsers send one only for pages of other
    /// origins.
    pub(super) fn preflight_response(&self) -> Option<Response> {
        self.is_preflight.then(|| {
            if self.allowed.is_some() { preflight() } else { self.rules.reject(self.origin.as_deref()) }
        })
    }

    /// Adds the headers that allow a page to read the response.
    pub(super) fn add_headers(&self, response: &mut Response) {
        if self.rules.allowed.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.allowed.and_then(|origin| HeaderValue::from_str(origin.as_str()).ok()) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            insert(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        }
    }
}

fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Lists what is allowed. The browser compares it with the requested method and headers.
fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    insert(headers, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    insert(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    insert(headers, header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    response
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
