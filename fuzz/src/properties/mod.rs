//! What must hold of any bytes that come from outside.
//!
//! Each function takes bytes, makes of them what it wants to know about, and panics if something does not hold. The fuzz
//! targets feed them what the fuzzer makes up; the service's own tests feed them everything that it ever found, and what
//! `proptest` makes of that.

#![allow(clippy::missing_panics_doc, reason = "to panic is what they are for")]

pub mod address;
pub mod event;
pub mod json;
pub mod plans;
pub mod signature;
pub mod token;
pub mod webhook_secrets;

/// A fuzz target: its name, which is that of its corpus too, and what must hold of the bytes that it is given.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 13] = [
    ("app_url", address::app_url),
    ("event", event::bytes),
    ("event_large", event::large),
    ("event_tree", event::tree),
    ("origin", address::origin),
    ("plans", plans::list),
    ("return_path", address::return_path),
    ("signature", signature::delivery),
    ("signature_header", signature::header),
    ("token", token::bytes),
    ("token_claims", token::claims),
    ("token_keys", token::keys),
    ("webhook_secrets", webhook_secrets::list),
];
