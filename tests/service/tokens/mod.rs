//! Tokens: who may call, and what for.

pub mod jwks;
pub mod manage_permission;
pub mod verification;
