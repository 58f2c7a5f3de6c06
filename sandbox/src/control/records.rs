//! Reading back what came in and what went out.

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json};
use serde_json::Value;

use crate::double::Double;

/// The API calls so far.
#[handler]
pub(super) fn requests(Data(double): Data<&Arc<Double>>) -> Json<Vec<Value>> {
    Json(double.requests.all())
}

/// The webhook attempts so far.
#[handler]
pub(super) fn deliveries(Data(double): Data<&Arc<Double>>) -> Json<Vec<Value>> {
    Json(double.deliveries.all())
}
