//! Connections: HTTP as clients and proxies speak it, well or badly.

pub mod caddy;
pub mod cors;
pub mod http2;
pub mod slow;
pub mod smuggling;
pub mod tls;
