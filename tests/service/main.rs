//! Tests of the running service: over HTTP, on a real database, against the Stripe double.

#![allow(unreachable_pub, reason = "a test crate has no public API")]

mod checkout;
mod connections;
mod operations;
mod portal;
mod streams;
mod support;
mod tokens;
mod webhooks;
