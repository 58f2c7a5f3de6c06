//! What the service answered, and the house's rules for all that it answers.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

/// Longer than any limit of the service, so that a hang fails the test.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Every code that a problem may have.
const CODES: [&str; 18] = [
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

/// What the service answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// Sends a request, and holds the answer to the house's rules.
    pub async fn to(request: RequestBuilder) -> Self {
        let (answer, method) = Self::unlooked(request).await;
        answer.assert_well_made(&method);
        answer
    }

    /// The same of the listener for metrics, whose requests have no traces.
    pub async fn untraced(request: RequestBuilder) -> Self {
        let (answer, method) = Self::unlooked(request).await;
        answer.assert_protected();
        if answer.status.as_u16() >= 400 && method != Method::HEAD {
            assert_eq!(answer.assert_problem()["trace_id"], Value::Null);
        }
        answer
    }

    /// The answer of a front, which may be its own and keeps to no rule of ours.
    pub async fn of_the_front(request: RequestBuilder) -> Self {
        Self::unlooked(request).await.0
    }

    async fn unlooked(request: RequestBuilder) -> (Self, Method) {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let method = request.method().clone();
        let answer = async {
            let response = client.execute(request).await.expect("the service answers");
            Self::of(response).await.expect("the answer is text")
        };
        (timeout(ANSWER_TIMEOUT, answer).await.expect("the service answers in time"), method)
    }

    /// What a response says, unless the connection breaks.
    pub async fn of(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The answer's body, if it is a 200.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// Whether it is this problem.
    pub fn assert_is(&self, status: u16, code: &str) {
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

    /// All that two of whom nobody may know whether they differ have in common: everything but the trace and the time.
    pub fn but_for_its_trace(&self) -> (StatusCode, HeaderMap, Value) {
        let (mut headers, mut problem) = (self.headers.clone(), self.json());
        headers.remove("date");
        assert!(problem["trace_id"].take().is_string(), "{self:?}");
        (self.status, headers, problem)
    }

    /// The house's rules: whatever goes wrong is a problem with a known code, and no answer is without its headers.
    pub fn assert_well_made(&self, method: &Method) {
        self.assert_protected();
        if self.status.as_u16() < 400 {
            return;
        }
        if *method == Method::HEAD {
            // It has no body, and says what it would have been.
            assert_eq!((self.header("content-type"), &*self.text), (Some(PROBLEM), ""), "{self:?}");
            return;
        }
        assert_eq!(self.assert_problem()["trace_id"].as_str().map(str::len), Some(32), "{self:?}");
    }

    fn assert_protected(&self) {
        for header in ["content-security-policy", "referrer-policy", "x-frame-options", "cache-control"] {
            assert!(self.headers.contains_key(header), "there is no {header}: {self:?}");
        }
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        for banner in ["server", "x-powered-by"] {
            assert_eq!(self.header(banner), None, "{self:?}");
        }
    }

    fn assert_problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some(PROBLEM), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let problem = self.json();
        let code = problem["code"].as_str().expect("a code");
        assert!(CODES.contains(&code), "an unknown code: {code}");
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["type"], format!("urn:billhook:problem:{code}"));
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem
    }
}

const PROBLEM: &str = "application/problem+json";
