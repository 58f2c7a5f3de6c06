//! Metered prices: Stripe accepts no quantity for them.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::{Database, on_both_databases};

on_both_databases!(metered_price_is_sold_without_quantity);

async fn metered_price_is_sold_without_quantity(database: Database) {
    let mut app = TestApp::start_with(database, &[("--plans", "usage=api_calls")]).await;
    let price = app.stripe.create_metered_price("api_calls").await;
    for (tenant, configured) in [("acme", "api_calls"), ("birch", price.as_str())] {
        app.stop_service().await;
        app.start_service_with("--plans", &format!("usage={configured};pro=pro_monthly")).await;
        let bought = app.check_out(&app.token(tenant), &json!({ "plan": "usage" })).await.ok();
        let requests = app.stripe.requests_to("POST", "/v1/checkout/sessions").await;
        let request = requests.last().expect("a session is created");
        assert_eq!(request["params"]["line_items"], json!([{ "price": price }]));

        app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
        let sold = app.wait_for_plan(tenant, "usage").await;
        assert_eq!((&sold["price"], &sold["quantity"]), (&json!(price), &Value::Null));
    }
    let bought = app.check_out(&app.token("cedar"), &json!({ "plan": "pro" })).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    assert_eq!(
        app.wait_for_plan("cedar", "pro").await["quantity"],
        1,
        "any other price is sold with quantity 1"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_accepts_metered_price() {
    let app = TestApp::start(Database::Sqlite).await;
    app.stripe.create_metered_price("api_calls").await;
    let output = app.run_command_with(&["doctor"], &[("BILLHOOK_PLANS", "usage=api_calls;pro=pro_monthly")]);
    let text = String::from_utf8(output.stdout).expect("text");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("green prices all 2 prices of the plans usage and pro exist"), "{text}");
    assert!(text.contains("; metered, so sold without a quantity: api_calls green portal"), "{text}");
    app.stop().await;
}
