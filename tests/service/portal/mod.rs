//! The Customer Portal.

pub mod sessions;
