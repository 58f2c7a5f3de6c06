//! A road to PostgreSQL on which nothing may come through, and nobody is told: a network that loses everything, or a server
//! that stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A database, by way of the road.
pub struct Road {
    pub url: String,
    blocked: watch::Sender<Blocked>,
    listeners: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Blocked {
    all: bool,
    /// In what is said to the server; from there on nothing comes through.
    at: Option<&'static str>,
    /// Of the connections that listen to announcements the first so many.
    listeners: usize,
}

/// One connection, as both its directions see it.
#[derive(Clone)]
struct Lane {
    blocked: watch::Sender<Blocked>,
    /// How many listen.
    listeners: Arc<AtomicUsize>,
    /// The how manyth of those that listen this one is; 0 if it does not.
    listener: Arc<AtomicUsize>,
}

impl Road {
    pub async fn to(database_url: &str) -> Self {
        let mut url = Url::parse(database_url).expect("a URL");
        let server = format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5432));
        let entrance = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = entrance.local_addr().expect("an address");
        url.set_ip_host(address.ip()).expect("a host");
        url.set_port(Some(address.port())).expect("a port");
        let (blocked, listeners) = (watch::Sender::default(), Arc::<AtomicUsize>::default());
        let of_road = (blocked.clone(), listeners.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = entrance.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server listens");
                let (blocked, listeners) = of_road.clone();
                let lane = Lane { blocked, listeners, listener: Arc::default() };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(lane.clone().carry(from_client, to_server, Lane::heed));
                tokio::spawn(lane.carry(from_server, to_client, |_, _| ()));
            }
        });
        Self { url: url.into(), blocked, listeners }
    }

    /// How many connections have begun to listen to announcements, since there is the road.
    pub fn listeners(&self) -> usize {
        self.listeners.load(Ordering::SeqCst)
    }

    /// Lets nothing more come through on the connections that listen by now.
    pub fn silence_listeners(&self) {
        self.blocked.send_modify(|blocked| blocked.listeners = self.listeners());
    }

    /// Lets nothing come through any more, once the server is asked for something in which this word is.
    pub fn block_at(&self, word: &'static str) {
        self.blocked.send_modify(|blocked| blocked.at = Some(word));
    }

    /// Lets everything come through again, also what was on its way.
    pub fn clear(&self) {
        self.blocked.send_replace(Blocked::default());
    }
}

impl Lane {
    async fn carry(
        self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        heed: impl Fn(&Self, &[u8]),
    ) {
        let mut bytes = vec![0; 64 * 1024];
        // What ends or breaks on one side does on the other.
        while let Ok(length @ 1..) = from.read(&mut bytes).await {
            heed(&self, &bytes[..length]);
            self.is_open().await;
            if to.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    }

    /// Looks at what the server is told.
    fn heed(&self, told: &[u8]) {
        let has = |word: &str| told.windows(word.len()).any(|part| part == word.as_bytes());
        if has("LISTEN ") && self.listener.load(Ordering::SeqCst) == 0 {
            let number = self.listeners.fetch_add(1, Ordering::SeqCst) + 1;
            self.listener.store(number, Ordering::SeqCst);
        }
        self.blocked.send_if_modified(|blocked| {
            let here = blocked.at.is_some_and(has);
            blocked.all |= here;
            here
        });
    }

    /// Waits until something may come through.
    async fn is_open(&self) {
        let is_open = |blocked: &Blocked| {
            let listener = self.listener.load(Ordering::SeqCst);
            !blocked.all && (listener == 0 || listener > blocked.listeners)
        };
        // There is a sender, for this is one.
        let _ = self.blocked.subscribe().wait_for(is_open).await;
    }
}
