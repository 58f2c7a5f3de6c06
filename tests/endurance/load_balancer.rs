//! A round-robin TCP load balancer that forwards connections to the replicas whose `/readyz`
//! returns 200.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use reqwest::Client;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::eventually::eventually;
use crate::service_process::ServiceProcess;

/// Much shorter than the five seconds for which a stopping replica reports that it is not ready.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(50);

pub struct LoadBalancer {
    address: SocketAddr,
    replicas: Arc<[Replica]>,
    tasks: Vec<JoinHandle<()>>,
}

struct Replica {
    url: String,
    is_ready: AtomicBool,
}

impl LoadBalancer {
    /// The replicas must be ready and keep their ports.
    pub async fn start(replicas: &[ServiceProcess]) -> Self {
        let replicas = replicas.iter().map(|service| Replica { url: service.url(), is_ready: true.into() });
        let replicas: Arc<[Replica]> = replicas.collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let checks = (0..replicas.len()).map(|index| tokio::spawn(check_health(replicas.clone(), index)));
        let tasks = checks.chain([tokio::spawn(forward(listener, replicas.clone()))]).collect();
        Self { address, replicas, tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn until_all_ready(&self) {
        let is_ready = |replica: &Replica| replica.is_ready.load(SeqCst);
        eventually("the balancer finds all replicas ready", || async {
            self.replicas.iter().all(is_ready).then_some(())
        })
        .await;
    }
}

impl Drop for LoadBalancer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn check_health(replicas: Arc<[Replica]>, index: usize) {
    let http = Client::new();
    let replica = &replicas[index];
    loop {
        let response = http.get(format!("{}/readyz", replica.url)).send().await;
        replica.is_ready.store(response.is_ok_and(|response| response.status() == 200), SeqCst);
        tokio::time::sleep(HEALTH_CHECK_INTERVAL).await;
    }
}

async fn forward(listener: TcpListener, replicas: Arc<[Replica]>) {
    for turn in 0.. {
        let (mut client, _) = listener.accept().await.expect("a client");
        let in_turn = replicas.iter().cycle().skip(turn % replicas.len()).take(replicas.len());
        let ready = in_turn.filter(|replica| replica.is_ready.load(SeqCst));
        let url = ready.map(|replica| replica.url.clone()).next();
        tokio::spawn(async move {
            // Without a ready replica the client is disconnected, which fails its test.
            let address = url.as_deref().and_then(|url| url.strip_prefix("http://"));
            let Some(address) = address else { return };
            if let Ok(mut replica) = TcpStream::connect(address).await {
                let _ = copy_bidirectional(&mut client, &mut replica).await;
            }
        });
    }
}
