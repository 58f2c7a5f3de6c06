//! What the service answered, and the house's rule for what goes wrong.

use reqwest::StatusCode;
use serde_json::Value;

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
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.expect("the answer is text") }
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

    pub fn assert_problem(&self) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        let code = problem["code"].as_str().expect("a code");
        assert!(CODES.contains(&code), "an unknown code: {code}");
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["type"], format!("urn:billhook:problem:{code}"));
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        assert_eq!(problem["trace_id"].as_str().map(str::len), Some(32), "{problem}");
    }
}
