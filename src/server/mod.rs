//! Sockets: accepting connections, TLS, HTTP, limits on connections, graceful shutdown.
//!
//! Start reading at [`serve`], which accepts connections; `connection` serves one of them; `slots` decides which one is
//! closed when there are too many; `activity` knows what each is doing. What a request means is decided in
//! [`crate::http`]: this module knows nothing of billing.

mod accept;
mod activity;
mod connection;
mod inspected_stream;
mod lifecycle;
mod request_framing;
mod response_body;
mod slots;
mod supervise;
mod tls;
mod trust;

pub use accept::{Listener, serve};
pub use lifecycle::{Lifecycle, LifecycleWatch};
pub use slots::{ConnectionSlots, raise_file_limit};
pub use supervise::supervised;
pub use tls::{Certificate, CertificateFiles, CertificateKeeper, InvalidCertificate, Tls};
pub use trust::TrustMark;
