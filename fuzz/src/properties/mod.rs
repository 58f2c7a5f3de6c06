//! Properties that hold for all bytes from outside.
//!
//! Each function takes bytes, builds the input of a parser from them, and panics if a property does
//! not hold. The fuzz targets call them with the fuzzer's inputs. `tests/fuzz` calls them with the
//! corpus and with proptest's mutations of it.

#![allow(clippy::missing_panics_doc, reason = "a panic is how they report a failure")]

pub mod app_url;
pub mod event;
pub mod json;
pub mod plans;
pub mod signature;
pub mod token;
pub mod webhook_secrets;

/// The name of a fuzz target and of its corpus, and its property.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 13] = [
    ("app_url", app_url::app_url),
    ("event", event::bytes),
    ("event_large", event::large),
    ("event_tree", event::tree),
    ("origin", app_url::origin),
    ("plans", plans::list),
    ("return_path", app_url::return_path),
    ("signature", signature::delivery),
    ("signature_header", signature::header),
    ("token", token::bytes),
    ("token_claims", token::claims),
    ("token_keys", token::keys),
    ("webhook_secrets", webhook_secrets::list),
];
