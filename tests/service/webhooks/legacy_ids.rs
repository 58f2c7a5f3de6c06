//! Ids that the owner of an old account chose: of plans from before prices, and of customers.

use serde_json::{Value, json};

use crate::support::app::{TestApp, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    price_id_of_any_characters_is_sold_and_granted,
    customer_id_of_any_characters_is_linked_and_managed
);

const PRICE: &str = "Pro plan $69/month";

async fn price_id_of_any_characters_is_sold_and_granted(database: Database) {
    let app = TestApp::start_with(database, &[("--plans", "pro=Pro plan $69/month,pro_legacy")]).await;
    app.stripe.create_old_price(PRICE, None).await;
    app.stripe.create_old_price("Équipe-2016?#%2F", Some("pro_legacy")).await;
    app.make_pro("acme").await;
    let rows = app.database.rows::<entity::subscription::Entity>().await;
    let items: Value = serde_json::from_str(&rows[0].items).expect("items");
    assert_eq!((&items[0]["price"], &items[0]["quantity"]), (&json!(PRICE), &json!(1)));
    let held = app.subscription(&app.token("acme")).await.ok();
    assert_eq!(held["price"], PRICE, "{held}");

    let created = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "birch" });
        object["items"]["data"][0]["quantity"] = json!(2);
        object["items"]["data"][0]["price"] = json!({ "id": "Équipe-2016?#%2F", "lookup_key": "pro_legacy" });
    });
    app.deliver(&created).await.ok();
    let held = app.subscription(&app.token("birch")).await.ok();
    assert_eq!((&held["plan"], &held["quantity"]), (&json!("pro"), &json!(2)), "{held}");

    // Its id is one segment of the path, whatever is in it.
    let plans = ("BILLHOOK_PLANS", "pro=Pro plan $69/month,Équipe-2016?#%2F,gold/monthly");
    let doctor = app.run_command_with(&["doctor"], &[plans]);
    let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(report.contains("gold/monthly of pro is not at Stripe"), "{report}");
    assert!(!report.contains("$69/month of pro") && !report.contains("2016"), "{report}");
    app.stop().await;
}

async fn customer_id_of_any_characters_is_linked_and_managed(database: Database) {
    let app = TestApp::start(database).await;
    app.until_backfilled().await;
    let customer = "Böhm & Söhne/2011, cus #1";
    app.stripe.create_old_customer(customer).await;
    let linked = app.run_command(&["tenant", "link", "acme", customer]);
    assert!(linked.status.success(), "{linked:?}");
    app.stripe.buy_elsewhere(&form_urlencoded_text(customer)).await;
    app.until_plan("acme", "team").await;
    let opened = app.open_portal(&app.token("acme"), &json!({})).await.ok();
    assert!(opened["url"].is_string(), "{opened}");

    // Deleted without an event: asking for it finds its tombstone under its own path.
    app.stripe.fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.fault(&json!({ "events": "hidden" })).await;
    let path = format!("/v1/customers/{}", form_urlencoded_text(customer).replace('+', "%20"));
    app.stripe.api("DELETE", &path, "").await;
    app.open_portal(&app.token("acme"), &json!({})).await;
    let tenant = app.database.row::<entity::tenant::Entity>("acme").await.expect("a tenant");
    assert_eq!(tenant.stripe_customer_id, None, "its end was learned from Stripe");
    app.stop().await;
}

fn form_urlencoded_text(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
