//! The bound on how long a response takes.

use std::sync::Arc;
use std::time::Duration;

use poem::{Endpoint, IntoResponse, Request, Response};

use crate::http::problem;

/// How long an answer may take: the ten seconds that Stripe has, and five more for the database. Both have limits of their
/// own, but a database server that stands still keeps to none.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Answers that the service is not available when an answer takes too long.
pub(in crate::http) async fn in_time<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response> {
    let answered = tokio::time::timeout(RESPONSE_TIMEOUT, next.call(request)).await;
    answered
        .map_or_else(|_| Ok(problem::from_silence()), |answered| answered.map(IntoResponse::into_response))
}
