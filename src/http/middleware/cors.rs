//! Which pages of other origins may ask (<https://fetch.spec.whatwg.org/#http-cors-protocol>). None may, unless they are
//! listed; and of what is here only what is for a tenant's users. A token is what gives access, so no cookie or other
//! credential of the browser's is ever wanted. poem's own turns away what comes from the service's own page, for browsers
//! send `Origin` there too.

use std::sync::Arc;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{IntoResponse, Request, Response};

use crate::clock::Clock;
use crate::domain::address::Origin;
use crate::http::problem::{Code, Problem};
use crate::http::throttle::{LineLimiter, one_line_a_minute};

const METHODS: &str = "GET, POST";

/// What the API reads of a request beyond what a browser always lets through.
const REQUEST_HEADERS: &str = "authorization, content-type, if-none-match, last-event-id, traceparent";

/// What a page may read of an answer beyond what a browser always lets it.
const ANSWER_HEADERS: &str = "etag, retry-after";

/// For how long a browser need not ask again; Chromium believes two hours and no longer.
const MAX_AGE_SECONDS: &str = "7200";

/// The pages of other origins that may ask.
pub(in crate::http) struct CorsRules {
    allowed: Vec<Origin>,
    lines: LineLimiter,
}

impl CorsRules {
    pub(in crate::http) fn new(allowed: Vec<Origin>, clock: Arc<dyn Clock>) -> Self {
        Self { allowed, lines: one_line_a_minute(clock) }
    }

    /// Checks the page that a request comes from.
    pub(super) fn check(&self, request: &Request) -> Check<'_> {
        let origin = request.header(header::ORIGIN).map(str::to_owned);
        let allowed = self.allowed.iter().find(|allowed| Some(allowed.as_str()) == origin.as_deref());
        Check { rules: self, is_preflight: is_preflight(request), origin, allowed }
    }

    /// Refuses a page, and logs which: only the operator knows whether it is one of the product's own.
    fn refuse(&self, origin: Option<&str>) -> Response {
        if self.lines.check().is_ok() {
            let origin = origin.and_then(|origin| Origin::parse(origin).ok());
            let origin = origin.as_ref().map_or("(not an https origin)", Origin::as_str);
            tracing::warn!(
                origin,
                "refused a page of another origin; BILLHOOK_CORS_ORIGINS does not list it"
            );
        }
        let how = "Pages of this origin may not ask here, unless BILLHOOK_CORS_ORIGINS lists it.";
        Problem::new(Code::NotAllowed, how).into_response()
    }
}

/// What the rules say of one request.
pub(super) struct Check<'a> {
    rules: &'a CorsRules,
    is_preflight: bool,
    origin: Option<String>,
    allowed: Option<&'a Origin>,
}

impl Check<'_> {
    /// The answer to a preflight; none if the request is not one. Only a page of another origin has its browser send one.
    pub(super) fn answer_preflight(&self) -> Option<Response> {
        self.is_preflight.then(|| {
            if self.allowed.is_some() { preflight() } else { self.rules.refuse(self.origin.as_deref()) }
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
            insert(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        }
    }
}

fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Says what is allowed; that it is not what was asked for is the browser's to see.
fn preflight() -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    let headers = answer.headers_mut();
    insert(headers, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    insert(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    insert(headers, header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    answer
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
