//! Ids chosen by the owner of an old account: of plans, which are older than prices, and of
//! customers.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    price_id_with_any_characters_is_sold_and_granted,
    customer_id_with_any_characters_is_linked_and_managed
);

const PRICE: &str = "Pro plan $69/month";

async fn price_id_with_any_characters_is_sold_and_granted(database: Database) {
    let app = TestApp::start_with(database, &[("--plans", "pro=Pro plan $69/month,pro_legacy")]).await;
    app.stripe.create_price_with_id(PRICE, None).await;
    app.stripe.create_price_with_id("Équipe-2016?#%2F", Some("pro_legacy")).await;
    app.subscribe_to_pro("acme").await;
    let rows = app.database.rows::<entity::subscription::Entity>().await;
    let items: Value = serde_json::from_str(&rows[0].items).expect("items");
    assert_eq!((&items[0]["price"], &items[0]["quantity"]), (&json!(PRICE), &json!(1)));
    let response = app.subscription(&app.token("acme")).await.ok();
    assert_eq!(response["price"], PRICE, "{response}");

    let created = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "birch" });
        object["items"]["data"][0]["quantity"] = json!(2);
        object["items"]["data"][0]["price"] = json!({ "id": "Équipe-2016?#%2F", "lookup_key": "pro_legacy" });
    });
    app.deliver(&created).await.ok();
    let response = app.subscription(&app.token("birch")).await.ok();
    assert_eq!((&response["plan"], &response["quantity"]), (&json!("pro"), &json!(2)), "{response}");

    // An id is escaped into one path segment, whatever characters it has.
    let plans = ("BILLHOOK_PLANS", "pro=Pro plan $69/month,Équipe-2016?#%2F,gold/monthly");
    let doctor = app.run_command_with(&["doctor"], &[plans]);
    let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let report = report.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(report.contains("gold/monthly of pro does not exist at Stripe"), "{report}");
    assert!(!report.contains("$69/month of pro") && !report.contains("2016"), "{report}");
    app.stop().await;
}

async fn customer_id_with_any_characters_is_linked_and_managed(database: Database) {
    let app = TestApp::start(database).await;
    app.wait_for_backfill().await;
    let customer = "Böhm & Söhne/2011, cus #1";
    app.stripe.create_customer_with_id(customer).await;
    let linked = app.run_command(&["tenant", "link", "acme", customer]);
    assert!(linked.status.success(), "{linked:?}");
    app.stripe.subscribe_customer(&form_urlencode(customer)).await;
    app.wait_for_plan("acme", "team").await;
    let opened = app.open_portal(&app.token("acme"), &json!({})).await.ok();
    assert!(opened["url"].is_string(), "{opened}");

    // Deleted without an event: the service finds the deleted customer under its escaped path.
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
    let path = format!("/v1/customers/{}", form_urlencode(customer).replace('+', "%20"));
    app.stripe.api("DELETE", &path, "").await;
    app.open_portal(&app.token("acme"), &json!({})).await;
    let tenant = app.database.row::<entity::tenant::Entity>("acme").await.expect("a tenant");
    assert_eq!(tenant.stripe_customer_id, None, "the deletion was read from Stripe");
    app.stop().await;
}

fn form_urlencode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
