//! Stripe, as fast as it is answered: each webhook is an update of one of many subscriptions, and changes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use billhook::clock::{Clock, SystemClock};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::service::{Service, WEBHOOK_SECRET};

/// Tenants that have something happen: more than a batch has events, so that few of them meet.
const TENANTS: u64 = 200;

/// A load on one service. Its events go on where the last turn ended.
pub struct Load {
    address: String,
    sent: Arc<AtomicU64>,
}

impl Load {
    pub fn on(service: &Service) -> Self {
        Self { address: service.address.to_string(), sent: Arc::default() }
    }

    /// Sends webhooks on so many connections for so long. Returns how many were taken in a second.
    pub async fn run(&mut self, connections: usize, turn: Duration) -> f64 {
        let (began, until) = (Instant::now(), Instant::now() + turn);
        let senders = (0..connections).map(|_| {
            let (address, sent) = (self.address.clone(), self.sent.clone());
            tokio::spawn(async move { send_until(&address, &sent, until).await })
        });
        let senders: Vec<_> = senders.collect();
        let mut taken = 0;
        for sender in senders {
            taken += sender.await.expect("every webhook is taken");
        }
        f64::from(taken) / began.elapsed().as_secs_f64()
    }
}

async fn send_until(address: &str, sent: &AtomicU64, until: Instant) -> u32 {
    let mut stream = TcpStream::connect(address).await.expect("the service answers");
    stream.set_nodelay(true).expect("a socket");
    let mut taken = 0;
    while Instant::now() < until {
        let request = webhook(address, sent.fetch_add(1, Ordering::Relaxed));
        stream.write_all(&request).await.expect("the request is sent");
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        taken += 1;
    }
    taken
}

/// An answer of the service's is small: one read has it, unless it comes in pieces.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::with_capacity(1024);
    while !bytes.ends_with(b"}") {
        let read = stream.read_buf(&mut bytes).await.expect("an answer");
        assert!(read > 0, "the service hung up");
    }
    String::from_utf8(bytes).expect("text")
}

fn webhook(address: &str, number: u64) -> Vec<u8> {
    let now = SystemClock.now_seconds();
    let body = event(number, now).to_string();
    let signature = sandbox::sign(WEBHOOK_SECRET, now, body.as_bytes());
    let head = format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Stripe-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// The times go up with the numbers, so that each event is newer than what is held.
fn event(number: u64, now: i64) -> serde_json::Value {
    let (tenant, round) = (number % TENANTS, number / TENANTS);
    let created = now - 10_000_000 + i64::try_from(round).expect("a small number");
    json!({
        "id": format!("evt_{number}"), "object": "event", "type": "customer.subscription.updated",
        "created": created, "livemode": false, "api_version": "2026-09-30.endive",
        "request": { "id": format!("req_{number}"), "idempotency_key": null }, "pending_webhooks": 1,
        "data": { "object": {
            "id": format!("sub_{tenant}"), "object": "subscription", "customer": format!("cus_{tenant}"),
            "status": "active", "created": created, "cancel_at": null, "cancel_at_period_end": false,
            "metadata": { "tenant_id": format!("tenant-{tenant}") },
            "items": { "object": "list", "data": [{
                "id": format!("si_{tenant}"), "quantity": round + 1, "current_period_end": created + 2_592_000,
                "price": { "id": "price_pro_monthly", "lookup_key": "pro_monthly" },
            }] },
        } },
    })
}
