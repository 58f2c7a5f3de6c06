//! Telling endpoints what happened.

pub(crate) mod courier;
pub(crate) mod dispatch;
