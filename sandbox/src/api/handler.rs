//! The handler of all API calls: it records the call, checks the API key, injects faults, executes
//! the call at most once per idempotency key, and responds. Start with [`handle`].

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use poem::http::{HeaderMap, Method, StatusCode};
use poem::web::Data;
use poem::{Body, Request, Response, handler};
use serde_json::{Map, Value, json};

use super::error::StripeError;
use super::faults::{Fault, FaultKind};
use super::form::Form;
use super::idempotency::{KeyCheck, SavedResponse};
use super::{ApiResult, form_encoding, route};
use crate::clock;
use crate::double::Double;
use crate::ids;
use crate::state::truncated_lists::{truncated, truncated_page};
use crate::state::{API_VERSION, Cause};

/// Billhook's calls have a few kilobytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

struct Call {
    request_id: String,
    method: Method,
    path: String,
    headers: HeaderMap,
    params: ApiResult,
}

struct ApiResponse {
    status: StatusCode,
    content_type: &'static str,
    body: String,
    is_replay: bool,
    should_retry: Option<bool>,
}

#[handler]
pub(crate) async fn handle(request: &Request, body: Body, Data(double): Data<&Arc<Double>>) -> Response {
    let call = Call::read(request, body).await;
    double.requests.push(call.record());
    let response = match respond(double, &call, request).await {
        Ok(response) => response,
        Err(error) => ApiResponse::json(error.status, &error.body(&call.request_id, double.now())),
    };
    response.into_response(&call, double.now())
}

async fn respond(double: &Arc<Double>, call: &Call, request: &Request) -> Result<ApiResponse, StripeError> {
    authorize(&call.headers, &double.api_key)?;
    let params = call.params()?;
    let key =
        double.idempotency_keys.check(call.header("idempotency-key"), &call.method, &call.path, params)?;
    let fault = double.faults.take(&format!("{} {}", call.method, call.path), params);
    let (before, after) = match fault {
        Some(fault) if fault.before => (Some(fault), None),
        fault => (None, fault),
    };
    if let Some(fault) = before {
        let is_saved = fault.is_saved();
        let response = inject(double, call, request, fault).await;
        return Ok(match key {
            // A saved response has precedence over a new failure.
            KeyCheck::Replay(saved) => replay(saved),
            KeyCheck::New(Some(lock)) if is_saved => {
                lock.save(SavedResponse::ServerError(response.body.clone()));
                response
            }
            KeyCheck::New(_) => response,
        });
    }
    let response = execute(double, call, params, key)?;
    match after {
        Some(fault) => Ok(inject(double, call, request, fault).await),
        None => Ok(response),
    }
}

fn execute(
    double: &Arc<Double>,
    call: &Call,
    params: &Value,
    key: KeyCheck<'_>,
) -> Result<ApiResponse, StripeError> {
    let lock = match key {
        KeyCheck::Replay(saved) => return Ok(replay(saved)),
        KeyCheck::New(lock) => lock,
    };
    let body = {
        let mut state = double.state(call.cause());
        let object = route(&mut state, &call.method, &call.path, Form::new(params.clone()))?;
        if object["object"] == "list" { truncated_page(&object) } else { truncated(&object) }
    };
    if let Some(lock) = lock {
        lock.save(SavedResponse::Success(body.clone()));
    }
    Ok(ApiResponse::json(StatusCode::OK, &body))
}

fn replay(saved: SavedResponse) -> ApiResponse {
    let response = match saved {
        SavedResponse::Success(body) => ApiResponse::json(StatusCode::OK, &body),
        SavedResponse::ServerError(body) => {
            ApiResponse { body, ..ApiResponse::json(StatusCode::INTERNAL_SERVER_ERROR, &Value::Null) }
        }
    };
    ApiResponse { is_replay: true, ..response }
}

/// Hangs or cuts the connection as the fault says. After `Drop` and `Hang` the response reaches no
/// client.
async fn inject(double: &Double, call: &Call, request: &Request, fault: Fault) -> ApiResponse {
    if let Some(client) = request.remote_addr().as_socket_addr() {
        match fault.kind {
            FaultKind::Hang => double.connections.wait_for_disconnect(*client).await,
            FaultKind::Drop => double.connections.cut(*client),
            FaultKind::Status => {}
        }
    }
    let status = fault.status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let response = match fault.body {
        Some(body) => {
            ApiResponse { body, content_type: "text/plain", ..ApiResponse::json(status, &Value::Null) }
        }
        None => ApiResponse::json(status, &StripeError::fault(status).body(&call.request_id, double.now())),
    };
    ApiResponse { should_retry: fault.should_retry, ..response }
}

/// Accepts the key as a bearer token or as the user of basic authentication.
fn authorize(headers: &HeaderMap, api_key: &str) -> Result<(), StripeError> {
    let header = headers.get("authorization").and_then(|value| value.to_str().ok());
    let Some((scheme, credentials)) = header.and_then(|header| header.split_once(' ')) else {
        return Err(StripeError::unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using \
             Bearer auth.",
        ));
    };
    let key = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => credentials.to_owned(),
        "basic" => basic_user(credentials),
        _ => String::new(),
    };
    if key == api_key {
        return Ok(());
    }
    // Never repeat any part of the key: it may be valid elsewhere.
    Err(StripeError::unauthorized("Invalid API Key provided."))
}

fn basic_user(credentials: &str) -> String {
    let decoded = BASE64.decode(credentials).unwrap_or_default();
    let text = String::from_utf8_lossy(&decoded);
    text.split(':').next().unwrap_or_default().to_owned()
}

impl Call {
    async fn read(request: &Request, body: Body) -> Call {
        Call {
            request_id: ids::short("req"),
            method: request.method().clone(),
            path: request.original_uri().path().to_owned(),
            headers: request.headers().clone(),
            params: read_params(request, body).await,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn params(&self) -> Result<&Value, StripeError> {
        self.params.as_ref().map_err(|_| StripeError::invalid("The parameters cannot be read as a form."))
    }

    fn cause(&self) -> Cause {
        Cause {
            request_id: Some(self.request_id.clone()),
            idempotency_key: self.header("idempotency-key").map(str::to_owned),
            is_silent: false,
        }
    }

    /// The record for `/_sandbox/requests`, without the API key.
    fn record(&self) -> Value {
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            let value =
                if name == "authorization" { "(hidden)" } else { value.to_str().unwrap_or("(not text)") };
            headers.insert(name.as_str().to_owned(), value.into());
        }
        json!({
            "request_id": self.request_id,
            "method": self.method.as_str(),
            "path": self.path,
            "params": self.params.as_ref().ok(),
            "headers": headers,
        })
    }
}

async fn read_params(request: &Request, body: Body) -> ApiResult {
    if request.method() == Method::POST {
        let bytes = body.into_bytes_limit(MAX_BODY_BYTES).await;
        let bytes = bytes.map_err(|_| StripeError::invalid("The body is too large or incomplete."))?;
        form_encoding::decode(&String::from_utf8_lossy(&bytes))
    } else {
        form_encoding::decode(request.original_uri().query().unwrap_or_default())
    }
}

impl ApiResponse {
    fn json(status: StatusCode, body: &Value) -> ApiResponse {
        ApiResponse {
            status,
            content_type: "application/json",
            body: format!("{body:#}"),
            is_replay: false,
            should_retry: None,
        }
    }

    fn into_response(self, call: &Call, now: i64) -> Response {
        let version = call.header("stripe-version").unwrap_or(API_VERSION);
        let mut response = Response::builder()
            .status(self.status)
            .content_type(self.content_type)
            .header("Date", clock::http_date(now))
            .header("Request-Id", &call.request_id)
            .header("Stripe-Version", version);
        if let Some(key) = call.header("idempotency-key") {
            response = response.header("Idempotency-Key", key);
        }
        if self.is_replay {
            response = response.header("Idempotent-Replayed", "true");
        }
        if let Some(should_retry) = self.should_retry {
            response = response.header("Stripe-Should-Retry", should_retry.to_string());
        }
        response.body(self.body)
    }
}
