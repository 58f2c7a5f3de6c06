//! What requests pass on their way to a route and back, one file for each concern.
//!
//! [`routes`](super::routes) puts them around the routes and decides their order. What a request means is decided in `api` and
//! `webhook`.

pub(super) mod allow;
pub(super) mod cors;
pub(super) mod framing;
pub(super) mod metrics;
pub(super) mod security_headers;
pub(super) mod timeout;
pub(super) mod trace;
