//! The open connections. There is room for so many; what goes on over each is known, so that the silent ones make room
//! for others. And a stream can hear on them that its caller has hung up: the server itself does not say so. It lets what
//! it is sending go on until two writes have failed, and a closed tab would take a stream's place for half a minute.

mod work;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poem::Request;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Notify, watch};

use super::client::Client;
use crate::telemetry::metrics::Metrics;

pub(super) use work::{Answering, Work};

/// The most connections that are open at once: four times the streams that there may be. One takes some 45 KB, over TLS
/// 55 KB, and 80 KB with a long head half sent; whoever asks nothing over one makes room.
const MOST: usize = 2048;

/// Files that all else may have open: the database's connections, the topic files, what goes to Stripe and the collector.
const OTHER_FILES: usize = 256;

/// However few files a process may have, it takes more connections than strangers can keep at work: see
/// [`super::bodies`].
const FEWEST: usize = 192;

/// The open connections, by the caller's address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    room: usize,
    metrics: Metrics,
    open: Mutex<HashMap<SocketAddr, Arc<Caller>>>,
}

/// Whoever is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client,
    pub(super) work: Arc<Work>,
    hung_up: watch::Sender<bool>,
    gives_way: Notify,
    metrics: Metrics,
}

/// Tells when a caller has hung up.
#[derive(Debug)]
pub(super) struct HangUp(Option<watch::Receiver<bool>>);

impl Connections {
    /// Room for as many as the process may have files for.
    pub fn of_the_public(metrics: Metrics) -> Self {
        let files = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        Self::with_room(files.saturating_sub(OTHER_FILES).clamp(FEWEST, MOST), metrics)
    }

    /// Room for those who look after the service.
    pub fn of_few(metrics: Metrics) -> Self {
        Self::with_room(FEWEST, metrics)
    }

    fn with_room(room: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Shared { room, metrics, open: Mutex::default() }))
    }

    /// The place of a connection that has just been taken; none if each of the others is at work.
    pub(super) fn open(&self, address: SocketAddr) -> Option<Place> {
        let caller = self.enter(address)?;
        Some(Place { address, caller, connections: self.clone() })
    }

    fn enter(&self, address: SocketAddr) -> Option<Arc<Caller>> {
        let Shared { room, metrics, .. } = &*self.0;
        let mut open = self.lock();
        if open.len() >= *room && !make_room(&mut open) {
            metrics.connection_ended("refused");
            return None;
        }
        let caller = Arc::new(Caller {
            client: address.ip().into(),
            work: Arc::default(),
            hung_up: watch::Sender::new(false),
            gives_way: Notify::new(),
            metrics: metrics.clone(),
        });
        metrics.connection_opened();
        open.insert(address, caller.clone());
        Some(caller)
    }

    fn leave(&self, address: SocketAddr, caller: &Arc<Caller>) {
        self.0.metrics.connection_closed();
        let mut open = self.lock();
        // One that has given way or is closed may be replaced already, by another from the same address.
        if open.get(&address).is_some_and(|there| Arc::ptr_eq(there, caller)) {
            open.remove(&address);
        }
    }

    /// Whoever is at the other end of an open connection.
    fn caller_at(&self, address: SocketAddr) -> Option<Arc<Caller>> {
        self.lock().get(&address).cloned()
    }

    /// Tells when whoever sent the request hangs up.
    pub(super) fn hang_up_of(&self, request: &Request) -> HangUp {
        let address = request.remote_addr().as_socket_addr();
        let caller = address.and_then(|address| self.caller_at(*address));
        HangUp(caller.map(|caller| caller.hung_up.subscribe()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Caller>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the connection that has been silent the longest give way, of the client that has the most silent ones: so a crowd
/// makes room from its own. If none is silent there is no room.
fn make_room(open: &mut HashMap<SocketAddr, Arc<Caller>>) -> bool {
    let silent =
        || open.iter().filter_map(|(address, caller)| Some((*address, caller, caller.work.silent_since()?)));
    let mut crowds = HashMap::<Client, usize>::new();
    for (_, caller, _) in silent() {
        *crowds.entry(caller.client).or_default() += 1;
    }
    let longest = silent().min_by_key(|(_, caller, since)| (usize::MAX - crowds[&caller.client], *since));
    let Some((address, caller, _)) = longest else { return false };
    caller.gives_way.notify_one();
    open.remove(&address);
    true
}

/// Lets the process have as many files as it may and we can use: what a shell or a supervisor leaves it is often less, for
/// the sake of old programs that cannot tell more of them apart.
pub fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(MOST + OTHER_FILES).unwrap_or(u64::MAX);
    let wanted = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit on open files stays as it is: there is room for fewer connections");
        }
    }
}

impl Caller {
    /// Nothing more can be read from whoever it is.
    pub(super) fn hang_up(&self) {
        self.hung_up.send_replace(true);
    }

    /// Waits until somebody else needs the connection's place.
    pub(super) async fn given_way(&self) {
        self.gives_way.notified().await;
    }

    /// Counts that the connection is ended before its time.
    pub(super) fn ended(&self, reason: &'static str) {
        self.metrics.connection_ended(reason);
    }
}

impl HangUp {
    /// Waits until the caller has hung up.
    pub(super) async fn heard(&mut self) {
        match &mut self.0 {
            // An error means that the connection is gone altogether.
            Some(hearing) => _ = hearing.wait_for(|hung_up| *hung_up).await,
            None => std::future::pending().await,
        }
    }
}

/// The place of a connection that is open, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: SocketAddr,
    caller: Arc<Caller>,
    connections: Connections,
}

impl Place {
    /// Where the caller is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whoever is at the other end.
    pub(super) fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.leave(self.address, &self.caller);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::telemetry::topics::{LogConfig, TopicLogs};

    fn connections(room: usize) -> Connections {
        let dir = tempfile::tempdir().expect("a directory");
        let topics = TopicLogs::open(&LogConfig::in_dir(dir.path()));
        Connections::with_room(room, Metrics::new(topics, Arc::default()))
    }

    fn address(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    fn has_given_way(caller: &Caller) -> bool {
        caller.given_way().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_longest_silent_of_the_largest_crowd_gives_way() {
        let connections = connections(4);
        let proxy = connections.enter(address(1, 1)).expect("room");
        let crowd = [1, 2, 3].map(|port| connections.enter(address(2, port)).expect("room"));
        let answering = crowd[0].work.clone().answer();
        let newcomer = connections.enter(address(3, 1)).expect("somebody gives way");
        assert!(has_given_way(&crowd[1]));
        for stays in [&proxy, &crowd[0], &crowd[2], &newcomer] {
            assert!(!has_given_way(stays));
        }
        drop(answering);
    }

    #[tokio::test]
    async fn whoever_is_at_work_gives_way_to_nobody() {
        let connections = connections(2);
        let callers = [1, 2].map(|port| connections.enter(address(1, port)).expect("room"));
        let mut answers: Vec<_> = callers.iter().map(|caller| caller.work.clone().answer()).collect();
        assert!(connections.enter(address(2, 1)).is_none());
        answers.pop();
        assert!(connections.enter(address(2, 1)).is_some());
        assert!(has_given_way(&callers[1]));
    }

    #[tokio::test]
    async fn whoever_gave_way_does_not_take_its_successor_along() {
        let connections = connections(1);
        let first = connections.enter(address(1, 1)).expect("room");
        let second = connections.enter(address(1, 1)).expect("the first gives way");
        connections.leave(address(1, 1), &first);
        assert!(connections.caller_at(address(1, 1)).is_some());
        connections.leave(address(1, 1), &second);
        assert!(connections.caller_at(address(1, 1)).is_none());
    }
}
