//! Where Stripe posts its events: `POST /api/billing/webhook/`.
//!
//! Start reading at `handler`, which shows the steps of one webhook. `admission` limits what is not verified yet, `body`
//! reads the bytes that are signed, and `rejections` logs the signatures that were rejected. A verified event goes on in
//! [`crate::ingest`].

mod admission;
mod body;
mod handler;
mod rejections;

pub(super) use admission::Admission;
pub(super) use handler::{Webhook, WebhookApi};
