//! Sockets: accepting connections, TLS, HTTP, connection limits and graceful shutdown. Nothing here
//! knows billing: [`crate::http`] handles the requests.
//!
//! Start reading at [`serve`], which accepts connections. `connection` serves one, `activity`
//! tracks what it is doing, and `slots` decides which one to close when there are too many.

mod accept;
mod activity;
mod connection;
mod inspected_stream;
mod lifecycle;
mod response_body;
mod slots;
mod supervise;
mod tls;
mod trust;

pub use accept::{Listener, serve};
pub use lifecycle::{Lifecycle, LifecycleWatch};
pub use slots::{ConnectionSlots, raise_file_limit};
pub use supervise::supervised;
pub use tls::{Certificate, CertificateFiles, CertificateReloader, InvalidCertificate, Tls};
pub use trust::TrustMark;
