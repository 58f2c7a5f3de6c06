//! Whose tokens are taken.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::app::{JWT_SECRET, TestApp};
use crate::database::Database;

#[tokio::test]
async fn without_a_token_everything_of_a_tenants_is_401() {
    let app = TestApp::start(Database::Sqlite).await;
    let missing = app.get("/api/billing/subscription/").await;
    missing.assert_is(401, "not_authenticated");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    app.get("/api/billing/tenants/acme/subscription/").await.assert_is(401, "not_authenticated");
    for path in ["/api/billing/create-portal-session/", "/api/billing/create-checkout-session/"] {
        app.call(app.request(reqwest::Method::POST, path)).await.assert_is(401, "not_authenticated");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_token_must_be_ours_current_and_whole() {
    let app = TestApp::start(Database::Sqlite).await;
    let now = app.clock_seconds();
    let refused = [
        ("garbage", "not.a.token".to_owned()),
        ("empty", String::new()),
        ("too long", "a".repeat(9000)),
        ("another secret", signed(Algorithm::HS256, "another-secret-of-at-least-32-bytes!!")),
        ("another algorithm", signed(Algorithm::HS512, JWT_SECRET)),
        ("no algorithm", unsigned()),
        ("expired", app.token_with(&json!({ "tenant": "acme", "exp": now - 31 }))),
        ("no expiry", app.token_with(&json!({ "tenant": "acme", "exp": null }))),
        ("expiry in words", app.token_with(&json!({ "tenant": "acme", "exp": "tomorrow" }))),
        ("not yet", app.token_with(&json!({ "tenant": "acme", "nbf": now + 31 }))),
        ("no user", app.token_with(&json!({ "tenant": "acme", "sub": null }))),
        ("no tenant", app.token_with(&json!({}))),
        ("a tenant that cannot be", app.token_with(&json!({ "tenant": "a/b" }))),
        ("a tenant of 64", app.token_with(&json!({ "tenant": "t".repeat(64) }))),
        ("a tenant of another type", app.token_with(&json!({ "tenant": 7 }))),
        ("several tenants", app.token_with(&json!({ "tenant": ["acme"] }))),
    ];
    for (what, token) in refused {
        let answer = app.subscription(&token).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        answer.assert_is(401, "not_authenticated");
    }
    for good in [
        app.token("acme"),
        app.token_with(&json!({ "tenant": "acme", "exp": now - 29 })),
        app.token_with(&json!({ "tenant": "t".repeat(63) })),
        app.token_with(&json!({ "tenant": "acme", "exp": 9_999_999_999.5_f64 })),
    ] {
        app.subscription(&good).await.ok();
    }
    app.stop().await;
}

#[tokio::test]
async fn a_service_token_reads_and_never_acts_for_a_user() {
    let app = TestApp::start(Database::Sqlite).await;
    for scope in [json!("billing:service"), json!("openid billing:service"), json!(["billing:service"])] {
        let token = app.token_with(&json!({ "tenant": "acme", "scope": scope }));
        app.subscription_of("acme", &token).await.ok();
        app.subscription(&token).await.assert_is(403, "not_allowed");
        app.open_portal(&token, &json!({})).await.assert_is(403, "not_allowed");
        app.check_out(&token, &json!({})).await.assert_is(403, "not_allowed");
    }
    for scope in [json!("billing:services"), json!("xbilling:service"), json!(7)] {
        let token = app.token_with(&json!({ "tenant": "acme", "scope": scope }));
        app.subscription_of("acme", &token).await.assert_is(403, "not_allowed");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_the_configuration_asks_of_a_token_is_asked() {
    let asks = [
        ("--jwt-tenant-claim", "tenant_schema"),
        ("--jwt-issuer", "https://id.example.com"),
        ("--jwt-audience", "billing"),
        ("--jwt-scope", "billing:manage"),
    ];
    let app = TestApp::start_with(Database::Sqlite, &asks).await;
    let good = json!({
        "tenant_schema": "acme", "iss": "https://id.example.com", "aud": ["app", "billing"],
        "scope": "openid billing:manage",
    });
    assert_eq!(app.subscription(&app.token_with(&good)).await.ok()["tenant"], "acme");

    for (claim, value, status, code) in [
        ("tenant_schema", json!(null), 401, "not_authenticated"),
        ("iss", json!("https://id.evil.example"), 401, "not_authenticated"),
        ("iss", json!(null), 401, "not_authenticated"),
        ("aud", json!("app"), 401, "not_authenticated"),
        ("aud", json!(null), 401, "not_authenticated"),
        ("scope", json!("openid"), 403, "not_allowed"),
        ("scope", json!(null), 403, "not_allowed"),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        app.subscription(&app.token_with(&claims)).await.assert_is(status, code);
    }
    app.stop().await;
}

#[tokio::test]
async fn without_a_secret_every_token_is_refused() {
    let app = TestApp::start_with(Database::Sqlite, &[("--jwt-secret", "")]).await;
    app.subscription(&app.token("acme")).await.assert_is(401, "not_authenticated");
    app.stop().await;
}

fn signed(algorithm: Algorithm, secret: &str) -> String {
    let claims = json!({ "sub": "user-1", "tenant": "acme", "exp": 9_999_999_999_i64 });
    jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("a token")
}

/// `{"alg":"none","typ":"JWT"}` and the claims above, with an empty signature.
fn unsigned() -> String {
    let claims = signed(Algorithm::HS256, JWT_SECRET);
    let claims = claims.split('.').nth(1).expect("claims");
    format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
}
