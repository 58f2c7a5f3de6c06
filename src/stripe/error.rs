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
    /// Why the Customer Portal is not opened, which only Stripe's sentence says.
    pub portal: Option<PortalRefusal>,
    /// The permission that a restricted key lacks, such as `customer_write`, which Stripe names in a sentence only.
    pub missing_permission: Option<String>,
    /// Stripe's id of the request.
    pub request_id: Option<String>,
}

/// Why Stripe does not open the Customer Portal. These refusals have no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalRefusal {
    /// The settings were never saved.
    NotConfigured,
    /// The settings switch off what the flow is for.
    FlowDisabled,
    /// The subscription that the flow is to cancel has an end already.
    AlreadyCanceling,
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

    /// Whether Stripe does not have the price that a checkout session was to sell.
    pub fn is_missing_price(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { code: Some(code), param: Some(param), .. })
            if code == "resource_missing" && *param == "line_items[0][price]")
    }

    /// Whether Stripe says that what was asked for is not there. A 404 alone may be anybody's between us and Stripe.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { code: Some(code), .. }) if code == "resource_missing")
    }

    /// Whether the answer was too long, or took too long to come: less of it may come.
    pub fn is_too_much(&self) -> bool {
        matches!(self, Self::Unavailable { what: "broken_reply" | "timeout", .. })
    }

    /// Whether Stripe repeats a failure that it keeps under the request's idempotency key.
    pub fn is_replayed(&self) -> bool {
        matches!(self, Self::Unavailable { what: REPLAYED, .. })
    }

    /// Whether the key is a restricted one that may not do this. A 403 alone may come from a proxy on the way.
    pub fn is_not_permitted(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { status: 403, kind: Some(_), .. }))
    }

    /// Why the Customer Portal is not opened, where Stripe says so.
    pub fn portal_refusal(&self) -> Option<PortalRefusal> {
        match self {
            Self::Rejected(rejection) => rejection.portal,
            Self::Unavailable { .. } => None,
        }
    }

    /// Whether Stripe finds fault with the portal configuration that the request names.
    pub fn is_of_portal_configuration(&self) -> bool {
        matches!(self, Self::Rejected(Rejection { param: Some("configuration"), .. }))
    }

    /// Whether the request cannot be carried out as it is made: another one may be.
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

/// What is unavailable is a failure that Stripe keeps under an idempotency key.
pub(super) const REPLAYED: &str = "replayed_server_error";

/// The longest type or code that is kept.
const CODE_LENGTH: usize = 64;

/// The parameters of our requests that Stripe may find fault with. Only these are kept, because the error ends up in log
/// lines and Stripe builds the name of a parameter from what it was sent.
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
    /// Reads an error answer. A body that is not Stripe's leaves the status alone to speak.
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

/// The second and third sentence are known for one flow each, and from reports, so that only their middle is looked for.
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

/// Stripe's types and codes are lower-case words with `_` between them. Ids, keys and addresses are not, and are not
/// passed on.
fn is_code(text: &str) -> bool {
    (1..=CODE_LENGTH).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// The permission that a sentence names in quotes: `Having the 'rak_customer_write' permission would allow...`, and since
/// 2026 `Enabling "Checkout Sessions Write" ('checkout_session_write') permissions...`.
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
    fn stripes_own_words_are_not_kept() {
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
        for outside in [
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
            assert_eq!(shown("api_error", "rate_limit", outside), shown("api_error", "rate_limit", ""));
            assert!(!shown(outside, outside, outside).contains(outside), "{outside}");
        }
    }

    #[test]
    fn missing_permission_is_read_from_stripes_sentence() {
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
    fn portal_refusal_is_known_by_stripes_sentence() {
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
    fn a_body_that_is_not_stripes_leaves_the_status() {
        let rejection = Rejection::read(402, b"<html>", None);
        assert_eq!((rejection.status, rejection.code), (402, None));
    }
}
