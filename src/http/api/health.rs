//! `GET /healthz` and `GET /readyz`

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use crate::billing::Billing;
use crate::http::auth::TokenVerifier;
use crate::http::problem::{Code, Documented, Failure, Problem};
use crate::server::LifecycleWatch;

/// Whether the service is alive, and whether it can work.
pub(in crate::http) struct HealthApi;

/// What readiness is told from.
pub(in crate::http) struct Readiness {
    pub(in crate::http) billing: Arc<Billing>,
    pub(in crate::http) tokens: Arc<TokenVerifier>,
    /// Variables that are not set, without which a part of the service answers 503 or 401.
    pub(in crate::http) not_configured: Vec<&'static str>,
    pub(in crate::http) lifecycle: LifecycleWatch,
}

/// The process answers.
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

/// The service can work: its database is reached and migrated.
#[derive(Debug, Object)]
#[oai(example)]
struct Ready {
    /// Always `ready`.
    status: ReadyStatus,
    /// Variables that are not set, without which a part of the service refuses to work.
    not_configured: Vec<String>,
    /// Variables that name what has not been reached since the start, and without which a part of the service waits.
    not_reached: Vec<String>,
    /// Configured prices that Stripe did not have when it was last asked, by their ids or lookup keys.
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

impl Documented for ReadyProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[(503, "`unavailable`")];
}

#[OpenApi(tag = "Tag::Operations")]
impl HealthApi {
    /// Check whether the process is alive
    ///
    /// Asks nothing of the database or of Stripe: restart what does not answer.
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth")]
    #[expect(clippy::unused_async, reason = "operations are async")]
    async fn alive(&self) -> Json<Alive> {
        Json(Alive { status: AliveStatus::Alive })
    }

    /// Check whether the service can work
    ///
    /// Send no requests to what answers 503. Variables that are not set and prices that are not at Stripe are
    /// named, and are no reason for it.
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness")]
    async fn ready(&self, readiness: Data<&Arc<Readiness>>) -> Result<Json<Ready>, Failure<ReadyProblems>> {
        if readiness.lifecycle.is_draining() {
            let elsewhere = "The service is stopping: send requests to another.";
            return Err(Problem::new(Code::Unavailable, elsewhere).into());
        }
        let migrated = readiness.billing.store.is_migrated().await.map_err(|error| {
            tracing::warn!(%error, "not ready");
            Problem::new(Code::Unavailable, "The database cannot be reached.")
        })?;
        if !migrated {
            return Err(Problem::new(
                Code::Unavailable,
                "The database is not migrated: run `billhook migrate`.",
            )
            .into());
        }
        let is_writable = readiness.billing.store.is_writable().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "not ready");
            false
        });
        if !is_writable {
            let detail = "The database cannot be written to: check its disk.";
            return Err(Problem::new(Code::Unavailable, detail).into());
        }
        let not_configured = readiness.not_configured.iter().map(ToString::to_string).collect();
        let not_reached = readiness.tokens.not_reached().map(str::to_owned).into_iter().collect();
        let prices_not_found = readiness.billing.missing_prices.names();
        Ok(Json(Ready { status: ReadyStatus::Ready, not_configured, not_reached, prices_not_found }))
    }
}
