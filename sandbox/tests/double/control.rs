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

#[tokio::test]
async fn a_quantity_and_an_end_are_told_with_what_they_replaced() {
    let stage = Stage::set().await;
    let subscription = subscribed(&stage).await;
    let path = format!("/subscriptions/{subscription}");
    let before = stage.get(&format!("/v1{path}"), &[]).await.ok();
    let after = stage.tell(&path, json!({"quantity": 5, "cancel_at_period_end": true})).await;
    assert_eq!(after["items"]["data"][0]["quantity"], 5);
    assert_eq!(after["cancel_at"], after["items"]["data"][0]["current_period_end"]);
    stage.tell(&path, json!({"cancel_at_period_end": false})).await;

    let events = since(&stage, 4).await;
    assert_eq!(types(&events), ["customer.subscription.updated"; 3]);
    let previous = |event: usize| &events[event]["data"]["previous_attributes"];
    assert_eq!(previous(0), &json!({"items": {"data": before["items"]["data"]}}));
    assert_eq!(
        previous(1),
        &json!({
            "cancel_at": null,
            "cancel_at_period_end": false,
            "canceled_at": null,
            "cancellation_details": {"reason": null},
        })
    );
    assert_eq!(previous(2)["cancel_at"], after["cancel_at"]);
    assert_eq!(previous(2)["cancel_at_period_end"], true);
}

#[tokio::test]
async fn what_is_changed_silently_is_never_told() {
    let stage = Stage::set().await;
    let subscription = subscribed(&stage).await;
    let path = format!("/subscriptions/{subscription}");
    let change = json!({
        "price": "price_team_monthly",
        "quantity": 3,
        "renew": true,
        "cancel_at_period_end": true,
        "status": "past_due",
        "silently": true,
    });
    let changed = stage.tell(&path, change).await;
    assert_eq!(stage.get(&format!("/v1{path}"), &[]).await.ok(), changed);
    assert_eq!(
        [&changed["status"], &changed["items"]["data"][0]["quantity"]],
        [&json!("past_due"), &json!(3)]
    );
    stage.tell(&path, json!({"status": "canceled", "silently": true})).await;
    assert!(since(&stage, 4).await.is_empty());
    stage.customer().await;
    assert_eq!(types(&since(&stage, 4).await), ["customer.created"], "what comes after is told again");
}

#[tokio::test]
async fn nothing_revives_what_is_over() {
    let stage = Stage::set().await;
    let path = format!("/subscriptions/{}", subscribed(&stage).await);
    stage.tell(&path, json!({"status": "canceled"})).await;
    for change in [json!({"status": "active"}), json!({"renew": true}), json!({"status": "canceled"})] {
        stage.tell_in_vain(&path, change, 409).await;
    }
}

#[tokio::test]
async fn a_forgotten_subscription_has_never_been() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let (gone, kept) = (stage.subscription(&customer).await, stage.subscription(&customer).await);
    let before = stage.events().await.len();
    stage.forget(&format!("/subscriptions/{gone}")).await;
    let error = stage.get(&format!("/v1/subscriptions/{gone}"), &[]).await.error(404);
    assert_eq!([&error["code"], &error["param"]], ["resource_missing", "id"]);
    let listed = stage.get("/v1/subscriptions", &[("customer", &customer), ("status", "all")]).await.ok();
    let ids: Vec<&Value> = listed["data"].as_array().into_iter().flatten().map(|each| &each["id"]).collect();
    assert_eq!(ids, [&kept]);
    assert!(since(&stage, before).await.is_empty());
    let again = stage.request(Method::DELETE, &format!("/_sandbox/subscriptions/{gone}"));
    assert_eq!(send(again).await.status, 404);
}

#[tokio::test]
async fn a_forgotten_customer_has_never_been_nor_have_its_subscriptions() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let subscription = stage.subscription(&customer).await;
    let before = stage.events().await.len();
    stage.forget(&format!("/customers/{customer}")).await;
    let path = format!("/v1/customers/{customer}");
    for refused in [
        stage.get(&path, &[]).await,
        stage.post(&path, &[("name", "A")]).await,
        stage.delete(&path).await,
        stage.get(&format!("/v1/subscriptions/{subscription}"), &[]).await,
    ] {
        let error = refused.error(404);
        assert_eq!([&error["code"], &error["param"]], ["resource_missing", "id"]);
    }
    is_unknown(&stage, &customer).await;
    let error = stage.get("/v1/subscriptions", &[("customer", &customer)]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["resource_missing", "customer"]);
    assert_eq!(error["message"], format!("No such customer: '{customer}'"));
    assert!(since(&stage, before).await.is_empty());
}

#[tokio::test]
async fn a_deleted_customer_leaves_a_stump_and_ended_subscriptions() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let subscription = stage.subscription(&customer).await;
    stage.delete(&format!("/v1/customers/{customer}")).await.ok();
    assert_eq!(
        types(&since(&stage, 4).await),
        ["customer.subscription.deleted", "customer.deleted"],
        "each end is told, then the deletion"
    );
    let stump = stage.get(&format!("/v1/customers/{customer}"), &[]).await.ok();
    assert_eq!(stump, json!({"id": customer, "object": "customer", "deleted": true}));
    is_unknown(&stage, &customer).await;
    let living = stage.get("/v1/subscriptions", &[("customer", &customer)]).await.ok();
    assert_eq!(living["data"], json!([]));
    let all = stage.get("/v1/subscriptions", &[("customer", &customer), ("status", "all")]).await.ok();
    assert_eq!([&all["data"][0]["id"], &all["data"][0]["status"]], [subscription.as_str(), "canceled"]);
}

/// Nothing can be bought or managed for this customer.
async fn is_unknown(stage: &Stage, customer: &str) {
    let checkout = [
        ("mode", "subscription"),
        ("customer", customer),
        ("line_items[0][price]", "price_pro_monthly"),
        ("line_items[0][quantity]", "1"),
        ("success_url", "https://shop.example/done"),
    ];
    for refused in [
        stage.post("/v1/checkout/sessions", &checkout).await,
        stage.post("/v1/billing_portal/sessions", &[("customer", customer)]).await,
    ] {
        let error = refused.error(400);
        assert_eq!([&error["code"], &error["param"]], ["resource_missing", "customer"]);
    }
}
