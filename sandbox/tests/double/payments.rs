//! Payment methods, declined cards and metered prices.

use serde_json::{Value, json};

use crate::test_double::{TestDouble, id, types};

/// Creates a customer and a subscription whose renewal payment was declined.
async fn past_due(double: &TestDouble) -> (String, String) {
    let customer = double.create_customer().await;
    let subscription = double.create_subscription(&customer).await;
    let declined = json!({"card": "declined", "renew": true});
    let changed = double.control(&format!("/subscriptions/{subscription}"), declined).await;
    assert_eq!(changed["status"], "past_due");
    (customer, subscription)
}

/// Retries the payment and returns the status of the subscription.
async fn retry_payment(double: &TestDouble, subscription: &str) -> Value {
    let changed =
        double.control(&format!("/subscriptions/{subscription}"), json!({"retry_payment": true})).await;
    changed["status"].clone()
}

async fn portal(double: &TestDouble, customer: &str) -> String {
    let params = [("customer", customer), ("return_url", "https://shop.example/billing")];
    let session = double.post("/v1/billing_portal/sessions", &params).await.ok();
    double.path_of(&session["url"])
}

async fn open_invoices(double: &TestDouble, subscription: &str) -> Vec<Value> {
    let params = [("subscription", subscription), ("status", "open")];
    let listed = double.get("/v1/invoices", &params).await.ok();
    listed["data"].as_array().expect("list data").clone()
}

#[tokio::test]
async fn subscription_card_is_charged_before_customer_card() {
    let double = TestDouble::start().await;
    let (customer, subscription) = past_due(&double).await;
    let portal = portal(&double, &customer).await;
    double.submit(&portal, &[("action", "update_card")]).await.location();
    let card = double.get(&format!("/v1/customers/{customer}"), &[]).await.ok();
    assert!(card["invoice_settings"]["default_payment_method"].is_string());
    assert_eq!(retry_payment(&double, &subscription).await, "past_due");

    let update = [("action", "update_subscription_card"), ("subscription", subscription.as_str())];
    double.submit(&portal, &update).await.location();
    assert_eq!(retry_payment(&double, &subscription).await, "active");
    let events = double.events().await;
    let last = types(&events[events.len() - 2..]);
    assert_eq!(last, ["invoice.paid", "customer.subscription.updated"]);
    assert!(open_invoices(&double, &subscription).await.is_empty());
}

#[tokio::test]
async fn paying_open_invoice_activates_unpaid_subscription() {
    let double = TestDouble::start().await;
    let (customer, subscription) = past_due(&double).await;
    double.control(&format!("/subscriptions/{subscription}"), json!({"status": "unpaid"})).await;
    let open = open_invoices(&double, &subscription).await;
    assert_eq!(open.len(), 1, "the invoice of the failed renewal");
    let page = double.path_of(&open[0]["hosted_invoice_url"]);
    let portal = portal(&double, &customer).await;
    assert!(double.view(&portal).await.text.contains(&page), "the portal should link to it");

    assert!(double.view(&page).await.text.contains("<h1>Invoice</h1>"));
    let declined = double.submit(&page, &[("action", "decline")]).await;
    assert!(declined.status == 200 && declined.text.contains("The card was declined"));
    assert_eq!(double.submit(&page, &[("action", "pay")]).await.location(), page);
    let paid = double.view(&page).await;
    assert!(paid.text.contains("paid") && !paid.text.contains("<form"));
    let status = double.get(&format!("/v1/subscriptions/{subscription}"), &[]).await.ok();
    assert_eq!(status["status"], "active");
    assert_eq!(double.view("/i/acct_1/test_none").await.status, 404);
}

#[tokio::test]
async fn metered_price_rejects_quantity() {
    let double = TestDouble::start().await;
    let form = [
        ("product", "prod_pro"),
        ("currency", "usd"),
        ("unit_amount", "1"),
        ("recurring[interval]", "month"),
        ("recurring[usage_type]", "metered"),
        ("recurring[meter]", "mtr_1"),
    ];
    assert_eq!(double.post("/v1/prices", &form[..5]).await.error(400)["param"], "recurring[meter]");
    let price = id(&double.post("/v1/prices", &form).await.ok());
    let session = [
        ("mode", "subscription"),
        ("success_url", "https://shop.example/done"),
        ("line_items[0][price]", price.as_str()),
        ("line_items[0][quantity]", "1"),
    ];
    let error = double.post("/v1/checkout/sessions", &session).await.error(400);
    assert_eq!(error["param"], "line_items[0][quantity]");
    let message = "Quantity should not be specified where usage_type is `metered`. Remove quantity from `line_items[0]`";
    assert_eq!(error["message"], message);

    let session = double.post("/v1/checkout/sessions", &session[..3]).await.ok();
    assert_eq!(session["amount_total"], 0);
    assert!(double.view(&double.path_of(&session["url"])).await.text.contains("per unit used"));
    double.control(&format!("/checkout/{}/pay", id(&session)), json!({"card": "ok"})).await;
    let session = double.get(&format!("/v1/checkout/sessions/{}", id(&session)), &[]).await.ok();
    let subscription = session["subscription"].as_str().expect("subscription");
    let subscribed = double.get(&format!("/v1/subscriptions/{subscription}"), &[]).await.ok();
    let item = &subscribed["items"]["data"][0];
    assert!(item.get("quantity").is_none() && item["plan"]["usage_type"] == "metered");
    let more = [("items[0][price]", price.as_str()), ("items[0][quantity]", "1")];
    let error = double.post(&format!("/v1/subscriptions/{subscription}"), &more).await.error(400);
    assert_eq!(error["param"], "items[0][quantity]");
}
