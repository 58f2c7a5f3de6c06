//! HTTPS: the TLS handshake, with the current certificate.
//!
//! Start reading here. `certificate` parses a certificate and its key, and `reloader` reloads them
//! when the files change. Without a configured certificate, a proxy terminates TLS and nothing here
//! is used.

mod certificate;
mod reloader;

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

pub use certificate::{Certificate, CertificateFiles, InvalidCertificate};
pub use reloader::CertificateReloader;

/// The first byte of a TLS connection: the record type `handshake` (RFC 8446, section 5.1). No HTTP
/// request starts with it.
const HANDSHAKE_RECORD: u8 = 22;

/// The response to plain HTTP. It is no problem document, since no request was read.
const HTTPS_REQUIRED: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 50\r\n\r\nThis port serves HTTPS only. Use an https:// URL.\n";

/// The current TLS configuration. Clones share it.
#[derive(Debug, Clone)]
pub struct Tls(watch::Receiver<Arc<ServerConfig>>);

pub(super) enum Handshake {
    Completed(Box<TlsStream<TcpStream>>),
    /// The client speaks no TLS or no version that the server supports, or does not trust the
    /// certificate.
    Failed,
    /// The client closed the connection before it sent anything, as port checks do.
    Abandoned,
}

impl Tls {
    /// Completes the handshake. It has no timeout of its own: the timeout for the first request
    /// covers it.
    pub(super) async fn accept(&self, stream: TcpStream) -> Handshake {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1..) if first == [HANDSHAKE_RECORD] => {
                let config = self.0.borrow().clone();
                match TlsAcceptor::from(config).accept(stream).await {
                    Ok(stream) => Handshake::Completed(Box::new(stream)),
                    Err(error) => {
                        tracing::debug!(%error, "TLS handshake failed");
                        Handshake::Failed
                    }
                }
            }
            Ok(1..) => {
                // It fails if the client has disconnected.
                let _ = reject_plain_http(stream).await;
                Handshake::Failed
            }
            Ok(0) | Err(_) => Handshake::Abandoned,
        }
    }
}

/// Responds, then reads to the end: closing a socket with unread data would discard the response.
async fn reject_plain_http(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(HTTPS_REQUIRED).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}
