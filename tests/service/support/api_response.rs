//! A response of the service, and the rules that every response follows.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

/// Longer than any timeout of the service, so that a hang fails the test.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);

/// Every problem code of the API.
const PROBLEM_CODES: [&str; 18] = [
    "invalid_request",
    "invalid_signature",
    "unreadable_event",
    "not_authenticated",
    "not_allowed",
    "not_found",
    "method_not_allowed",
    "no_customer",
    "no_subscription",
    "already_subscribed",
    "too_large",
    "unsupported_media_type",
    "throttled",
    "internal",
    "stripe_rejected",
    "stripe_unavailable",
    "billing_not_configured",
    "unavailable",
];

#[derive(Debug)]
pub struct ApiResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl ApiResponse {
    /// Sends a request and checks the response with [`Self::assert_conforms`].
    pub async fn send(request: RequestBuilder) -> Self {
        let (response, method) = Self::exchange(request).await;
        response.assert_conforms(&method);
        response
    }

    /// Sends a request to the metrics listener, whose problems have no trace id.
    pub async fn send_to_metrics(request: RequestBuilder) -> Self {
        let (response, method) = Self::exchange(request).await;
        response.assert_security_headers();
        if response.status.as_u16() >= 400 && method != Method::HEAD {
            assert_eq!(response.check_problem()["trace_id"], Value::Null);
        }
        response
    }

    /// Sends a request through a reverse proxy, whose own responses follow none of our rules.
    pub async fn send_unchecked(request: RequestBuilder) -> Self {
        Self::exchange(request).await.0
    }

    async fn exchange(request: RequestBuilder) -> (Self, Method) {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let method = request.method().clone();
        let response = async {
            let response = client.execute(request).await.expect("the service responds");
            Self::read(response).await.expect("the body is text")
        };
        (timeout(RESPONSE_TIMEOUT, response).await.expect("the service responds in time"), method)
    }

    /// Reads a response. Fails if the connection breaks.
    pub async fn read(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// Asserts a 200 and returns the body.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.json()["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text
        );
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header of text"))
    }

    /// Everything but the trace id and the date, to compare two responses that must be
    /// indistinguishable.
    pub fn without_trace_id(&self) -> (StatusCode, HeaderMap, Value) {
        let (mut headers, mut problem) = (self.headers.clone(), self.json());
        headers.remove("date");
        assert!(problem["trace_id"].take().is_string(), "{self:?}");
        (self.status, headers, problem)
    }

    /// Asserts that the response has the security headers, and that an error is a problem document
    /// with a known code.
    pub fn assert_conforms(&self, method: &Method) {
        self.assert_security_headers();
        if self.status.as_u16() < 400 {
            return;
        }
        if *method == Method::HEAD {
            // It has no body, but the headers of one.
            assert_eq!((self.header("content-type"), &*self.text), (Some(PROBLEM), ""), "{self:?}");
            return;
        }
        assert_eq!(self.check_problem()["trace_id"].as_str().map(str::len), Some(32), "{self:?}");
    }

    fn assert_security_headers(&self) {
        for header in ["content-security-policy", "referrer-policy", "x-frame-options", "cache-control"] {
            assert!(self.headers.contains_key(header), "{header} is missing: {self:?}");
        }
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        for banner in ["server", "x-powered-by"] {
            assert_eq!(self.header(banner), None, "{self:?}");
        }
    }

    fn check_problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some(PROBLEM), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let problem = self.json();
        let code = problem["code"].as_str().expect("a code");
        assert!(PROBLEM_CODES.contains(&code), "unknown code: {code}");
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["type"], format!("urn:billhook:problem:{code}"));
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem
    }
}

const PROBLEM: &str = "application/problem+json";
