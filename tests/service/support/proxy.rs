//! A TCP proxy in front of PostgreSQL that can stop forwarding without closing connections, as when
//! the network loses all packets or the server stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct PostgresProxy {
    /// The database's URL through the proxy.
    pub url: String,
    blocked: watch::Sender<Blocked>,
    listeners: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Blocked {
    /// Every connection.
    all: bool,
    /// Once a client sends this text, every connection.
    statement: Option<&'static str>,
    /// This many connections that `LISTEN`, oldest first.
    listeners: usize,
}

/// One connection. Both directions have a clone.
#[derive(Clone)]
struct ProxyConnection {
    blocked: watch::Sender<Blocked>,
    /// The number of connections that `LISTEN`.
    listeners: Arc<AtomicUsize>,
    /// This connection's number among those, from 1. It is 0 for a connection that does not
    /// `LISTEN`.
    listener: Arc<AtomicUsize>,
}

impl PostgresProxy {
    pub async fn start(database_url: &str) -> Self {
        let mut url = Url::parse(database_url).expect("a URL");
        let server = format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5432));
        let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = proxy.local_addr().expect("an address");
        url.set_ip_host(address.ip()).expect("a host");
        url.set_port(Some(address.port())).expect("a port");
        let (blocked, listeners) = (watch::Sender::default(), Arc::<AtomicUsize>::default());
        let shared = (blocked.clone(), listeners.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = proxy.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server listens");
                let (blocked, listeners) = shared.clone();
                let connection = ProxyConnection { blocked, listeners, listener: Arc::default() };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(connection.clone().forward(from_client, to_server, ProxyConnection::inspect));
                tokio::spawn(connection.forward(from_server, to_client, |_, _| ()));
            }
        });
        Self { url: url.into(), blocked, listeners }
    }

    /// The number of connections that have sent `LISTEN` since the proxy started.
    pub fn listener_count(&self) -> usize {
        self.listeners.load(Ordering::SeqCst)
    }

    /// Blocks the connections that `LISTEN` now.
    pub fn silence_listeners(&self) {
        self.blocked.send_modify(|blocked| blocked.listeners = self.listener_count());
    }

    /// Blocks every connection once a client sends this text.
    pub fn block_on_statement(&self, text: &'static str) {
        self.blocked.send_modify(|blocked| blocked.statement = Some(text));
    }

    /// Forwards everything again, starting with the bytes that were held back.
    pub fn unblock(&self) {
        self.blocked.send_replace(Blocked::default());
    }
}

impl ProxyConnection {
    /// When one side closes or resets the connection, so does the other.
    async fn forward(
        self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        inspect: impl Fn(&Self, &[u8]),
    ) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut bytes).await {
            inspect(&self, &bytes[..length]);
            self.unblocked().await;
            if to.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    }

    /// Looks for `LISTEN` and for the blocking statement.
    fn inspect(&self, sent: &[u8]) {
        let contains = |text: &str| sent.windows(text.len()).any(|part| part == text.as_bytes());
        if contains("LISTEN ") && self.listener.load(Ordering::SeqCst) == 0 {
            let number = self.listeners.fetch_add(1, Ordering::SeqCst) + 1;
            self.listener.store(number, Ordering::SeqCst);
        }
        self.blocked.send_if_modified(|blocked| {
            let found = blocked.statement.is_some_and(contains);
            blocked.all |= found;
            found
        });
    }

    async fn unblocked(&self) {
        let is_open = |blocked: &Blocked| {
            let listener = self.listener.load(Ordering::SeqCst);
            !blocked.all && (listener == 0 || listener > blocked.listeners)
        };
        // Fails only without a sender, and `self` holds one.
        let _ = self.blocked.subscribe().wait_for(is_open).await;
    }
}
