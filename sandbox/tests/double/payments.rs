//! Which card pays, what happens when it is declined, and prices that have no quantity.

use serde_json::{Value, json};

use crate::stage::{Stage, id, types};

/// A customer and its subscription, whose renewal was declined.
async fn past_due(stage: &Stage) -> (String, String) {
    let customer = stage.customer().await;
    let subscription = stage.subscription(&customer).await;
    let declined = json!({"card": "declined", "renew": true});
    let changed = stage.tell(&format!("/subscriptions/{subscription}"), declined).await;
    assert_eq!(changed["status"], "past_due");
    (customer, subscription)
}

/// Stripe tries again. Returns the status that the subscription then has.
async fn retry(stage: &Stage, subscription: &str) -> Value {
    let tried = stage.tell(&format!("/subscriptions/{subscription}"), json!({"retry_payment": true})).await;
    tried["status"].clone()
}

async fn portal(stage: &Stage, customer: &str) -> String {
    let params = [("customer", customer), ("return_url", "https://shop.example/billing")];
    let session = stage.post("/v1/billing_portal/sessions", &params).await.ok();
    path(stage, &session["url"])
}

fn path(stage: &Stage, url: &Value) -> String {
    let url = url.as_str().expect("a page should have an address");
    url.strip_prefix(&stage.url("")).expect("the address should be the double's").to_owned()
}

async fn open_invoices(stage: &Stage, subscription: &str) -> Vec<Value> {
    let params = [("subscription", subscription), ("status", "open")];
    let listed = stage.get("/v1/invoices", &params).await.ok();
    listed["data"].as_array().expect("a list should have data").clone()
}

#[tokio::test]
async fn card_of_subscription_is_charged_before_card_of_customer() {
    let stage = Stage::set().await;
    let (customer, subscription) = past_due(&stage).await;
    let portal = portal(&stage, &customer).await;
    stage.press(&portal, &[("action", "update_card")]).await.location();
    let card = stage.get(&format!("/v1/customers/{customer}"), &[]).await.ok();
    assert!(card["invoice_settings"]["default_payment_method"].is_string());
    assert_eq!(retry(&stage, &subscription).await, "past_due");

    let update = [("action", "update_subscription_card"), ("subscription", subscription.as_str())];
    stage.press(&portal, &update).await.location();
    assert_eq!(retry(&stage, &subscription).await, "active");
    let events = stage.events().await;
    let last = types(&events[events.len() - 2..]);
    assert_eq!(last, ["invoice.paid", "customer.subscription.updated"]);
    assert!(open_invoices(&stage, &subscription).await.is_empty());
}

#[tokio::test]
async fn unpaid_subscription_is_active_when_its_open_invoice_is_paid() {
    let stage = Stage::set().await;
    let (customer, subscription) = past_due(&stage).await;
    stage.tell(&format!("/subscriptions/{subscription}"), json!({"status": "unpaid"})).await;
    let open = open_invoices(&stage, &subscription).await;
    assert_eq!(open.len(), 1, "the one that made it past_due");
    let page = path(&stage, &open[0]["hosted_invoice_url"]);
    let portal = portal(&stage, &customer).await;
    assert!(stage.look(&portal).await.text.contains(&page), "the portal leads to it");

    assert!(stage.look(&page).await.text.contains("<h1>Invoice</h1>"));
    let declined = stage.press(&page, &[("action", "decline")]).await;
    assert!(declined.status == 200 && declined.text.contains("The card was declined"));
    assert_eq!(stage.press(&page, &[("action", "pay")]).await.location(), page);
    let paid = stage.look(&page).await;
    assert!(paid.text.contains("paid") && !paid.text.contains("<form"));
    let status = stage.get(&format!("/v1/subscriptions/{subscription}"), &[]).await.ok();
    assert_eq!(status["status"], "active");
    assert_eq!(stage.look("/i/acct_1/test_none").await.status, 404);
}

#[tokio::test]
async fn metered_price_takes_no_quantity() {
    let stage = Stage::set().await;
    let form = [
        ("product", "prod_pro"),
        ("currency", "usd"),
        ("unit_amount", "1"),
        ("recurring[interval]", "month"),
        ("recurring[usage_type]", "metered"),
        ("recurring[meter]", "mtr_1"),
    ];
    assert_eq!(stage.post("/v1/prices", &form[..5]).await.error(400)["param"], "recurring[meter]");
    let price = id(&stage.post("/v1/prices", &form).await.ok());
    let session = [
        ("mode", "subscription"),
        ("success_url", "https://shop.example/done"),
        ("line_items[0][price]", price.as_str()),
        ("line_items[0][quantity]", "1"),
    ];
    let error = stage.post("/v1/checkout/sessions", &session).await.error(400);
    assert_eq!(error["param"], "line_items[0][quantity]");
    let said = "Quantity should not be specified where usage_type is `metered`. Remove quantity from `line_items[0]`";
    assert_eq!(error["message"], said);

    let session = stage.post("/v1/checkout/sessions", &session[..3]).await.ok();
    assert_eq!(session["amount_total"], 0);
    assert!(stage.look(&path(&stage, &session["url"])).await.text.contains("for each that is used"));
    stage.tell(&format!("/checkout/{}/pay", id(&session)), json!({"card": "ok"})).await;
    let session = stage.get(&format!("/v1/checkout/sessions/{}", id(&session)), &[]).await.ok();
    let subscription = session["subscription"].as_str().expect("a subscription");
    let sold = stage.get(&format!("/v1/subscriptions/{subscription}"), &[]).await.ok();
    let item = &sold["items"]["data"][0];
    assert!(item.get("quantity").is_none() && item["plan"]["usage_type"] == "metered");
    let more = [("items[0][price]", price.as_str()), ("items[0][quantity]", "1")];
    let error = stage.post(&format!("/v1/subscriptions/{subscription}"), &more).await.error(400);
    assert_eq!(error["param"], "items[0][quantity]");
}
