//! The fuzz targets. The domain is compiled alone, without the HTTP server and the database.

#[path = "../../src/domain/mod.rs"]
pub mod domain;

pub mod properties;
