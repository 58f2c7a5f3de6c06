//! `GET /healthz` and `GET /readyz`

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use crate::billing::Billing;
use crate::http::auth::TokenVerifier;
use crate::http::problem::{Code, DocumentedProblems, Problem, ProblemResponse};
use crate::server::LifecycleWatch;

pub(in crate::http) struct HealthApi;

pub(in crate::http) struct Readiness {
    pub(in crate::http) billing: Arc<Billing>,
    pub(in crate::http) tokens: Arc<TokenVerifier>,
    /// Unset variables without which a part of the service returns 503 or 401.
    pub(in crate::http) not_configured: Vec<&'static str>,
    pub(in crate::http) lifecycle: LifecycleWatch,
}

/// The process responds.
#[derive(Debug, Object)]
#[oai(example)]
struct Alive {
    /// Always `alive`.
    status: AliveStatus,
}

#[derive(Debug, Enum)]
#[oai(rename_all = "lowercase")]
enum AliveStatus {
    Alive,
}

impl Example for Alive {
    fn example() -> Self {
        Self { status: AliveStatus::Alive }
    }
}

/// The service can handle requests: its database is reachable, migrated and writable.
#[derive(Debug, Object)]
#[oai(example)]
struct Ready {
    /// Always `ready`.
    status: ReadyStatus,
    /// Unset variables that a part of the service needs.
    not_configured: Vec<String>,
    /// Variables whose URL has not been reached since the start. A part of the service waits for
    /// it.
    not_reached: Vec<String>,
    /// Configured prices that Stripe did not have at the last check, by id or lookup key.
    prices_not_found: Vec<String>,
}

#[derive(Debug, Enum)]
#[oai(rename_all = "lowercase")]
enum ReadyStatus {
    Ready,
}

impl Example for Ready {
    fn example() -> Self {
        Self {
            status: ReadyStatus::Ready,
            not_configured: vec!["STRIPE_WEBHOOK_SECRET".to_owned()],
            not_reached: Vec::new(),
            prices_not_found: Vec::new(),
        }
    }
}

struct ReadyProblems;

impl DocumentedProblems for ReadyProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[(503, "`unavailable`")];
}

#[OpenApi(tag = "Tag::Operations")]
impl HealthApi {
    /// Check whether the process is alive
    ///
    /// Uses neither the database nor Stripe. Restart an instance that does not respond.
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth")]
    #[expect(clippy::unused_async, reason = "operations are async")]
    async fn alive(&self) -> Json<Alive> {
        Json(Alive { status: AliveStatus::Alive })
    }

    /// Check whether the service is ready
    ///
    /// Send no requests to an instance that returns 503. Unset variables and missing prices are
    /// listed, but the service is ready without them.
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness")]
    async fn ready(
        &self,
        readiness: Data<&Arc<Readiness>>,
    ) -> Result<Json<Ready>, ProblemResponse<ReadyProblems>> {
        if readiness.lifecycle.is_draining() {
            let detail = "The service is stopping. Send requests to another instance.";
            return Err(Problem::new(Code::Unavailable, detail).into());
        }
        let migrated = readiness.billing.store.is_migrated().await.map_err(|error| {
            tracing::warn!(%error, "not ready");
            Problem::new(Code::Unavailable, "The database cannot be reached. Check that it is running.")
        })?;
        if !migrated {
            let detail = "The database is not migrated. Run `billhook migrate`.";
            return Err(Problem::new(Code::Unavailable, detail).into());
        }
        let is_writable = readiness.billing.store.is_writable().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "not ready");
            false
        });
        if !is_writable {
            let detail = "The database is not writable. Check its disk.";
            return Err(Problem::new(Code::Unavailable, detail).into());
        }
        let not_configured = readiness.not_configured.iter().map(ToString::to_string).collect();
        let not_reached = readiness.tokens.not_reached().map(str::to_owned).into_iter().collect();
        let prices_not_found = readiness.billing.missing_prices.names();
        Ok(Json(Ready { status: ReadyStatus::Ready, not_configured, not_reached, prices_not_found }))
    }
}
