//! The recorded API requests and webhook attempts.

use std::sync::Arc;

use poem::handler;
use poem::web::{Data, Json};
use serde_json::Value;

use crate::double::Double;

#[handler]
pub(super) fn requests(Data(double): Data<&Arc<Double>>) -> Json<Vec<Value>> {
    Json(double.requests.all())
}

#[handler]
pub(super) fn deliveries(Data(double): Data<&Arc<Double>>) -> Json<Vec<Value>> {
    Json(double.deliveries.all())
}
