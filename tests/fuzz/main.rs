//! What must hold of any bytes that come from outside (`fuzz/src`), without the fuzzer: of everything that it ever found,
//! of what chance makes of that, and of the largest inputs that get in.

use billhook::domain;

mod corpus;
mod largest;

#[path = "../../fuzz/src/properties/mod.rs"]
pub mod properties;
