//! Errors in Stripe's format.

use poem::http::{Method, StatusCode};
use serde_json::{Value, json};

#[derive(Debug)]
pub(crate) struct StripeError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
}

impl StripeError {
    pub(crate) fn invalid(message: impl Into<String>) -> StripeError {
        StripeError {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            param: None,
            message: message.into(),
        }
    }

    pub(crate) fn invalid_param(param: impl Into<String>, message: impl Into<String>) -> StripeError {
        StripeError { param: Some(param.into()), ..StripeError::invalid(message) }
    }

    pub(crate) fn unknown_parameter(param: impl Into<String>) -> StripeError {
        let param = param.into();
        let message = format!("Received unknown parameter: {param}");
        StripeError::invalid_param(param, message).code("parameter_unknown")
    }

    pub(crate) fn missing_parameter(param: impl Into<String>) -> StripeError {
        let param = param.into();
        let message = format!("Missing required param: {param}.");
        StripeError::invalid_param(param, message).code("parameter_missing")
    }

    /// The object in the path does not exist.
    pub(crate) fn no_such(kind: &str, id: &str) -> StripeError {
        StripeError { status: StatusCode::NOT_FOUND, ..StripeError::no_such_referenced(kind, id, "id") }
    }

    /// The object in a parameter does not exist.
    pub(crate) fn no_such_referenced(kind: &str, id: &str, param: impl Into<String>) -> StripeError {
        StripeError::invalid_param(param, format!("No such {kind}: '{id}'")).code("resource_missing")
    }

    pub(crate) fn metered_quantity(param: String) -> StripeError {
        let at = param.trim_end_matches("[quantity]");
        let message = format!(
            "Quantity should not be specified where usage_type is `metered`. Remove quantity from `{at}`"
        );
        StripeError::invalid_param(param, message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> StripeError {
        StripeError { status: StatusCode::UNAUTHORIZED, ..StripeError::invalid(message) }
    }

    pub(crate) fn unrecognized_url(method: &Method, path: &str) -> StripeError {
        let message = format!("Unrecognized request URL ({method}: {path}).");
        StripeError { status: StatusCode::NOT_FOUND, ..StripeError::invalid(message) }
    }

    pub(crate) fn idempotency(message: impl Into<String>) -> StripeError {
        StripeError { kind: "idempotency_error", ..StripeError::invalid(message) }
    }

    pub(crate) fn key_in_use(key: &str) -> StripeError {
        let message = format!("There is another request in progress with the idempotency key '{key}'.");
        StripeError { status: StatusCode::CONFLICT, ..StripeError::idempotency(message) }
            .code("idempotency_key_in_use")
    }

    /// The default error of a fault without a body.
    pub(crate) fn fault(status: StatusCode) -> StripeError {
        let error = StripeError { status, ..StripeError::invalid("A fault is set for this call.") };
        match status.as_u16() {
            429 => error.code("rate_limit"),
            402 => StripeError { kind: "card_error", ..error }.code("card_declined"),
            500.. => StripeError { kind: "api_error", ..error },
            _ => error,
        }
    }

    pub(crate) fn code(self, code: &'static str) -> StripeError {
        StripeError { code: Some(code), ..self }
    }

    pub(crate) fn body(&self, request_id: &str, now: i64) -> Value {
        let log = format!("https://dashboard.stripe.com/test/logs/{request_id}?t={now}");
        let mut error = json!({"type": self.kind, "message": self.message, "request_log_url": log});
        if let Some(code) = self.code {
            error["code"] = code.into();
            error["doc_url"] =
                format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")).into();
        }
        if let Some(param) = &self.param {
            error["param"] = param.as_str().into();
        }
        json!({ "error": error })
    }
}
