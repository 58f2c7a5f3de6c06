//! The errors of Stripe's API.

use std::fmt;

use serde::Deserialize;

/// Keeps only Stripe's codes: no text written by a person and no id of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StripeError {
    /// Stripe understood the request and rejected it.
    Rejected(Rejection),
    /// Stripe could not be reached, timed out, or is overloaded or broken.
    Unavailable {
        /// The class of the failure.
        what: &'static str,
        /// Of the last request, if Stripe responded at all.
        request_id: Option<String>,
    },
}

/// An error response, reduced to its codes (<https://docs.stripe.com/api/errors>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status.
    pub status: u16,
    /// Stripe's `type`, such as `invalid_request_error`.
    pub kind: Option<String>,
    /// Such as `resource_missing`; not every error has one.
    pub code: Option<String>,
    /// The parameter at fault, if it is one of ours.
    pub param: Option<&'static str>,
    /// Taken from the message, because these errors have no code.
    pub portal: Option<PortalRefusal>,
    /// The permission that a restricted key lacks, such as `customer_write`. Taken from the
    /// message.
    pub missing_permission: Option<String>,
    pub request_id: Option<String>,
}

/// Why Stripe rejects a portal session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalRefusal {
    /// The portal's settings were never saved.
    NotConfigured,
    /// The flow is off in the portal's settings.
    FlowDisabled,
    /// The subscription is already set to end.
    AlreadyCanceling,
}

impl StripeError {
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Rejected(rejection) => rejection.request_id.as_deref(),
            Self::Unavailable { request_id, .. } => request_id.as_deref(),
        }
    }

    /// The label in the metrics.
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

    /// Whether the customer does not exist or was deleted.
    pub fn is_missing_customer(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { code: Some(code), param: Some(param), .. })
            if code == "resource_missing" && *param == "customer")
    }

    /// Whether the price of a checkout session does not exist.
    pub fn is_missing_price(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { code: Some(code), param: Some(param), .. })
            if code == "resource_missing" && *param == "line_items[0][price]")
    }

    /// Whether the requested object does not exist. A 404 without Stripe's code may come from a
    /// proxy.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { code: Some(code), .. }) if code == "resource_missing")
    }

    /// Whether a request for fewer objects may succeed.
    pub fn is_too_large_or_slow(&self) -> bool {
        matches!(self, Self::Unavailable { what: "broken_reply" | "timeout", .. })
    }

    /// Whether Stripe replayed an earlier failure for the request's idempotency key.
    pub fn is_replayed(&self) -> bool {
        matches!(self, Self::Unavailable { what: REPLAYED_FAILURE, .. })
    }

    /// Whether a restricted key lacks a permission. A 403 without Stripe's type may come from a
    /// proxy.
    pub fn is_not_permitted(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { status: 403, kind: Some(_), .. }))
    }

    pub fn portal_refusal(&self) -> Option<PortalRefusal> {
        match self {
            Self::Rejected(rejection) => rejection.portal,
            Self::Unavailable { .. } => None,
        }
    }

    /// Whether Stripe rejects the request's portal configuration.
    pub fn is_about_portal_configuration(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { param: Some("configuration"), .. }))
    }

    /// Whether a different request may succeed.
    pub fn is_invalid_request(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { status: 400, kind: Some(kind), .. })
            if kind == "invalid_request_error")
    }
}

impl fmt::Display for StripeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(Rejection { status, kind, code, param, missing_permission, .. }) => {
                write!(f, "Stripe refused with status {status}")?;
                let facts = [
                    ("type", kind.as_deref()),
                    ("code", code.as_deref()),
                    ("param", *param),
                    ("missing permission", missing_permission.as_deref()),
                ];
                for (name, value) in facts {
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

/// The class of a failure that Stripe replays for an idempotency key.
pub(super) const REPLAYED_FAILURE: &str = "replayed_server_error";

const MAX_CODE_LENGTH: usize = 64;

/// The parameters of our requests that Stripe may reject. Others are dropped: errors are logged,
/// and Stripe derives a parameter's name from the input.
const PARAMETERS: [&str; 25] = [
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
    "status",
    "subscription",
    "subscription_data",
    "success_url",
    "url",
];

impl Rejection {
    /// Parses an error response. Only the status is kept if the body is not Stripe's.
    pub(super) fn read(status: u16, body: &[u8], request_id: Option<String>) -> Self {
        let error = serde_json::from_slice::<Body>(body).unwrap_or_default().error;
        let message = error.message.unwrap_or_default();
        let portal = if status == 400 && error.code.is_none() { portal_refusal_in(&message) } else { None };
        let missing_permission = if status == 403 { permission_in(&message) } else { None };
        Self {
            status,
            kind: error.kind.filter(|kind| is_code(kind)),
            code: error.code.filter(|code| is_code(code)),
            param: error.param.as_deref().and_then(parameter),
            portal,
            missing_permission,
            request_id,
        }
    }
}

/// The second and third message are known from reports of one flow each, so only a part of them is
/// matched.
fn portal_refusal_in(message: &str) -> Option<PortalRefusal> {
    if message.starts_with("No configuration provided") {
        Some(PortalRefusal::NotConfigured)
    } else if message.contains("portal configuration") && message.contains("disabled") {
        Some(PortalRefusal::FlowDisabled)
    } else if message.contains("already set to be canceled") {
        Some(PortalRefusal::AlreadyCanceling)
    } else {
        None
    }
}

/// Stripe's types and codes are lower-case words joined by `_`. Ids, keys and e-mail addresses are
/// not, and are dropped.
fn is_code(text: &str) -> bool {
    (1..=MAX_CODE_LENGTH).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// The quoted permission in the message:
/// `Having the 'rak_customer_write' permission would allow...`, and since 2026 `Enabling "Checkout
/// Sessions Write" ('checkout_session_write') permissions...`.
fn permission_in(message: &str) -> Option<String> {
    let quoted = message.split('\'').skip(1).step_by(2);
    let names = quoted.map(|name| name.strip_prefix("rak_").unwrap_or(name));
    let mut permissions =
        names.filter(|name| is_code(name) && (name.ends_with("_read") || name.ends_with("_write")));
    permissions.next().map(str::to_owned)
}

fn parameter(name: &str) -> Option<&'static str> {
    PARAMETERS.into_iter().find(|parameter| *parameter == name)
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
    fn rejection_drops_stripes_message() {
        let body = br#"{"error":{"type":"invalid_request_error","code":"resource_missing","param":"customer",
            "message":"No such customer: 'cus_canary'"}}"#;
        let rejection = Rejection::read(400, body, Some("req_1".into()));
        assert!(!format!("{rejection:?}").contains("canary"));
        assert!(StripeError::Rejected(rejection).is_missing_customer());
    }

    #[test]
    fn rejection_keeps_only_codes_and_our_own_parameters() {
        let shown = |kind: &str, code: &str, param: &str| {
            let body = serde_json::json!({ "error": { "type": kind, "code": code, "param": param } });
            StripeError::Rejected(Rejection::read(400, body.to_string().as_bytes(), None)).to_string()
        };
        assert_eq!(
            shown("invalid_request_error", "resource_missing", "line_items[0][price]"),
            "Stripe refused with status 400, type invalid_request_error, code resource_missing, param \
             line_items[0][price]"
        );
        let too_long = "a".repeat(65);
        for foreign in [
            "cus_Na6dX7aXxi11N4",
            "sk_test_1",
            "jane@example.com",
            "metadata[jane]",
            "line_items[0][jane]",
            "Jane",
            "a b",
            "\n",
            too_long.as_str(),
        ] {
            assert_eq!(shown("api_error", "rate_limit", foreign), shown("api_error", "rate_limit", ""));
            assert!(!shown(foreign, foreign, foreign).contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn missing_permission_is_read_from_the_message() {
        let read = |status: u16, message: &str| {
            let body =
                serde_json::json!({ "error": { "type": "invalid_request_error", "message": message } });
            Rejection::read(status, body.to_string().as_bytes(), None).missing_permission
        };
        let old = "The provided key 'rk_test_***canary' does not have the required permissions for this endpoint on \
                   account 'acct_1'. Having the 'rak_customer_write' permission would allow this request to continue.";
        let new = "Permission denied. Enabling \"Checkout Sessions Write\" ('checkout_session_write') permissions on \
                   this key would allow this request to continue.";
        assert_eq!(read(403, old).as_deref(), Some("customer_write"));
        assert_eq!(read(403, new).as_deref(), Some("checkout_session_write"));
        assert_eq!(read(400, old), None);
        for other in ["", "'", "Permission denied.", "it's 'Jane_write' or 'jane write'", "'a_write_b'"] {
            assert_eq!(read(403, other), None, "{other}");
        }
    }

    #[test]
    fn portal_refusal_is_read_from_the_message() {
        for (message, refusal) in [
            (
                "No configuration provided and your test mode default configuration has not been created.",
                Some(PortalRefusal::NotConfigured),
            ),
            (
                "This subscription cannot be updated because the subscription update feature in the portal \
                 configuration is disabled.",
                Some(PortalRefusal::FlowDisabled),
            ),
            (
                "The subscription `sub_1` is already set to be canceled at period end.",
                Some(PortalRefusal::AlreadyCanceling),
            ),
            ("Not a valid URL", None),
        ] {
            let read = |status: u16| {
                let body =
                    serde_json::json!({ "error": { "type": "invalid_request_error", "message": message } });
                StripeError::Rejected(Rejection::read(status, body.to_string().as_bytes(), None))
            };
            assert_eq!(
                (read(400).portal_refusal(), read(403).portal_refusal()),
                (refusal, None),
                "{message}"
            );
            assert!(read(400).is_invalid_request() && !read(403).is_invalid_request());
        }
    }

    #[test]
    fn rejection_with_a_foreign_body_keeps_the_status() {
        let rejection = Rejection::read(402, b"<html>", None);
        assert_eq!((rejection.status, rejection.code), (402, None));
    }
}
