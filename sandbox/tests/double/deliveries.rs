//! Webhook deliveries: content, order, retries and faults.

use reqwest::Method;
use serde_json::{Value, json};

use crate::receiver::{Receiver, SECRET};
use crate::test_double::{TestDouble, eventually, id, send, types};

/// The events of a first payment, after the customer was created.
const PAYMENT_EVENTS: [&str; 3] =
    ["customer.subscription.created", "checkout.session.completed", "invoice.paid"];

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(id).collect()
}

#[tokio::test]
async fn webhook_has_stripe_headers_body_and_signature() {
    let double = TestDouble::start().await;
    let receiver = Receiver::registered_with(&double).await;
    double.create_customer().await;
    let webhook = &receiver.receive(1).await[0];
    assert_eq!(webhook.header("content-type"), "application/json; charset=utf-8");
    assert!(webhook.header("user-agent").starts_with("Stripe/1.0 ("));
    assert!(webhook.body.starts_with(b"{\n  "), "should be pretty-printed");

    let header = webhook.header("stripe-signature");
    let timestamp = header.split(',').find_map(|item| item.strip_prefix("t=")).expect("timestamp in header");
    let timestamp = timestamp.parse().expect("numeric timestamp");
    assert_eq!(header, sandbox::sign(SECRET, timestamp, &webhook.body));
    let event = webhook.event();
    assert_eq!([&event["object"], &event["type"]], ["event", "customer.created"]);
    assert_eq!(event["pending_webhooks"], 1);
}

#[tokio::test]
async fn events_are_delivered_in_order_with_their_request() {
    let double = TestDouble::start().await;
    let receiver = Receiver::registered_with(&double).await;
    let customer = double.create_customer().await;
    double.create_subscription(&customer).await;
    double.delete(&format!("/v1/customers/{customer}")).await.ok();
    let events = receiver.events(6).await;
    assert_eq!(types(&events[1..4]), PAYMENT_EVENTS);
    assert_eq!(types(&events[4..]), ["customer.subscription.deleted", "customer.deleted"]);
    assert!(events[4]["request"]["id"].is_string());
    assert_eq!(events[4]["request"], events[5]["request"]);
    assert_eq!(ids(&events), ids(&double.events().await));
}

#[tokio::test]
async fn failed_webhook_is_retried_with_new_signature() {
    let double = TestDouble::start().await;
    let receiver = Receiver::registered_with(&double).await;
    receiver.respond_with(&[500, 302, 204]);
    double.create_customer().await;
    let webhooks = receiver.receive(3).await;
    assert!(webhooks.iter().all(|webhook| webhook.event()["id"] == webhooks[0].event()["id"]));
    for webhook in &webhooks {
        let header = webhook.header("stripe-signature");
        let timestamp = header[2..].split(',').next().and_then(|text| text.parse().ok());
        assert_eq!(header, sandbox::sign(SECRET, timestamp.expect("timestamp"), &webhook.body));
    }
    let event = format!("/v1/events/{}", id(&webhooks[0].event()));
    eventually("the event is settled", async || double.get(&event, &[]).await.ok()["pending_webhooks"] == 0)
        .await;
    let attempts = double.records("deliveries").await;
    let statuses: Vec<&Value> = attempts.iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(statuses, [500, 302, 204]);
    assert_eq!(attempts[0]["answer"], "thank you");
    assert_eq!(attempts[0]["type"], "customer.created");
}

#[tokio::test]
async fn unreachable_endpoint_gets_eight_attempts() {
    let double = TestDouble::start().await;
    double.control("/webhook_endpoints", json!({"url": "http://127.0.0.1:1/", "secret": SECRET})).await;
    double.create_customer().await;
    eventually("eight attempts", async || double.records("deliveries").await.len() == 8).await;
    let last = double.records("deliveries").await.remove(7);
    assert_eq!([&last["attempt"], &last["status"]], [&json!(8), &Value::Null]);
    assert!(last["error"].is_string());
    let undelivered = double.get("/v1/events", &[("delivery_success", "false")]).await.ok();
    assert_eq!(undelivered["data"][0]["id"], last["event"]);
}

#[tokio::test]
async fn failed_event_does_not_delay_next_event() {
    let double = TestDouble::start().await;
    let receiver = Receiver::registered_with(&double).await;
    receiver.respond_with(&[500]);
    double.control("/events", json!({"type": "a", "object": {}})).await;
    double.control("/events", json!({"type": "b", "object": {}})).await;
    let events = receiver.events(3).await;
    let mut types = types(&events);
    assert_eq!(types[0], "a");
    types.sort_unstable();
    assert_eq!(types, ["a", "a", "b"]);
}

#[tokio::test]
async fn duplicate_fault_sends_event_twice() {
    let double = TestDouble::start().await;
    let receiver = Receiver::registered_with(&double).await;
    double.control("/faults", json!({"deliveries": "duplicate"})).await;
    double.create_customer().await;
    let events = receiver.events(2).await;
    assert_eq!(events[0]["id"], events[1]["id"]);
}

#[tokio::test]
async fn reorder_fault_sends_events_in_reverse() {
    let double = TestDouble::start().await;
    let receiver = Receiver::start().await;
    let customer = double.create_customer().await;
    double.control("/webhook_endpoints", json!({"url": receiver.url, "secret": SECRET})).await;
    double.control("/faults", json!({"deliveries": "reorder"})).await;
    double.create_subscription(&customer).await;
    let events = receiver.events(3).await;
    let mut reversed = PAYMENT_EVENTS;
    reversed.reverse();
    assert_eq!(types(&events), reversed);
}

#[tokio::test]
async fn held_events_are_sent_when_cleared_or_redelivered() {
    let double = TestDouble::start().await;
    let receiver = Receiver::registered_with(&double).await;
    double.control("/faults", json!({"deliveries": "hold"})).await;
    let customer = double.create_customer().await;
    double.create_subscription(&customer).await;
    let emitted = ids(&double.events().await);
    let sent = double.control(&format!("/events/{}/deliver", emitted[3]), json!({})).await;
    assert_eq!(sent["attempts"][0]["status"], 200);
    assert_eq!(ids(&receiver.events(1).await), emitted[3..]);
    double.clear_faults().await;
    assert_eq!(ids(&receiver.events(5).await)[1..], emitted);
}

#[tokio::test]
async fn dropped_event_is_listed_as_undelivered() {
    let double = TestDouble::start().await;
    let receiver = Receiver::registered_with(&double).await;
    double.control("/faults", json!({"deliveries": "drop"})).await;
    double.create_customer().await;
    double.clear_faults().await;
    double.create_customer().await;
    let emitted = ids(&double.events().await);
    assert_eq!(ids(&receiver.events(1).await), emitted[1..], "only the second event is delivered");
    eventually("only the dropped event is undelivered", async || {
        let undelivered = double.get("/v1/events", &[("delivery_success", "false")]).await.ok();
        ids(undelivered["data"].as_array().expect("list")) == emitted[..1]
    })
    .await;
}

#[tokio::test]
async fn endpoint_receives_enabled_events_while_enabled() {
    let double = TestDouble::start().await;
    let (selective, all_events) = (Receiver::start().await, Receiver::registered_with(&double).await);
    let params = [("url", selective.url.as_str()), ("enabled_events[]", "customer.deleted")];
    let endpoint = double.post("/v1/webhook_endpoints", &params).await.ok();
    assert!(endpoint["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));
    let path = format!("/v1/webhook_endpoints/{}", id(&endpoint));

    let customer = double.create_customer().await;
    double.delete(&format!("/v1/customers/{customer}")).await.ok();
    assert_eq!(types(&selective.events(1).await), ["customer.deleted"]);

    double.post(&path, &[("disabled", "true")]).await.ok();
    let shown = double.get(&path, &[]).await.ok();
    assert_eq!([&shown["status"], &shown["secret"]], [&json!("disabled"), &Value::Null]);
    let customer = double.create_customer().await;
    double.delete(&format!("/v1/customers/{customer}")).await.ok();
    all_events.events(4).await;
    double.post(&path, &[("disabled", "false")]).await.ok();
    let customer = double.create_customer().await;
    double.delete(&format!("/v1/customers/{customer}")).await.ok();
    let last = selective.events(2).await.remove(1);
    assert_eq!(last["data"]["object"]["id"], *customer, "nothing is sent while it is disabled");

    double.delete(&path).await.ok();
    double.get(&path, &[]).await.error(404);
}

#[tokio::test]
async fn redelivery_of_unknown_event_returns_404() {
    let double = TestDouble::start().await;
    let resend = double.request(Method::POST, "/_sandbox/events/evt_none/deliver");
    assert_eq!(send(resend).await.status, 404);
}
