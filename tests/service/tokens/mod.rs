//! Tokens: which are accepted, and what their claims permit.

pub mod jwks;
pub mod manage_permission;
pub mod verification;
