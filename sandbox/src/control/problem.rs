//! Errors of the control API.

use poem::error::ResponseError;
use poem::http::StatusCode;
use poem::web::Json;
use poem::{IntoResponse, Response};
use serde_json::json;

#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    message: String,
}

impl Problem {
    pub(super) fn bad_request(message: impl Into<String>) -> Problem {
        Problem { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(super) fn not_found(kind: &str, id: &str) -> Problem {
        Problem { status: StatusCode::NOT_FOUND, message: format!("There is no {kind} '{id}'.") }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Problem {
        Problem { status: StatusCode::CONFLICT, message: message.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }
}

/// Gives the framework's errors the same JSON shape as ours.
pub(super) async fn error_response(error: poem::Error) -> Response {
    Json(json!({ "error": error.to_string() })).with_status(error.status()).into_response()
}
