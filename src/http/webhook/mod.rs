//! Stripe's webhook endpoint, `POST /api/billing/webhook/`.
//!
//! Start reading at `handler`, which shows the steps of a webhook. `admission` limits unverified
//! webhooks, and `rejection_log` logs rejected signatures. [`crate::ingest`] processes verified
//! events.

mod admission;
mod handler;
mod rejection_log;

pub(super) use admission::Admission;
pub(super) use handler::{WebhookApi, WebhookState};
