//! Why Stripe did not do what it was asked.

use std::fmt;

use serde::Deserialize;

/// Why Stripe did not do what it was asked. Holds no word of Stripe's that a person wrote or that names an object:
/// only its codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StripeError {
    /// Stripe understood and refused.
    Rejected(Rejection),
    /// Stripe could not be reached, did not answer in time, is overloaded or broken.
    Unavailable {
        /// What happened.
        what: &'static str,
        /// Stripe's id of the last request, if it answered at all.
        request_id: Option<String>,
    },
}

/// Stripe's refusal, in its codes (<https://docs.stripe.com/api/errors>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status.
    pub status: u16,
    /// `invalid_request_error`, `idempotency_error` and the like.
    pub kind: Option<String>,
    /// `resource_missing` and the like; not every refusal has one.
    pub code: Option<String>,
    /// Which parameter was at fault, if it is one of ours.
    pub param: Option<&'static str>,
    /// Whether it speaks of a missing configuration of the Customer Portal, which has no code of its own.
    pub portal_not_configured: bool,
    /// Stripe's id of the request.
    pub request_id: Option<String>,
}

impl StripeError {
    /// Stripe's id of the request that failed.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Rejected(rejection) => rejection.request_id.as_deref(),
            Self::Unavailable { request_id, .. } => request_id.as_deref(),
        }
    }

    /// The class of the failure, for metrics.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Unavailable { what, .. } => what,
            Self::Rejected(Rejection { status, .. }) => match status {
                400 => "status_400",
                401 => "status_401",
                402 => "status_402",
                403 => "status_403",
                404 => "status_404",
                409 => "status_409",
                _ => "status_other",
            },
        }
    }

    /// Whether Stripe says that the customer is not there, or not any more.
    pub fn is_missing_customer(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { code: Some(code), param: Some(param), .. })
            if code == "resource_missing" && *param == "customer")
    }

    /// Whether Stripe says that what was asked for is not there. A 404 alone may be anybody's between us and Stripe.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { code: Some(code), .. }) if code == "resource_missing")
    }

    /// Whether the answer was too long, or took too long to come: less of it may come.
    pub fn is_too_much(&self) -> bool {
        matches!(self, Self::Unavailable { what: "broken_reply" | "timeout", .. })
    }

    /// Whether the Customer Portal has never been configured.
    pub fn is_portal_not_configured(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { portal_not_configured: true, .. }))
    }
}

impl fmt::Display for StripeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(Rejection { status, kind, code, param, .. }) => {
                write!(f, "Stripe refused with status {status}")?;
                for (name, value) in [("type", kind), ("code", code), ("param", param)] {
                    if let Some(value) = value {
                        write!(f, ", {name} {value}")?;
                    }
                }
                Ok(())
            }
            Self::Unavailable { what, .. } => write!(f, "Stripe is not available: {what}"),
        }
    }
}

impl std::error::Error for StripeError {}

/// The longest type or code that is kept.
const CODE_LENGTH: usize = 64;

/// The parameters of our requests that Stripe may find fault with. Only these are kept, because the error ends up in log
/// lines and Stripe builds the name of a parameter from what it was sent.
const PARAMETERS: [&str; 24] = [
    "cancel_url",
    "client_reference_id",
    "configuration",
    "customer",
    "enabled_events",
    "flow_data",
    "flow_data[subscription_cancel][subscription]",
    "flow_data[subscription_update][subscription]",
    "flow_data[type]",
    "id",
    "line_items",
    "line_items[0][price]",
    "line_items[0][quantity]",
    "locale",
    "lookup_keys",
    "metadata",
    "mode",
    "price",
    "return_url",
    "starting_after",
    "subscription",
    "subscription_data",
    "success_url",
    "url",
];

impl Rejection {
    /// Reads an error answer. A body that is not Stripe's leaves the status alone to speak.
    pub(super) fn read(status: u16, body: &[u8], request_id: Option<String>) -> Self {
        let error = serde_json::from_slice::<Body>(body).unwrap_or_default().error;
        let portal_not_configured = status == 400
            && error.code.is_none()
            && error.message.is_some_and(|message| message.starts_with("No configuration provided"));
        Self {
            status,
            kind: error.kind.filter(|kind| is_code(kind)),
            code: error.code.filter(|code| is_code(code)),
            param: error.param.as_deref().and_then(parameter),
            portal_not_configured,
            request_id,
        }
    }
}

/// Codes and parameter names are words with brackets at most; anything else is not passed on.
fn word(text: String) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'[' | b']' | b'.' | b'-');
    (text.len() <= WORD_LENGTH && text.bytes().all(plain)).then_some(text)
}

#[derive(Default, Deserialize)]
struct Body {
    error: Error,
}

#[derive(Default, Deserialize)]
struct Error {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
    message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_own_words_are_not_kept() {
        let body = br#"{"error":{"type":"invalid_request_error","code":"resource_missing","param":"customer",
            "message":"No such customer: 'cus_canary'"}}"#;
        let rejection = Rejection::read(400, body, Some("req_1".into()));
        assert!(!format!("{rejection:?}").contains("canary"));
        assert!(StripeError::Rejected(rejection).is_missing_customer());
    }

    #[test]
    fn a_missing_portal_configuration_is_known_by_its_sentence() {
        let body = br#"{"error":{"type":"invalid_request_error",
            "message":"No configuration provided and your test mode default configuration has not been created."}}"#;
        assert!(StripeError::Rejected(Rejection::read(400, body, None)).is_portal_not_configured());
    }

    #[test]
    fn a_body_that_is_not_stripes_leaves_the_status() {
        let rejection = Rejection::read(402, b"<html>", None);
        assert_eq!((rejection.status, rejection.code), (402, None));
    }
}
