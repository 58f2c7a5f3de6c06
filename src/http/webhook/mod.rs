//! Where Stripe posts its events: `POST /api/billing/webhook/`.
//!
//! Start reading at `handler`, which shows the steps of one webhook. `admission` limits what is not verified yet, `body`
//! reads the bytes that are signed, and `rejections` logs the signatures that were rejected. A verified event goes on in
//! [`crate::ingest`].

mod body;
mod body_slots;
mod handler;
mod rate_limit;
mod rejections;

pub(super) use body_slots::Bodies;
pub(super) use handler::{WebhookApi, WebhookState};
pub(super) use rate_limit::UnverifiedLimiter;
pub(super) use rejections::Rejections;
