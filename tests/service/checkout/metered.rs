//! Prices whose usage is billed: Stripe takes no quantity of them.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::{Database, on_both_databases};

on_both_databases!(metered_price_is_sold_without_quantity);

async fn metered_price_is_sold_without_quantity(database: Database) {
    let mut app = TestApp::start_with(database, &[("--plans", "usage=api_calls")]).await;
    let price = app.stripe.create_metered_price("api_calls").await;
    for (tenant, named) in [("acme", "api_calls"), ("birch", price.as_str())] {
        app.go_down().await;
        app.come_back_with("--plans", &format!("usage={named};pro=pro_monthly")).await;
        let bought = app.check_out(&app.token(tenant), &json!({ "plan": "usage" })).await.ok();
        let asked = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
        let asked = asked.last().expect("a session is asked for");
        assert_eq!(asked["params"]["line_items"], json!([{ "price": price }]));

        app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
        let sold = app.until_plan(tenant, "usage").await;
        assert_eq!((&sold["price"], &sold["quantity"]), (&json!(price), &Value::Null));
    }
    let bought = app.check_out(&app.token("cedar"), &json!({ "plan": "pro" })).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    assert_eq!(app.until_plan("cedar", "pro").await["quantity"], 1, "any other price is sold once");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_agrees_that_metered_price_can_be_sold() {
    let app = TestApp::start(Database::Sqlite).await;
    app.stripe.create_metered_price("api_calls").await;
    let output = app.run_command_with(&["doctor"], &[("BILLHOOK_PLANS", "usage=api_calls;pro=pro_monthly")]);
    let text = String::from_utf8(output.stdout).expect("text");
    let line = text.lines().find(|line| line.contains(" prices ")).expect("the prices are checked");
    assert!(line.starts_with("green "), "{text}");
    assert!(line.ends_with("; metered, and so sold without a quantity: api_calls"), "{text}");
    app.stop().await;
}
