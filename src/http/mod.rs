//! The HTTP API: routes, middleware and handlers. Only this folder and [`crate::server`] use poem.
//!
//! Start reading at `routes`. `webhook` is Stripe's endpoint. `api` has the operations for tenants,
//! services and operators, one file per resource, and `auth` verifies their tokens. `problem`
//! converts errors to responses. The operations call [`crate::billing`] and [`crate::ingest`].
//! [`crate::server`] does the socket work.

mod api;
pub mod auth;
mod body;
mod etag;
mod middleware;
mod openapi;
mod problem;
mod routes;
mod static_files;
mod throttle;
mod webhook;

pub(crate) use api::subscription::Subscription;
pub use openapi::openapi_document;
pub use routes::{App, PeriodicCleanup, metrics_routes, routes};
pub use static_files::{InvalidStaticFiles, StaticFiles};
