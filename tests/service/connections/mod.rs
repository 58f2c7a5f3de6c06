//! Connections: HTTP/1, HTTP/2, TLS, CORS and the Caddy front, with well-behaved and hostile
//! clients.

pub mod caddy;
pub mod cors;
pub mod http2;
pub mod slow_clients;
pub mod smuggling;
pub mod tls;
