//! The HTTP API: routes and handlers. Outside of this folder only [`crate::server`] knows poem, as what it serves.
//!
//! Start reading at `routes`: the middleware, in order, around the operations that `openapi` lists. `webhook` is where Stripe posts its events;
//! `api` has the operations for tenants, services and operators, one file for each resource; `auth` verifies their tokens;
//! `middleware` is what every request passes; `problem` turns errors into responses. What an operation does is decided in
//! [`crate::billing`] and [`crate::ingest`], and how bytes come and go in [`crate::server`].

mod api;
pub mod auth;
mod body;
mod etag;
mod middleware;
mod openapi;
mod periodic_cleanup;
mod problem;
mod routes;
mod static_files;
mod throttle;
mod webhook;

pub(crate) use api::subscription::Subscription;
pub use openapi::contract;
pub use periodic_cleanup::PeriodicCleanup;
pub use routes::{App, metrics_routes, routes};
pub use static_files::{InvalidStaticFiles, StaticFiles};
