//! What every request passes on its way to a route and back, one file for each concern.
//!
//! [`routes`](super::routes) puts them around the routes and decides their order. None of them knows what a request means.

pub(super) mod allow;
pub(super) mod cors;
pub(super) mod framing;
pub(super) mod metrics;
pub(super) mod security_headers;
pub(super) mod timeout;
pub mod trace;
