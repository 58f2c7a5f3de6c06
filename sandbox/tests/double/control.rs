//! What customers, banks and time do when a test says so.

use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Stage, id, send, types};

async fn subscribed(stage: &Stage) -> String {
    let customer = stage.customer().await;
    stage.subscription(&customer).await
}

/// What happened since these events.
async fn since(stage: &Stage, before: usize) -> Vec<Value> {
    stage.events().await.split_off(before)
}

#[tokio::test]
async fn a_failed_renewal_is_told_with_its_invoice() {
    let stage = Stage::set().await;
    let subscription = subscribed(&stage).await;
    let changed = stage.tell(&format!("/subscriptions/{subscription}"), json!({"status": "past_due"})).await;
    assert_eq!(changed["status"], "past_due");
    let events = since(&stage, 4).await;
    assert_eq!(types(&events), ["customer.subscription.updated", "invoice.payment_failed"]);
    assert_eq!(events[0]["data"]["previous_attributes"]["status"], "active");
    let invoice = &events[1]["data"]["object"];
    assert_eq!(invoice["parent"]["subscription_details"]["subscription"], *subscription);
    assert_eq!([&invoice["status"], &invoice["amount_paid"]], [&json!("open"), &json!(0)]);
    assert_eq!(events[0]["request"]["id"], Value::Null, "nobody called for it");
}

#[tokio::test]
async fn a_renewal_moves_the_period_on() {
    let stage = Stage::set().await;
    let subscription = subscribed(&stage).await;
    let before = stage.get(&format!("/v1/subscriptions/{subscription}"), &[]).await.ok();
    let after = stage.tell(&format!("/subscriptions/{subscription}"), json!({"renew": true})).await;
    let period = |subscription: &Value| {
        let item = &subscription["items"]["data"][0];
        (item["current_period_start"].as_i64(), item["current_period_end"].as_i64())
    };
    assert_eq!(period(&after).0, period(&before).1);
    assert!(period(&after).1 > period(&before).1);
    let events = since(&stage, 4).await;
    assert_eq!(types(&events), ["customer.subscription.updated", "invoice.paid"]);
    let previous = &events[0]["data"]["previous_attributes"];
    assert_eq!(previous["items"]["data"], before["items"]["data"]);
    let line = &events[1]["data"]["object"]["lines"]["data"][0];
    assert_eq!(line["period"]["end"].as_i64(), period(&after).1, "the invoice is for the new period");
}

#[tokio::test]
async fn a_canceled_subscription_is_over() {
    let stage = Stage::set().await;
    let subscription = subscribed(&stage).await;
    stage.tell(&format!("/subscriptions/{subscription}"), json!({"status": "canceled"})).await;
    let events = since(&stage, 4).await;
    assert_eq!(types(&events), ["customer.subscription.deleted"]);
    assert!(events[0]["data"]["object"]["ended_at"].is_i64());
    let path = format!("/v1/subscriptions/{subscription}");
    assert_eq!(stage.get(&path, &[]).await.ok()["status"], "canceled");
    stage.post(&path, &[("cancel_at_period_end", "true")]).await.error(400);
    stage.post(&path, &[("metadata[a]", "b")]).await.ok();
    let living = stage.get("/v1/subscriptions", &[]).await.ok();
    assert_eq!(living["data"], json!([]));
    let ended = stage.get("/v1/subscriptions", &[("status", "canceled")]).await.ok();
    assert_eq!(ended["data"][0]["id"], *subscription);
}

#[tokio::test]
async fn a_delayed_debit_is_settled_once_for_good_or_ill() {
    let stage = Stage::set().await;
    for (ok, kinds, payment_status) in [
        (true, vec!["checkout.session.async_payment_succeeded", "invoice.paid"], "paid"),
        (false, vec!["checkout.session.async_payment_failed"], "unpaid"),
    ] {
        let session = id(&stage.checkout(&stage.customer().await, &[]).await);
        let paid = stage.tell(&format!("/checkout/{session}/pay"), json!({"card": "delayed"})).await;
        assert_eq!(paid["location"], format!("https://shop.example/done?session={session}"));
        let completed = stage.events().await.pop().expect("the session is complete");
        assert_eq!(completed["data"]["object"]["payment_status"], "unpaid");
        let before = stage.events().await.len();
        stage.tell(&format!("/checkout/{session}/settle"), json!({"ok": ok})).await;
        let events = since(&stage, before).await;
        assert_eq!(types(&events), kinds);
        assert_eq!(events[0]["data"]["object"]["payment_status"], payment_status);
        let again = stage.request(Method::POST, &format!("/_sandbox/checkout/{session}/settle"));
        assert_eq!(send(again.body(r#"{"ok":true}"#)).await.status, 409);
    }
}

#[tokio::test]
async fn a_trial_is_paid_later() {
    let stage = Stage::set().await;
    let trial = [("subscription_data[trial_period_days]", "14")];
    let session = id(&stage.checkout(&stage.customer().await, &trial).await);
    stage.tell(&format!("/checkout/{session}/pay"), json!({"card": "ok"})).await;
    let events = since(&stage, 1).await;
    let subscription = &events[0]["data"]["object"];
    assert_eq!(subscription["status"], "trialing");
    assert_eq!(subscription["trial_end"], subscription["items"]["data"][0]["current_period_end"]);
    assert_eq!(events[1]["data"]["object"]["payment_status"], "no_payment_required");
    assert_eq!(events[2]["data"]["object"]["amount_paid"], 0);
}

#[tokio::test]
async fn a_declined_card_buys_nothing() {
    let stage = Stage::set().await;
    let session = id(&stage.checkout(&stage.customer().await, &[]).await);
    let declined = stage.tell(&format!("/checkout/{session}/pay"), json!({"card": "declined"})).await;
    assert_eq!(declined, json!({"paid": false, "location": null}));
    assert_eq!(stage.events().await.len(), 1);
}

#[tokio::test]
async fn the_api_ends_a_subscription_with_its_period() {
    let stage = Stage::set().await;
    let path = format!("/v1/subscriptions/{}", subscribed(&stage).await);
    let ending = stage.post(&path, &[("cancel_at_period_end", "true")]).await.ok();
    assert_eq!(ending["cancel_at_period_end"], true);
    assert_eq!(ending["cancel_at"], ending["items"]["data"][0]["current_period_end"]);
    let going_on = stage.post(&path, &[("cancel_at_period_end", "false")]).await.ok();
    assert_eq!([&going_on["cancel_at"], &going_on["canceled_at"]], [&Value::Null, &Value::Null]);
    let paused = stage.post(&path, &[("pause_collection[behavior]", "void")]).await.ok();
    assert_eq!([&paused["status"], &paused["pause_collection"]["behavior"]], ["active", "void"]);
    assert_eq!(stage.post(&path, &[("pause_collection", "")]).await.ok()["pause_collection"], Value::Null);
    stage.post(&path, &[("cancel_at", "5")]).await.error(400);
    stage.post(&path, &[("items[0][id]", "si_none"), ("items[0][quantity]", "2")]).await.error(400);
}
