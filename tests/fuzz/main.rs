//! Checks the fuzz properties (`fuzz/src`) without the fuzzer: for its corpus, for random mutations
//! of it, and for the largest accepted inputs.

use billhook::domain;

mod corpus;
mod largest;

#[path = "../../fuzz/src/properties/mod.rs"]
pub mod properties;
