//! Nothing that is secret is ever written down.

use std::fs;

use serde_json::json;

use crate::app::{JWT_SECRET, STRIPE_KEY, TestApp, WEBHOOK_SECRET, ended_spans};
use crate::database::Database;

#[tokio::test]
async fn no_secret_reaches_a_log_file_a_span_or_the_database() {
    let app = TestApp::start(Database::Sqlite).await;
    let token = app.token_with(&json!({ "tenant": "acme", "sub": "canary@example.com" }));
    let bought = app.check_out(&token, &json!({})).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    app.until_plan("acme", "pro").await;
    let portal = app.open_portal(&token, &json!({})).await.ok();
    app.line("subscription_state", |line| line["stripe_event_type"] == "billing_portal.session.created")
        .await;
    let body = br#"{"id":"evt_1"}"#.to_vec();
    let signature = sandbox::sign("whsec_canary_wrong", app.clock_seconds(), &body);
    app.post_webhook(body, Some(&signature)).await.assert_is(400, "invalid_signature");
    app.open_portal(&format!("{token}x"), &json!({})).await.assert_is(401, "not_authenticated");

    let checkout_url = bought["url"].as_str().expect("a URL");
    let portal_url = portal["url"].as_str().expect("a URL");
    let secrets = [
        STRIPE_KEY,
        WEBHOOK_SECRET,
        JWT_SECRET,
        "whsec_canary_wrong",
        "canary@example.com",
        token.as_str(),
        checkout_url,
        portal_url,
        portal_url.rsplit('/').next().expect("the portal's secret"),
        signature.rsplit('=').next().expect("a signature"),
    ];
    for topic in ["billing", "webhook_signatures", "subscription_state"] {
        let text = fs::read_to_string(app.log_dir().join(format!("{topic}.log"))).expect("the log file");
        assert!(!text.is_empty());
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {topic}.log");
        }
    }
    let hashed = app.line("billing", |line| line["event"] == "portal.create.success").await;
    assert!(hashed["user_id"].as_str().is_some_and(|user| user.starts_with("sha256:")), "{hashed}");
    let mut database = fs::read(app.dir().join("billhook.db")).expect("the database");
    database.extend(fs::read(app.dir().join("billhook.db-wal")).expect("its log"));
    let holds = |text: &str| database.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&app.customer_of("acme").await), "what is kept is found");
    for secret in [STRIPE_KEY, WEBHOOK_SECRET, JWT_SECRET, token.as_str(), checkout_url, portal_url] {
        assert!(!holds(secret), "{secret} is in the database");
    }
    let spans = format!("{:?}", ended_spans());
    assert!(spans.contains("acme"), "what is told is found");
    for secret in secrets {
        assert!(!spans.contains(secret), "{secret} is in a span");
    }
    app.stop().await;
}
