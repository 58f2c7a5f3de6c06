//! The control API: simulated customers, banks and time.

use reqwest::Method;
use serde_json::{Value, json};

use crate::test_double::{TestDouble, id, send, types};

async fn subscribed(double: &TestDouble) -> String {
    let customer = double.create_customer().await;
    double.create_subscription(&customer).await
}

/// All events except the first `count`.
async fn events_after(double: &TestDouble, count: usize) -> Vec<Value> {
    double.events().await.split_off(count)
}

#[tokio::test]
async fn forced_past_due_emits_update_and_failed_invoice() {
    let double = TestDouble::start().await;
    let subscription = subscribed(&double).await;
    let changed =
        double.control(&format!("/subscriptions/{subscription}"), json!({"status": "past_due"})).await;
    assert_eq!(changed["status"], "past_due");
    let events = events_after(&double, 4).await;
    assert_eq!(types(&events), ["customer.subscription.updated", "invoice.payment_failed"]);
    assert_eq!(events[0]["data"]["previous_attributes"]["status"], "active");
    let invoice = &events[1]["data"]["object"];
    assert_eq!(invoice["parent"]["subscription_details"]["subscription"], *subscription);
    assert_eq!([&invoice["status"], &invoice["amount_paid"]], [&json!("open"), &json!(0)]);
    assert_eq!(events[0]["request"]["id"], Value::Null, "no API call caused it");
}

#[tokio::test]
async fn renewal_starts_next_period_and_pays_invoice() {
    let double = TestDouble::start().await;
    let subscription = subscribed(&double).await;
    let before = double.get(&format!("/v1/subscriptions/{subscription}"), &[]).await.ok();
    let after = double.control(&format!("/subscriptions/{subscription}"), json!({"renew": true})).await;
    let period = |subscription: &Value| {
        let item = &subscription["items"]["data"][0];
        (item["current_period_start"].as_i64(), item["current_period_end"].as_i64())
    };
    assert_eq!(period(&after).0, period(&before).1);
    assert!(period(&after).1 > period(&before).1);
    let events = events_after(&double, 4).await;
    assert_eq!(types(&events), ["customer.subscription.updated", "invoice.paid"]);
    let previous = &events[0]["data"]["previous_attributes"];
    assert_eq!(previous["items"]["data"], before["items"]["data"]);
    let line = &events[1]["data"]["object"]["lines"]["data"][0];
    assert_eq!(line["period"]["end"].as_i64(), period(&after).1, "the invoice is for the new period");
}

#[tokio::test]
async fn canceled_subscription_accepts_only_metadata() {
    let double = TestDouble::start().await;
    let subscription = subscribed(&double).await;
    double.control(&format!("/subscriptions/{subscription}"), json!({"status": "canceled"})).await;
    let events = events_after(&double, 4).await;
    assert_eq!(types(&events), ["customer.subscription.deleted"]);
    assert!(events[0]["data"]["object"]["ended_at"].is_i64());
    let path = format!("/v1/subscriptions/{subscription}");
    assert_eq!(double.get(&path, &[]).await.ok()["status"], "canceled");
    double.post(&path, &[("cancel_at_period_end", "true")]).await.error(400);
    double.post(&path, &[("metadata[a]", "b")]).await.ok();
    let current = double.get("/v1/subscriptions", &[]).await.ok();
    assert_eq!(current["data"], json!([]));
    let ended = double.get("/v1/subscriptions", &[("status", "canceled")]).await.ok();
    assert_eq!(ended["data"][0]["id"], *subscription);
}

#[tokio::test]
async fn delayed_debit_is_settled_once() {
    let double = TestDouble::start().await;
    for (ok, kinds, payment_status) in [
        (true, vec!["checkout.session.async_payment_succeeded", "invoice.paid"], "paid"),
        (false, vec!["checkout.session.async_payment_failed"], "unpaid"),
    ] {
        let session = id(&double.create_checkout(&double.create_customer().await, &[]).await);
        let paid = double.control(&format!("/checkout/{session}/pay"), json!({"card": "delayed"})).await;
        assert_eq!(paid["location"], format!("https://shop.example/done?session={session}"));
        let completed = double.events().await.pop().expect("completed event");
        assert_eq!(completed["data"]["object"]["payment_status"], "unpaid");
        let before = double.events().await.len();
        double.control(&format!("/checkout/{session}/settle"), json!({"ok": ok})).await;
        let events = events_after(&double, before).await;
        assert_eq!(types(&events), kinds);
        assert_eq!(events[0]["data"]["object"]["payment_status"], payment_status);
        let again = double.request(Method::POST, &format!("/_sandbox/checkout/{session}/settle"));
        assert_eq!(send(again.body(r#"{"ok":true}"#)).await.status, 409);
    }
}

#[tokio::test]
async fn trial_checkout_requires_no_payment() {
    let double = TestDouble::start().await;
    let trial = [("subscription_data[trial_period_days]", "14")];
    let session = id(&double.create_checkout(&double.create_customer().await, &trial).await);
    double.control(&format!("/checkout/{session}/pay"), json!({"card": "ok"})).await;
    let events = events_after(&double, 1).await;
    let subscription = &events[0]["data"]["object"];
    assert_eq!(subscription["status"], "trialing");
    assert_eq!(subscription["trial_end"], subscription["items"]["data"][0]["current_period_end"]);
    assert_eq!(events[1]["data"]["object"]["payment_status"], "no_payment_required");
    assert_eq!(events[2]["data"]["object"]["amount_paid"], 0);
}

#[tokio::test]
async fn declined_card_creates_no_subscription() {
    let double = TestDouble::start().await;
    let session = id(&double.create_checkout(&double.create_customer().await, &[]).await);
    let declined = double.control(&format!("/checkout/{session}/pay"), json!({"card": "declined"})).await;
    assert_eq!(declined, json!({"paid": false, "location": null}));
    assert_eq!(double.events().await.len(), 1);
}

#[tokio::test]
async fn api_sets_and_clears_cancel_at_period_end() {
    let double = TestDouble::start().await;
    let path = format!("/v1/subscriptions/{}", subscribed(&double).await);
    let ending = double.post(&path, &[("cancel_at_period_end", "true")]).await.ok();
    assert_eq!(ending["cancel_at_period_end"], true);
    assert_eq!(ending["cancel_at"], ending["items"]["data"][0]["current_period_end"]);
    let resumed = double.post(&path, &[("cancel_at_period_end", "false")]).await.ok();
    assert_eq!([&resumed["cancel_at"], &resumed["canceled_at"]], [&Value::Null, &Value::Null]);
    let paused = double.post(&path, &[("pause_collection[behavior]", "void")]).await.ok();
    assert_eq!([&paused["status"], &paused["pause_collection"]["behavior"]], ["active", "void"]);
    assert_eq!(double.post(&path, &[("pause_collection", "")]).await.ok()["pause_collection"], Value::Null);
    double.post(&path, &[("cancel_at", "5")]).await.error(400);
    double.post(&path, &[("items[0][id]", "si_none"), ("items[0][quantity]", "2")]).await.error(400);
}

#[tokio::test]
async fn quantity_and_cancellation_emit_previous_attributes() {
    let double = TestDouble::start().await;
    let subscription = subscribed(&double).await;
    let path = format!("/subscriptions/{subscription}");
    let before = double.get(&format!("/v1{path}"), &[]).await.ok();
    let after = double.control(&path, json!({"quantity": 5, "cancel_at_period_end": true})).await;
    assert_eq!(after["items"]["data"][0]["quantity"], 5);
    assert_eq!(after["cancel_at"], after["items"]["data"][0]["current_period_end"]);
    double.control(&path, json!({"cancel_at_period_end": false})).await;

    let events = events_after(&double, 4).await;
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
async fn silent_changes_emit_no_events() {
    let double = TestDouble::start().await;
    let subscription = subscribed(&double).await;
    let path = format!("/subscriptions/{subscription}");
    let change = json!({
        "price": "price_team_monthly",
        "quantity": 3,
        "renew": true,
        "cancel_at_period_end": true,
        "status": "past_due",
        "silently": true,
    });
    let changed = double.control(&path, change).await;
    assert_eq!(double.get(&format!("/v1{path}"), &[]).await.ok(), changed);
    assert_eq!(
        [&changed["status"], &changed["items"]["data"][0]["quantity"]],
        [&json!("past_due"), &json!(3)]
    );
    double.control(&path, json!({"status": "canceled", "silently": true})).await;
    assert!(events_after(&double, 4).await.is_empty());
    double.create_customer().await;
    assert_eq!(
        types(&events_after(&double, 4).await),
        ["customer.created"],
        "later changes emit events again"
    );
}

#[tokio::test]
async fn change_of_ended_subscription_returns_409() {
    let double = TestDouble::start().await;
    let path = format!("/subscriptions/{}", subscribed(&double).await);
    double.control(&path, json!({"status": "canceled"})).await;
    for change in [json!({"status": "active"}), json!({"renew": true}), json!({"status": "canceled"})] {
        double.control_fails(&path, change, 409).await;
    }
}

#[tokio::test]
async fn forgotten_subscription_is_unknown_without_event() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let (gone, kept) =
        (double.create_subscription(&customer).await, double.create_subscription(&customer).await);
    let before = double.events().await.len();
    double.forget(&format!("/subscriptions/{gone}")).await;
    let error = double.get(&format!("/v1/subscriptions/{gone}"), &[]).await.error(404);
    assert_eq!([&error["code"], &error["param"]], ["resource_missing", "id"]);
    let listed = double.get("/v1/subscriptions", &[("customer", &customer), ("status", "all")]).await.ok();
    let ids: Vec<&Value> = listed["data"].as_array().into_iter().flatten().map(|each| &each["id"]).collect();
    assert_eq!(ids, [&kept]);
    assert!(events_after(&double, before).await.is_empty());
    let again = double.request(Method::DELETE, &format!("/_sandbox/subscriptions/{gone}"));
    assert_eq!(send(again).await.status, 404);
}

#[tokio::test]
async fn forgotten_customer_is_unknown_with_its_subscriptions() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let subscription = double.create_subscription(&customer).await;
    let before = double.events().await.len();
    double.forget(&format!("/customers/{customer}")).await;
    let path = format!("/v1/customers/{customer}");
    for rejected in [
        double.get(&path, &[]).await,
        double.post(&path, &[("name", "A")]).await,
        double.delete(&path).await,
        double.get(&format!("/v1/subscriptions/{subscription}"), &[]).await,
    ] {
        let error = rejected.error(404);
        assert_eq!([&error["code"], &error["param"]], ["resource_missing", "id"]);
    }
    assert_customer_is_unknown(&double, &customer).await;
    let error = double.get("/v1/subscriptions", &[("customer", &customer)]).await.error(400);
    assert_eq!([&error["code"], &error["param"]], ["resource_missing", "customer"]);
    assert_eq!(error["message"], format!("No such customer: '{customer}'"));
    assert!(events_after(&double, before).await.is_empty());
}

#[tokio::test]
async fn deleted_customer_leaves_tombstone_and_ended_subscriptions() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let subscription = double.create_subscription(&customer).await;
    double.delete(&format!("/v1/customers/{customer}")).await.ok();
    assert_eq!(
        types(&events_after(&double, 4).await),
        ["customer.subscription.deleted", "customer.deleted"],
        "the subscriptions end before the customer"
    );
    let tombstone = double.get(&format!("/v1/customers/{customer}"), &[]).await.ok();
    assert_eq!(tombstone, json!({"id": customer, "object": "customer", "deleted": true}));
    assert_customer_is_unknown(&double, &customer).await;
    let current = double.get("/v1/subscriptions", &[("customer", &customer)]).await.ok();
    assert_eq!(current["data"], json!([]));
    let all = double.get("/v1/subscriptions", &[("customer", &customer), ("status", "all")]).await.ok();
    assert_eq!([&all["data"][0]["id"], &all["data"][0]["status"]], [subscription.as_str(), "canceled"]);
}

/// Checkout and portal reject this customer.
async fn assert_customer_is_unknown(double: &TestDouble, customer: &str) {
    let checkout = [
        ("mode", "subscription"),
        ("customer", customer),
        ("line_items[0][price]", "price_pro_monthly"),
        ("line_items[0][quantity]", "1"),
        ("success_url", "https://shop.example/done"),
    ];
    for rejected in [
        double.post("/v1/checkout/sessions", &checkout).await,
        double.post("/v1/billing_portal/sessions", &[("customer", customer)]).await,
    ] {
        let error = rejected.error(400);
        assert_eq!([&error["code"], &error["param"]], ["resource_missing", "customer"]);
    }
}
