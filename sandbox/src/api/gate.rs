//! The way of every API call: heard, let in, perhaps spoiled by a fault, carried out at most once, answered.

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
use super::idempotency::{Claim, Outcome};
use super::{Reply, route, tree};
use crate::clock;
use crate::double::Double;
use crate::ids;
use crate::world::embedded::{shown, shown_page};
use crate::world::{API_VERSION, Cause};

/// A call of ours is a few kilobytes; a test that sends more has lost its way.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A call, before anything is known about it.
struct Call {
    request_id: String,
    method: Method,
    path: String,
    headers: HeaderMap,
    params: Reply,
}

/// What the caller gets.
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
    replayed: bool,
    should_retry: Option<bool>,
}

#[handler]
pub(crate) async fn api(request: &Request, body: Body, Data(double): Data<&Arc<Double>>) -> Response {
    let call = Call::read(request, body).await;
    double.requests.push(call.describe());
    let answer = match answer(double, &call, request).await {
        Ok(answer) => answer,
        Err(error) => Answer::json(error.status, &error.body(&call.request_id, double.now())),
    };
    answer.into_response(&call, double.now())
}

async fn answer(double: &Arc<Double>, call: &Call, request: &Request) -> Result<Answer, StripeError> {
    authorize(&call.headers, &double.api_key)?;
    let params = call.params()?;
    let claim = double.ledger.claim(call.header("idempotency-key"), &call.method, &call.path, params)?;
    let fault = double.faults.take(&format!("{} {}", call.method, call.path), params);
    let (before, after) = match fault {
        Some(fault) if fault.before => (Some(fault), None),
        fault => (None, fault),
    };
    if let Some(fault) = before {
        let is_kept = fault.is_kept();
        let answer = spoil(double, call, request, fault).await;
        return Ok(match claim {
            // What is kept under the key comes before whatever could fail now.
            Claim::Replay(outcome) => replay(outcome),
            Claim::Fresh(Some(hold)) if is_kept => {
                hold.keep(Outcome::ServerError(answer.body.clone()));
                answer
            }
            Claim::Fresh(_) => answer,
        });
    }
    let answer = carry_out(double, call, params, claim)?;
    match after {
        Some(fault) => Ok(spoil(double, call, request, fault).await),
        None => Ok(answer),
    }
}

fn carry_out(
    double: &Arc<Double>,
    call: &Call,
    params: &Value,
    claim: Claim<'_>,
) -> Result<Answer, StripeError> {
    let hold = match claim {
        Claim::Replay(outcome) => return Ok(replay(outcome)),
        Claim::Fresh(hold) => hold,
    };
    let body = {
        let mut world = double.world(call.cause());
        let reply = route(&mut world, &call.method, &call.path, Form::new(params.clone()))?;
        if reply["object"] == "list" { shown_page(&reply) } else { shown(&reply) }
    };
    if let Some(hold) = hold {
        hold.keep(Outcome::Answer(body.clone()));
    }
    Ok(Answer::json(StatusCode::OK, &body))
}

fn replay(outcome: Outcome) -> Answer {
    let answer = match outcome {
        Outcome::Answer(body) => Answer::json(StatusCode::OK, &body),
        Outcome::ServerError(body) => {
            Answer { body, ..Answer::json(StatusCode::INTERNAL_SERVER_ERROR, &Value::Null) }
        }
    };
    Answer { replayed: true, ..answer }
}

async fn spoil(double: &Double, call: &Call, request: &Request, fault: Fault) -> Answer {
    if let Some(caller) = request.remote_addr().as_socket_addr() {
        match fault.kind {
            FaultKind::Hang => double.connections.hung_up(*caller).await,
            FaultKind::Drop => double.connections.cut(*caller),
            FaultKind::Status => {}
        }
    }
    let status = fault.status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let answer = match fault.body {
        Some(body) => Answer { body, content_type: "text/plain", ..Answer::json(status, &Value::Null) },
        None => Answer::json(status, &StripeError::fault(status).body(&call.request_id, double.now())),
    };
    Answer { should_retry: fault.should_retry, ..answer }
}

/// The key comes as a bearer token or as the user of basic authentication.
fn authorize(headers: &HeaderMap, api_key: &str) -> Result<(), StripeError> {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    let Some((scheme, credentials)) = given.and_then(|given| given.split_once(' ')) else {
        return Err(StripeError::unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using \
             Bearer auth.",
        ));
    };
    let key = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => credentials.to_owned(),
        "basic" => user(credentials),
        _ => String::new(),
    };
    if key == api_key {
        return Ok(());
    }
    // The key itself is never repeated, not even a part of it: a wrong one may be right elsewhere.
    Err(StripeError::unauthorized("Invalid API Key provided."))
}

fn user(credentials: &str) -> String {
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

    /// The call as a test reads it back.
    fn describe(&self) -> Value {
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            let shown =
                if name == "authorization" { "(hidden)" } else { value.to_str().unwrap_or("(not text)") };
            headers.insert(name.as_str().to_owned(), shown.into());
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

async fn read_params(request: &Request, body: Body) -> Reply {
    if request.method() == Method::POST {
        let bytes = body.into_bytes_limit(MAX_BODY_BYTES).await;
        let bytes = bytes.map_err(|_| StripeError::invalid("The body is too large or broke off."))?;
        tree::decode(&String::from_utf8_lossy(&bytes))
    } else {
        tree::decode(request.original_uri().query().unwrap_or_default())
    }
}

impl Answer {
    fn json(status: StatusCode, body: &Value) -> Answer {
        Answer {
            status,
            content_type: "application/json",
            body: format!("{body:#}"),
            replayed: false,
            should_retry: None,
        }
    }

    fn into_response(self, call: &Call, now: i64) -> Response {
        let version = call.header("stripe-version").unwrap_or(API_VERSION);
        let mut response = Response::builder()
            .status(self.status)
            .content_type(self.content_type)
            .header("Date", clock::header_date(now))
            .header("Request-Id", &call.request_id)
            .header("Stripe-Version", version);
        if let Some(key) = call.header("idempotency-key") {
            response = response.header("Idempotency-Key", key);
        }
        if self.replayed {
            response = response.header("Idempotent-Replayed", "true");
        }
        if let Some(should_retry) = self.should_retry {
            response = response.header("Stripe-Should-Retry", should_retry.to_string());
        }
        response.body(self.body)
    }
}
