//! What the fuzzer needs of the service, and no more. The domain is pure: it stands alone, so that nobody has to build an
//! HTTP server and a database in order to look for bytes that break a parser.

#[path = "../../src/domain/mod.rs"]
pub mod domain;

pub mod properties;
