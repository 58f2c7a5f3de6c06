//! An issuer's JWKS: fetched, cached, rotated, withdrawn, unavailable.

use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::database::Database;
use crate::support::issuer::{AUDIENCE, ISSUER, Issuer, JwksResponse, SigningKey};

const MIN_FETCH_INTERVAL_SECONDS: i64 = 30;
const MAX_KEY_AGE_SECONDS: i64 = 600;

/// Starts a service that accepts the issuer's tokens.
async fn start(issuer: &Issuer, algorithm: Algorithm) -> TestApp {
    let algorithm = format!("{algorithm:?}");
    TestApp::start_with(Database::Sqlite, &settings(issuer, &algorithm)).await
}

fn settings<'a>(issuer: &'a Issuer, algorithm: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("--jwt-secret", ""),
        ("--jwt-algorithm", algorithm),
        ("--jwt-jwks-url", &issuer.url),
        ("--jwt-issuer", ISSUER),
        ("--jwt-audience", AUDIENCE),
    ]
}

fn claims(app: &TestApp, tenant: &str) -> Value {
    app.claims(&json!({ "tenant": tenant, "iss": ISSUER, "aud": AUDIENCE }))
}

async fn is_accepted(app: &TestApp, key: &SigningKey) -> bool {
    let response = app.subscription(&key.token(&claims(app, "acme"))).await;
    match response.status.as_u16() {
        200 => true,
        401 => false,
        other => panic!("{other}: {}", response.text),
    }
}

/// Waits for the `times`th request to the issuer and asserts that there are no more.
async fn wait_for_requests(issuer: &Issuer, times: usize) {
    eventually("the issuer is called", || async { (issuer.fetches() >= times).then_some(()) }).await;
    assert_eq!(issuer.fetches(), times, "the issuer is not called more often");
}

/// Waits until `times` fetches have this outcome.
async fn wait_for_fetches(app: &TestApp, outcome: &str, times: usize) {
    let expected = format!("billhook_token_key_fetches_total{{outcome=\"{outcome}\"}} {times}");
    eventually(&expected, || async {
        app.metrics().await.lines().any(|line| line == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn new_key_works_at_once_and_removed_key_ends_in_10_minutes() {
    let (old, new) = (SigningKey::new(Algorithm::ES256, "old"), SigningKey::new(Algorithm::ES256, "new"));
    let issuer = Issuer::publishing(&[&old]).await;
    let app = start(&issuer, Algorithm::ES256).await;
    assert!(is_accepted(&app, &old).await);
    assert!(!is_accepted(&app, &new).await, "the key is not published yet, and the next fetch is too soon");
    wait_for_requests(&issuer, 1).await;

    issuer.publish(&[&old, &new]);
    app.clock.advance_seconds(MIN_FETCH_INTERVAL_SECONDS);
    assert!(is_accepted(&app, &new).await, "its first token causes a fetch");
    assert!(is_accepted(&app, &old).await);
    wait_for_requests(&issuer, 2).await;

    issuer.publish(&[&new]);
    app.clock.advance_seconds(MAX_KEY_AGE_SECONDS);
    wait_for_fetches(&app, "success", 3).await;
    assert!(!is_accepted(&app, &old).await, "the key was withdrawn");
    assert!(is_accepted(&app, &new).await);
    app.stop().await;
}

#[tokio::test]
async fn empty_key_set_removes_all_keys() {
    let key = SigningKey::new(Algorithm::EdDSA, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    assert!(is_accepted(&app, &key).await);
    issuer.publish(&[]);
    app.clock.advance_seconds(MAX_KEY_AGE_SECONDS);
    wait_for_fetches(&app, "success", 2).await;
    assert!(!is_accepted(&app, &key).await);
    app.stop().await;
}

#[tokio::test]
async fn many_unknown_key_ids_cause_one_fetch_per_interval() {
    let key = SigningKey::new(Algorithm::EdDSA, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    assert!(is_accepted(&app, &key).await);
    let send_tokens_with_unknown_kid = || async {
        let tokens: Vec<String> = (0..200)
            .map(|number| {
                let header = json!({ "alg": "EdDSA", "kid": format!("invented-{number}") });
                key.token_with(&header, &claims(&app, "acme"))
            })
            .collect();
        for response in join_all(tokens.iter().map(|token| app.subscription(token))).await {
            response.assert_problem(401, "not_authenticated");
        }
    };
    send_tokens_with_unknown_kid().await;
    wait_for_requests(&issuer, 1).await;
    for fetches in 2..=3 {
        app.clock.advance_seconds(MIN_FETCH_INTERVAL_SECONDS);
        send_tokens_with_unknown_kid().await;
        send_tokens_with_unknown_kid().await;
        wait_for_requests(&issuer, fetches).await;
    }
    assert!(is_accepted(&app, &key).await);
    app.stop().await;
}

#[tokio::test]
async fn token_invalid_for_other_reason_causes_no_fetch() {
    let key = SigningKey::new(Algorithm::EdDSA, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    assert!(is_accepted(&app, &key).await);
    app.clock.advance_seconds(MIN_FETCH_INTERVAL_SECONDS);
    let good = key.token(&claims(&app, "acme"));
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{message}.{other}{}", &signature[1..]);
    let expired = key.token(&app.claims(&json!({ "tenant": "acme", "exp": 1 })));
    for token in ["garbage", "a.b.c", &forged, &expired, &app.token("acme")] {
        app.subscription(token).await.assert_problem(401, "not_authenticated");
    }
    wait_for_requests(&issuer, 1).await;
    app.stop().await;
}

#[tokio::test]
async fn issuer_outage_keeps_cached_keys_and_new_key_gets_503() {
    let (old, new) = (SigningKey::new(Algorithm::ES256, "old"), SigningKey::new(Algorithm::ES256, "new"));
    let issuer = Issuer::publishing(&[&old]).await;
    let app = start(&issuer, Algorithm::ES256).await;
    assert!(is_accepted(&app, &old).await);
    issuer.respond_with(JwksResponse::Status(503));
    for failures in 1..=3 {
        app.clock.advance_seconds(MAX_KEY_AGE_SECONDS);
        wait_for_fetches(&app, "status", failures).await;
        assert!(is_accepted(&app, &old).await, "after {failures} failures");
    }
    let unknown = app.subscription(&new.token(&claims(&app, "acme"))).await;
    unknown.assert_problem(503, "unavailable");
    let seconds: i64 = unknown.header("retry-after").expect("a `Retry-After`").parse().expect("seconds");
    assert!((1..=MIN_FETCH_INTERVAL_SECONDS).contains(&seconds), "{seconds}");
    app.subscription("garbage").await.assert_problem(401, "not_authenticated");

    issuer.publish(&[&new]);
    app.clock.advance_seconds(seconds);
    assert!(is_accepted(&app, &new).await, "`Retry-After` was long enough");
    assert!(!is_accepted(&app, &old).await);
    app.stop().await;
}

#[tokio::test]
async fn start_during_issuer_outage_serves_webhooks_and_recovers() {
    let key = SigningKey::new(Algorithm::RS256, "k");
    let issuer = Issuer::responding_with(JwksResponse::ConnectionClosed).await;
    let app = start(&issuer, Algorithm::RS256).await;
    wait_for_fetches(&app, "no_connection", 1).await;
    let token = key.token(&claims(&app, "acme"));
    let unavailable = app.subscription(&token).await;
    unavailable.assert_problem(503, "unavailable");
    assert!(unavailable.header("retry-after").is_some());
    app.open_portal(&token, &json!({})).await.assert_problem(503, "unavailable");
    app.subscription("garbage").await.assert_problem(401, "not_authenticated");
    let ready = app.get("/readyz").await.ok();
    assert_eq!(
        (&ready["not_reached"], &ready["not_configured"]),
        (&json!(["BILLHOOK_JWT_JWKS_URL"]), &json!([]))
    );
    let event = crate::support::app::stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();

    issuer.publish(&[&key]);
    app.clock.advance_seconds(MIN_FETCH_INTERVAL_SECONDS);
    app.subscription(&token).await.ok();
    assert_eq!(app.get("/readyz").await.ok()["not_reached"], json!([]));
    let expected = format!("billhook_token_keys_fetched_timestamp_seconds {}", app.clock_seconds());
    assert!(app.metrics().await.lines().any(|line| line == expected), "{expected}");
    app.stop().await;
}

#[tokio::test]
async fn bad_jwks_response_keeps_cached_keys() {
    let (key, evil) = (SigningKey::new(Algorithm::EdDSA, "k"), SigningKey::new(Algorithm::EdDSA, "evil"));
    let other_issuer = Issuer::publishing(&[&evil]).await;
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    assert!(is_accepted(&app, &key).await);
    let huge = json!({ "keys": [evil.jwk], "padding": "p".repeat(256 * 1024) }).to_string().into_bytes();
    for (reply, outcome) in [
        (JwksResponse::Redirect(other_issuer.url.clone()), "status"),
        (JwksResponse::Body(huge), "too_large"),
        (JwksResponse::Endless, "too_large"),
        (JwksResponse::Body(b"<html>Sign in</html>".to_vec()), "not_a_key_set"),
        (JwksResponse::Body(b"{\"keys\":[".repeat(2000)), "not_a_key_set"),
        (JwksResponse::Keys(vec![evil.jwk.clone(); 65]), "too_many_keys"),
        (JwksResponse::Truncated, "broken_reply"),
        (JwksResponse::NoResponse, "timeout"),
    ] {
        let fetch_count = |text: &str| {
            let series = format!("billhook_token_key_fetches_total{{outcome=\"{outcome}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<usize>().ok()).expect("a series")
        };
        let before = fetch_count(&app.metrics().await);
        issuer.respond_with(reply);
        app.clock.advance_seconds(MAX_KEY_AGE_SECONDS);
        assert!(is_accepted(&app, &key).await, "{outcome}: requests do not wait for a fetch");
        app.subscription(&evil.token(&claims(&app, "acme"))).await.assert_problem(503, "unavailable");
        wait_for_fetches(&app, outcome, before + 1).await;
        assert!(is_accepted(&app, &key).await, "{outcome}");
    }
    assert_eq!(other_issuer.fetches(), 0, "a redirect is not followed");
    app.stop().await;
}

#[tokio::test]
async fn unsuitable_published_key_is_ignored() {
    let good = SigningKey::new(Algorithm::ES256, "good");
    let with = |key: &SigningKey, member: &str, value: Value| {
        let mut jwk = key.jwk.clone();
        jwk[member] = value;
        jwk
    };
    let wrong: Vec<(SigningKey, &str, Value)> = [
        ("alg", json!("ES384")),
        ("alg", json!("HS256")),
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("kty", json!("oct")),
        ("crv", json!("P-384")),
        // A key whose private part is published: anyone can sign with it.
        ("d", json!("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (member, value))| {
        (SigningKey::new(Algorithm::ES256, &format!("wrong-{number}")), member, value)
    })
    .collect();
    let mut keys: Vec<Value> =
        wrong.iter().map(|(key, member, value)| with(key, member, value.clone())).collect();
    keys.push(good.jwk.clone());
    let issuer = Issuer::responding_with(JwksResponse::Keys(keys)).await;
    let app = start(&issuer, Algorithm::ES256).await;
    assert!(is_accepted(&app, &good).await);
    for (key, member, value) in &wrong {
        assert!(!is_accepted(&app, key).await, "{member}: {value}");
    }
    app.stop().await;
}

#[tokio::test]
async fn token_without_kid_is_accepted_only_with_a_single_key() {
    let (key, another) = (SigningKey::new(Algorithm::EdDSA, "k"), SigningKey::new(Algorithm::EdDSA, "a"));
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    let without_kid = |key: &SigningKey| key.token_with(&json!({ "alg": "EdDSA" }), &claims(&app, "acme"));
    app.subscription(&without_kid(&key)).await.ok();
    app.subscription(&without_kid(&another)).await.assert_problem(401, "not_authenticated");
    issuer.publish(&[&key, &another]);
    app.clock.advance_seconds(MAX_KEY_AGE_SECONDS);
    wait_for_fetches(&app, "success", 2).await;
    app.subscription(&without_kid(&key)).await.assert_problem(401, "not_authenticated");
    assert!(is_accepted(&app, &key).await && is_accepted(&app, &another).await);
    app.stop().await;
}

#[tokio::test]
async fn kid_is_only_looked_up_and_header_keys_are_ignored() {
    let key = SigningKey::new(Algorithm::ES256, "k");
    let evil = SigningKey::new(Algorithm::ES256, "k");
    let other_issuer = Issuer::publishing(&[&evil]).await;
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::ES256).await;
    assert!(is_accepted(&app, &key).await);
    for kid in [
        json!("../../../../dev/null"),
        json!("/etc/passwd"),
        json!("k' OR '1'='1"),
        json!("k; rm -rf /"),
        json!("$(id)"),
        json!("k\u{0}"),
        json!("k\n"),
        json!(other_issuer.url),
        json!(""),
        json!("k".repeat(4000)),
        json!(["k"]),
        json!({ "k": "k" }),
        json!(0),
        json!(null),
    ] {
        let token = key.token_with(&json!({ "alg": "ES256", "kid": kid }), &claims(&app, "acme"));
        app.subscription(&token).await.assert_problem(401, "not_authenticated");
    }
    // A forged token can contain its own key or a URL of one.
    for (member, value) in [
        ("jwk", evil.jwk.clone()),
        ("jku", json!(other_issuer.url)),
        ("x5u", json!(other_issuer.url)),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = json!({ "alg": "ES256", "kid": "k", member: value });
        let forged = evil.token_with(&header, &claims(&app, "acme"));
        app.subscription(&forged).await.assert_problem(401, "not_authenticated");
        app.subscription(&key.token_with(&header, &claims(&app, "acme"))).await.ok();
    }
    assert_eq!(other_issuer.fetches(), 0);
    app.stop().await;
}

#[tokio::test]
async fn missing_audience_logs_a_warning() {
    let key = SigningKey::new(Algorithm::EdDSA, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let [settings @ .., _audience] = settings(&issuer, "EdDSA");
    let environment = [("RUST_LOG", "info,billhook=debug")];
    let app = TestApp::start_process_with(Database::Sqlite, &settings, &environment).await;
    assert!(app.stderr().contains("BILLHOOK_JWT_AUDIENCE is not set"), "{}", app.stderr());
    assert!(is_accepted(&app, &key).await);
    let unknown = SigningKey::new(Algorithm::EdDSA, "another").token(&claims(&app, "acme"));
    app.subscription(&unknown).await.assert_problem(401, "not_authenticated");
    let is_logged = || async { app.stderr().contains("signed with an unknown key").then_some(()) };
    eventually("the reason of the rejection is logged", is_logged).await;
    app.stop().await;
}

#[tokio::test]
async fn issuer_failure_log_contains_no_url_or_token() {
    let key = SigningKey::new(Algorithm::EdDSA, "canary-of-a-kid");
    let issuer = Issuer::responding_with(JwksResponse::Status(500)).await;
    let environment = [("RUST_LOG", "debug,billhook=trace")];
    let app = TestApp::start_process_with(Database::Sqlite, &settings(&issuer, "EdDSA"), &environment).await;
    let token = key.token(&claims(&app, "acme"));
    let refused = app.subscription(&token).await;
    refused.assert_problem(503, "unavailable");
    let stderr = eventually("the warning is logged", || async {
        let stderr = app.stderr();
        stderr.contains("could not fetch the issuer's keys").then_some(stderr)
    })
    .await;
    let warned =
        stderr.lines().find(|line| line.contains("could not fetch the issuer's keys")).expect("the warning");
    assert!(warned.contains("BILLHOOK_JWT_JWKS_URL") && warned.contains("500"), "{warned}");
    let ours: Vec<&str> = stderr.lines().filter(|line| line.contains("billhook")).collect();
    assert!(!ours.is_empty());
    for line in ours {
        for canary in ["canary-of-the-url", "canary-of-a-kid", &token] {
            assert!(!line.contains(canary), "{line}");
        }
    }
    for canary in ["canary-of-the-url", "canary-of-a-kid", "127.0.0.1"] {
        assert!(!refused.text.contains(canary), "{}", refused.text);
    }
    app.stop().await;
}
