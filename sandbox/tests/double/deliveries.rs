//! Webhooks: what is sent, in which order, how often.

use reqwest::Method;
use serde_json::{Value, json};

use crate::receiver::{Receiver, SECRET};
use crate::stage::{Stage, eventually, id, send, types};

/// What a first payment tells an endpoint, after the customer was made.
const PAYMENT: [&str; 3] = ["customer.subscription.created", "checkout.session.completed", "invoice.paid"];

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(id).collect()
}

#[tokio::test]
async fn a_webhook_is_what_stripe_would_send() {
    let stage = Stage::set().await;
    let receiver = Receiver::listening_to(&stage).await;
    stage.customer().await;
    let webhook = &receiver.receive(1).await[0];
    assert_eq!(webhook.header("content-type"), "application/json; charset=utf-8");
    assert!(webhook.header("user-agent").starts_with("Stripe/1.0 ("));
    assert!(webhook.body.starts_with(b"{\n  "), "it is pretty-printed");

    let header = webhook.header("stripe-signature");
    let timestamp =
        header.split(',').find_map(|item| item.strip_prefix("t=")).expect("a header should have a time");
    let timestamp = timestamp.parse().expect("a time should be a number");
    assert_eq!(header, sandbox::sign(SECRET, timestamp, &webhook.body));
    let event = webhook.event();
    assert_eq!([&event["object"], &event["type"]], ["event", "customer.created"]);
    assert_eq!(event["pending_webhooks"], 1);
}

#[tokio::test]
async fn events_come_in_order_and_share_their_request() {
    let stage = Stage::set().await;
    let receiver = Receiver::listening_to(&stage).await;
    let customer = stage.customer().await;
    stage.subscription(&customer).await;
    stage.delete(&format!("/v1/customers/{customer}")).await.ok();
    let events = receiver.events(6).await;
    assert_eq!(types(&events[1..4]), PAYMENT);
    assert_eq!(types(&events[4..]), ["customer.subscription.deleted", "customer.deleted"]);
    assert!(events[4]["request"]["id"].is_string());
    assert_eq!(events[4]["request"], events[5]["request"]);
    assert_eq!(ids(&events), ids(&stage.events().await));
}

#[tokio::test]
async fn what_is_not_a_2xx_is_sent_again_with_a_signature_of_its_own() {
    let stage = Stage::set().await;
    let receiver = Receiver::listening_to(&stage).await;
    receiver.will_answer(&[500, 302, 204]);
    stage.customer().await;
    let webhooks = receiver.receive(3).await;
    assert!(webhooks.iter().all(|webhook| webhook.event()["id"] == webhooks[0].event()["id"]));
    for webhook in &webhooks {
        let header = webhook.header("stripe-signature");
        let timestamp = header[2..].split(',').next().and_then(|text| text.parse().ok());
        assert_eq!(header, sandbox::sign(SECRET, timestamp.expect("a time"), &webhook.body));
    }
    let event = format!("/v1/events/{}", id(&webhooks[0].event()));
    eventually("the event is settled", async || stage.get(&event, &[]).await.ok()["pending_webhooks"] == 0)
        .await;
    let attempts = stage.read_back("deliveries").await;
    let statuses: Vec<&Value> = attempts.iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(statuses, [500, 302, 204]);
    assert_eq!(attempts[0]["answer"], "thank you");
    assert_eq!(attempts[0]["type"], "customer.created");
}

#[tokio::test]
async fn an_endpoint_that_never_answers_well_is_given_up() {
    let stage = Stage::set().await;
    stage.tell("/webhook_endpoints", json!({"url": "http://127.0.0.1:1/", "secret": SECRET})).await;
    stage.customer().await;
    eventually("eight attempts", async || stage.read_back("deliveries").await.len() == 8).await;
    let last = stage.read_back("deliveries").await.remove(7);
    assert_eq!([&last["attempt"], &last["status"]], [&json!(8), &Value::Null]);
    assert!(last["error"].is_string());
    let undelivered = stage.get("/v1/events", &[("delivery_success", "false")]).await.ok();
    assert_eq!(undelivered["data"][0]["id"], last["event"]);
}

#[tokio::test]
async fn a_bad_event_does_not_hold_up_the_next() {
    let stage = Stage::set().await;
    let receiver = Receiver::listening_to(&stage).await;
    receiver.will_answer(&[500]);
    stage.tell("/events", json!({"type": "a", "object": {}})).await;
    stage.tell("/events", json!({"type": "b", "object": {}})).await;
    let events = receiver.events(3).await;
    let mut told = types(&events);
    assert_eq!(told[0], "a");
    told.sort_unstable();
    assert_eq!(told, ["a", "a", "b"]);
}

#[tokio::test]
async fn duplicates() {
    let stage = Stage::set().await;
    let receiver = Receiver::listening_to(&stage).await;
    stage.tell("/faults", json!({"deliveries": "duplicate"})).await;
    stage.customer().await;
    let events = receiver.events(2).await;
    assert_eq!(events[0]["id"], events[1]["id"]);
}

#[tokio::test]
async fn reordered() {
    let stage = Stage::set().await;
    let receiver = Receiver::open().await;
    let customer = stage.customer().await;
    stage.tell("/webhook_endpoints", json!({"url": receiver.url, "secret": SECRET})).await;
    stage.tell("/faults", json!({"deliveries": "reorder"})).await;
    stage.subscription(&customer).await;
    let events = receiver.events(3).await;
    let mut reversed = PAYMENT;
    reversed.reverse();
    assert_eq!(types(&events), reversed);
}

#[tokio::test]
async fn held_until_cleared_but_sent_by_hand_in_any_order() {
    let stage = Stage::set().await;
    let receiver = Receiver::listening_to(&stage).await;
    stage.tell("/faults", json!({"deliveries": "hold"})).await;
    let customer = stage.customer().await;
    stage.subscription(&customer).await;
    let made = ids(&stage.events().await);
    let sent = stage.tell(&format!("/events/{}/deliver", made[3]), json!({})).await;
    assert_eq!(sent["attempts"][0]["status"], 200);
    assert_eq!(ids(&receiver.events(1).await), made[3..]);
    stage.clear_faults().await;
    assert_eq!(ids(&receiver.events(5).await)[1..], made);
}

#[tokio::test]
async fn dropped_for_good_and_found_in_the_list() {
    let stage = Stage::set().await;
    let receiver = Receiver::listening_to(&stage).await;
    stage.tell("/faults", json!({"deliveries": "drop"})).await;
    stage.customer().await;
    stage.clear_faults().await;
    stage.customer().await;
    let made = ids(&stage.events().await);
    assert_eq!(ids(&receiver.events(1).await), made[1..], "only the second one comes");
    eventually("only the dropped one is undelivered", async || {
        let undelivered = stage.get("/v1/events", &[("delivery_success", "false")]).await.ok();
        ids(undelivered["data"].as_array().expect("a list")) == made[..1]
    })
    .await;
}

#[tokio::test]
async fn endpoints_are_told_what_they_asked_for_while_they_are_enabled() {
    let stage = Stage::set().await;
    let (picky, curious) = (Receiver::open().await, Receiver::listening_to(&stage).await);
    let params = [("url", picky.url.as_str()), ("enabled_events[]", "customer.deleted")];
    let endpoint = stage.post("/v1/webhook_endpoints", &params).await.ok();
    assert!(endpoint["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));
    let path = format!("/v1/webhook_endpoints/{}", id(&endpoint));

    let customer = stage.customer().await;
    stage.delete(&format!("/v1/customers/{customer}")).await.ok();
    assert_eq!(types(&picky.events(1).await), ["customer.deleted"]);

    stage.post(&path, &[("disabled", "true")]).await.ok();
    let shown = stage.get(&path, &[]).await.ok();
    assert_eq!([&shown["status"], &shown["secret"]], [&json!("disabled"), &Value::Null]);
    let customer = stage.customer().await;
    stage.delete(&format!("/v1/customers/{customer}")).await.ok();
    curious.events(4).await;
    stage.post(&path, &[("disabled", "false")]).await.ok();
    let customer = stage.customer().await;
    stage.delete(&format!("/v1/customers/{customer}")).await.ok();
    let last = picky.events(2).await.remove(1);
    assert_eq!(last["data"]["object"]["id"], *customer, "nothing came while it was disabled");

    stage.delete(&path).await.ok();
    stage.get(&path, &[]).await.error(404);
}

#[tokio::test]
async fn a_resend_of_nothing_is_refused() {
    let stage = Stage::set().await;
    let resend = stage.request(Method::POST, "/_sandbox/events/evt_none/deliver");
    assert_eq!(send(resend).await.status, 404);
}
