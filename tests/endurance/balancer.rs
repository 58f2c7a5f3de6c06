//! A load balancer, as far as it is simple: it passes connections on to those replicas that say that they are ready, in
//! turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use reqwest::Client;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::running::Running;
use crate::waiting::eventually;

/// How often it asks each whether it is ready: many times in the five seconds that one gives it to hear that it is not.
const EVERY: Duration = Duration::from_millis(50);

pub struct Balancer {
    address: SocketAddr,
    replicas: Arc<[Replica]>,
    tasks: Vec<JoinHandle<()>>,
}

struct Replica {
    url: String,
    is_ready: AtomicBool,
}

impl Balancer {
    /// Before replicas that stay where they are, and of which each has been found ready.
    pub async fn before(replicas: &[Running]) -> Self {
        let replicas = replicas.iter().map(|running| Replica { url: running.url(), is_ready: true.into() });
        let replicas: Arc<[Replica]> = replicas.collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let watching = (0..replicas.len()).map(|which| tokio::spawn(watch(replicas.clone(), which)));
        let tasks = watching.chain([tokio::spawn(pass_on(listener, replicas.clone()))]).collect();
        Self { address, replicas, tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until it has heard that each is ready.
    pub async fn until_all_are_ready(&self) {
        let is_ready = |replica: &Replica| replica.is_ready.load(SeqCst);
        eventually("the balancer sends to all", || async {
            self.replicas.iter().all(is_ready).then_some(())
        })
        .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn watch(replicas: Arc<[Replica]>, which: usize) {
    let http = Client::new();
    let replica = &replicas[which];
    loop {
        let answer = http.get(format!("{}/readyz", replica.url)).send().await;
        replica.is_ready.store(answer.is_ok_and(|answer| answer.status() == 200), SeqCst);
        tokio::time::sleep(EVERY).await;
    }
}

async fn pass_on(listener: TcpListener, replicas: Arc<[Replica]>) {
    for turn in 0.. {
        let (mut client, _) = listener.accept().await.expect("a client");
        let in_turn = replicas.iter().cycle().skip(turn % replicas.len()).take(replicas.len());
        let ready = in_turn.filter(|replica| replica.is_ready.load(SeqCst));
        let url = ready.map(|replica| replica.url.clone()).next();
        tokio::spawn(async move {
            // Where nobody is ready, or nobody listens, the client is cut off, and its story fails.
            let address = url.as_deref().and_then(|url| url.strip_prefix("http://"));
            let Some(address) = address else { return };
            if let Ok(mut replica) = TcpStream::connect(address).await {
                let _ = copy_bidirectional(&mut client, &mut replica).await;
            }
        });
    }
}
