//! The service from outside: over HTTP, on a real database, against the Stripe double.

#![allow(unreachable_pub, reason = "a test has no outside to hide from")]

mod checkout;
mod connections;
mod operations;
mod portal;
mod streams;
mod support;
mod tokens;
mod webhooks;
