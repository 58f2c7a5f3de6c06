//! HTTPS: agreeing with a client on TLS, by the certificate that is served at the moment.

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

/// For whoever speaks HTTP where HTTPS is spoken. There is no request to it, and no room for a problem.
const IT_IS_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 35\r\n\r\nHTTPS is spoken here, and no HTTP.\n";

/// How the service speaks TLS at the moment. Clones share it.
#[derive(Debug, Clone)]
pub struct Tls(watch::Receiver<Arc<ServerConfig>>);

/// What became of a connection that is to be one of TLS.
pub(super) enum Agreement {
    /// It is.
    Reached(Box<TlsStream<TcpStream>>),
    /// The client does not speak TLS, or none that we do, or does not trust us.
    Failed,
    /// The client left without a word, as do those who look whether somebody listens.
    Left,
}

impl Tls {
    /// Agrees with a client, however long that takes: a connection has a time limit.
    pub(super) async fn agree(&self, stream: TcpStream) -> Agreement {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1..) if first == [HANDSHAKE] => {
                let config = self.0.borrow().clone();
                match TlsAcceptor::from(config).accept(stream).await {
                    Ok(stream) => Agreement::Reached(Box::new(stream)),
                    Err(error) => {
                        tracing::debug!(%error, "no TLS with a client");
                        Agreement::Failed
                    }
                }
            }
            Ok(1..) => {
                // Who has gone already need not be told.
                let _ = tell(stream).await;
                Agreement::Failed
            }
            Ok(0) | Err(_) => Agreement::Left,
        }
    }
}

/// Reads what else comes before the connection is closed, or the system would take back what it has not sent yet.
async fn tell(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(IT_IS_HTTPS).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}
