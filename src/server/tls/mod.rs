//! HTTPS: the TLS handshake, with the certificate that is served at the moment.
//!
//! Start reading here; `certificate` reads a certificate and its key from their files, and `keeper` notices new files. Where
//! no certificate is configured, nothing here is used: a proxy speaks TLS then.

mod certificate;
mod keeper;

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

pub use certificate::{Certificate, CertificateFiles, InvalidCertificate};
pub use keeper::CertificateKeeper;

/// What TLS begins with: the type of a record that is part of a handshake (RFC 8446, section 5.1). No request does.
const HANDSHAKE: u8 = 22;

/// The answer to a client that speaks plain HTTP. No request was read, so it is no problem document.
const HTTPS_REQUIRED: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 35\r\n\r\nHTTPS is spoken here, and no HTTP.\n";

/// The TLS configuration of the moment. Clones share it.
#[derive(Debug, Clone)]
pub struct Tls(watch::Receiver<Arc<ServerConfig>>);

/// The result of a TLS handshake.
pub(super) enum Handshake {
    Completed(Box<TlsStream<TcpStream>>),
    /// The client speaks no TLS, or no version of ours, or does not trust the certificate.
    Failed,
    /// The client closed the connection before it sent anything, as port checks do.
    Abandoned,
}

impl Tls {
    /// Completes the handshake. It has no timeout of its own: the connection's first request has one.
    pub(super) async fn accept(&self, stream: TcpStream) -> Handshake {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1..) if first == [HANDSHAKE] => {
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
                // It fails if the client is gone.
                let _ = reject_plain_http(stream).await;
                Handshake::Failed
            }
            Ok(0) | Err(_) => Handshake::Abandoned,
        }
    }
}

/// Answers, then reads to the end: closing a socket with unread data would discard the answer.
async fn reject_plain_http(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(HTTPS_REQUIRED).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}
