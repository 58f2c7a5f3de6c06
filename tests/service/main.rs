//! The service from outside: over HTTP, on a real database, against the Stripe double.

#![allow(unreachable_pub, reason = "a test has no outside to hide from")]

mod announcements;
mod answer;
mod app;
mod backfill;
mod checkout;
mod checkout_refresh;
mod circle;
mod collector;
mod collectors;
mod cors;
mod crowds;
mod database;
mod deaf;
mod doctor;
mod event_stream;
mod flood;
mod front;
mod health;
mod issuer;
mod jwks;
mod lives;
mod manage;
mod metrics;
mod payloads;
mod portal;
mod reconcile;
mod refresh;
mod register;
mod replica;
mod retention;
mod retry;
mod road;
mod rotel;
mod secret_roll;
mod secrets;
mod static_files;
mod streams;
mod stripe;
mod stripe_trouble;
mod subscription;
mod timeline;
mod tokens;
mod traces;
mod webhook;
