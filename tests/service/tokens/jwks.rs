//! An issuer's keys: fetched, kept, rotated, withdrawn, and what becomes of tokens while none are to be had.

use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually};
use crate::support::database::Database;
use crate::support::issuer::{AUDIENCE, ISSUER, Issuer, Reply, SigningKey};

/// How long a fetch keeps another one off, and how old keys may become, in seconds.
const FLOOR: i64 = 30;
const MAX_AGE: i64 = 600;

/// A service that takes the tokens of an issuer.
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

async fn is_taken(app: &TestApp, key: &SigningKey) -> bool {
    let answer = app.subscription(&key.token(&claims(app, "acme"))).await;
    match answer.status.as_u16() {
        200 => true,
        401 => false,
        other => panic!("{other}: {}", answer.text),
    }
}

/// Waits until the issuer has been asked so often.
async fn until_asked(issuer: &Issuer, times: usize) {
    eventually("the issuer is asked", || async { (issuer.asked() >= times).then_some(()) }).await;
    assert_eq!(issuer.asked(), times, "and not more often");
}

/// Waits until so many fetches have come to this.
async fn until_fetched(app: &TestApp, outcome: &str, times: usize) {
    let told = format!("billhook_token_key_fetches_total{{outcome=\"{outcome}\"}} {times}");
    eventually(&told, || async { app.metrics().await.lines().any(|line| line == told).then_some(()) }).await;
}

#[tokio::test]
async fn a_new_key_is_taken_at_once_and_one_that_was_withdrawn_within_ten_minutes_is_not() {
    let (old, new) = (SigningKey::new(Algorithm::ES256, "old"), SigningKey::new(Algorithm::ES256, "new"));
    let issuer = Issuer::publishing(&[&old]).await;
    let app = start(&issuer, Algorithm::ES256).await;
    assert!(is_taken(&app, &old).await);
    assert!(!is_taken(&app, &new).await, "it is not published yet, and was asked for a moment ago");
    until_asked(&issuer, 1).await;

    issuer.publish(&[&old, &new]);
    app.clock.advance_seconds(FLOOR);
    assert!(is_taken(&app, &new).await, "its first token has it fetched");
    assert!(is_taken(&app, &old).await);
    until_asked(&issuer, 2).await;

    issuer.publish(&[&new]);
    app.clock.advance_seconds(MAX_AGE);
    until_fetched(&app, "success", 3).await;
    assert!(!is_taken(&app, &old).await, "it was withdrawn");
    assert!(is_taken(&app, &new).await);
    app.stop().await;
}

#[tokio::test]
async fn an_issuer_that_withdraws_all_of_its_keys_is_taken_at_its_word() {
    let key = SigningKey::new(Algorithm::EdDSA, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    assert!(is_taken(&app, &key).await);
    issuer.publish(&[]);
    app.clock.advance_seconds(MAX_AGE);
    until_fetched(&app, "success", 2).await;
    assert!(!is_taken(&app, &key).await);
    app.stop().await;
}

#[tokio::test]
async fn a_storm_of_unknown_key_ids_is_one_fetch_and_then_none() {
    let key = SigningKey::new(Algorithm::EdDSA, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    assert!(is_taken(&app, &key).await);
    let storm = || async {
        let tokens: Vec<String> = (0..200)
            .map(|number| {
                let header = json!({ "alg": "EdDSA", "kid": format!("invented-{number}") });
                key.token_with(&header, &claims(&app, "acme"))
            })
            .collect();
        for answer in join_all(tokens.iter().map(|token| app.subscription(token))).await {
            answer.assert_is(401, "not_authenticated");
        }
    };
    storm().await;
    until_asked(&issuer, 1).await;
    for fetches in 2..=3 {
        app.clock.advance_seconds(FLOOR);
        storm().await;
        storm().await;
        until_asked(&issuer, fetches).await;
    }
    assert!(is_taken(&app, &key).await);
    app.stop().await;
}

#[tokio::test]
async fn a_token_that_is_refused_for_another_reason_has_nobody_asked() {
    let key = SigningKey::new(Algorithm::EdDSA, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    assert!(is_taken(&app, &key).await);
    app.clock.advance_seconds(FLOOR);
    let good = key.token(&claims(&app, "acme"));
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{message}.{other}{}", &signature[1..]);
    let expired = key.token(&app.claims(&json!({ "tenant": "acme", "exp": 1 })));
    for token in ["garbage", "a.b.c", &forged, &expired, &app.token("acme")] {
        app.subscription(token).await.assert_is(401, "not_authenticated");
    }
    until_asked(&issuer, 1).await;
    app.stop().await;
}

#[tokio::test]
async fn while_the_issuer_is_away_its_last_keys_hold_and_a_new_one_is_told_to_wait() {
    let (old, new) = (SigningKey::new(Algorithm::ES256, "old"), SigningKey::new(Algorithm::ES256, "new"));
    let issuer = Issuer::publishing(&[&old]).await;
    let app = start(&issuer, Algorithm::ES256).await;
    assert!(is_taken(&app, &old).await);
    issuer.reply(Reply::Status(503));
    for failures in 1..=3 {
        app.clock.advance_seconds(MAX_AGE);
        until_fetched(&app, "status", failures).await;
        assert!(is_taken(&app, &old).await, "after {failures} failures");
    }
    let unknown = app.subscription(&new.token(&claims(&app, "acme"))).await;
    unknown.assert_is(503, "unavailable");
    let seconds: i64 = unknown.header("retry-after").expect("when to come back").parse().expect("seconds");
    assert!((1..=FLOOR).contains(&seconds), "{seconds}");
    app.subscription("garbage").await.assert_is(401, "not_authenticated");

    issuer.publish(&[&new]);
    app.clock.advance_seconds(seconds);
    assert!(is_taken(&app, &new).await, "the wait was long enough");
    assert!(!is_taken(&app, &old).await);
    app.stop().await;
}

#[tokio::test]
async fn a_start_while_the_issuer_is_away_takes_webhooks_at_once_and_tokens_as_soon_as_it_is_back() {
    let key = SigningKey::new(Algorithm::RS256, "k");
    let issuer = Issuer::replying(Reply::HangsUp).await;
    let app = start(&issuer, Algorithm::RS256).await;
    until_fetched(&app, "no_connection", 1).await;
    let token = key.token(&claims(&app, "acme"));
    let not_now = app.subscription(&token).await;
    not_now.assert_is(503, "unavailable");
    assert!(not_now.header("retry-after").is_some());
    app.open_portal(&token, &json!({})).await.assert_is(503, "unavailable");
    app.subscription("garbage").await.assert_is(401, "not_authenticated");
    let ready = app.get("/readyz").await.ok();
    assert_eq!(
        (&ready["not_reached"], &ready["not_configured"]),
        (&json!(["BILLHOOK_JWT_JWKS_URL"]), &json!([]))
    );
    let event = crate::support::app::stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();

    issuer.publish(&[&key]);
    app.clock.advance_seconds(FLOOR);
    app.subscription(&token).await.ok();
    assert_eq!(app.get("/readyz").await.ok()["not_reached"], json!([]));
    let told = format!("billhook_token_keys_fetched_timestamp_seconds {}", app.clock_seconds());
    assert!(app.metrics().await.lines().any(|line| line == told), "{told}");
    app.stop().await;
}

#[tokio::test]
async fn an_issuer_that_is_slow_or_huge_or_garbled_or_sends_elsewhere_changes_nothing() {
    let (key, evil) = (SigningKey::new(Algorithm::EdDSA, "k"), SigningKey::new(Algorithm::EdDSA, "evil"));
    let elsewhere = Issuer::publishing(&[&evil]).await;
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    assert!(is_taken(&app, &key).await);
    let huge = json!({ "keys": [evil.jwk], "padding": "p".repeat(256 * 1024) }).to_string().into_bytes();
    for (reply, outcome) in [
        (Reply::Redirect(elsewhere.url.clone()), "status"),
        (Reply::Body(huge), "too_large"),
        (Reply::Endless, "too_large"),
        (Reply::Body(b"<html>Sign in</html>".to_vec()), "not_a_key_set"),
        (Reply::Body(b"{\"keys\":[".repeat(2000)), "not_a_key_set"),
        (Reply::Keys(vec![evil.jwk.clone(); 65]), "too_many_keys"),
        (Reply::BreaksOff, "broken_reply"),
        (Reply::Silence, "timeout"),
    ] {
        let told = |text: &str| {
            let series = format!("billhook_token_key_fetches_total{{outcome=\"{outcome}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<usize>().ok()).expect("a series")
        };
        let before = told(&app.metrics().await);
        issuer.reply(reply);
        app.clock.advance_seconds(MAX_AGE);
        assert!(is_taken(&app, &key).await, "{outcome}: nobody waits for a fetch");
        app.subscription(&evil.token(&claims(&app, "acme"))).await.assert_is(503, "unavailable");
        until_fetched(&app, outcome, before + 1).await;
        assert!(is_taken(&app, &key).await, "{outcome}");
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect is not followed");
    app.stop().await;
}

#[tokio::test]
async fn a_published_key_that_does_not_fit_signs_nothing() {
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
        // Its private part is public, so anybody can sign with it.
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
    let issuer = Issuer::replying(Reply::Keys(keys)).await;
    let app = start(&issuer, Algorithm::ES256).await;
    assert!(is_taken(&app, &good).await);
    for (key, member, value) in &wrong {
        assert!(!is_taken(&app, key).await, "{member}: {value}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_token_that_names_no_key_is_taken_only_where_there_is_one() {
    let (key, another) = (SigningKey::new(Algorithm::EdDSA, "k"), SigningKey::new(Algorithm::EdDSA, "a"));
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::EdDSA).await;
    let nameless = |key: &SigningKey| key.token_with(&json!({ "alg": "EdDSA" }), &claims(&app, "acme"));
    app.subscription(&nameless(&key)).await.ok();
    app.subscription(&nameless(&another)).await.assert_is(401, "not_authenticated");
    issuer.publish(&[&key, &another]);
    app.clock.advance_seconds(MAX_AGE);
    until_fetched(&app, "success", 2).await;
    app.subscription(&nameless(&key)).await.assert_is(401, "not_authenticated");
    assert!(is_taken(&app, &key).await && is_taken(&app, &another).await);
    app.stop().await;
}

#[tokio::test]
async fn whatever_a_key_is_said_to_be_called_is_looked_up_and_nothing_else() {
    let key = SigningKey::new(Algorithm::ES256, "k");
    let evil = SigningKey::new(Algorithm::ES256, "k");
    let elsewhere = Issuer::publishing(&[&evil]).await;
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start(&issuer, Algorithm::ES256).await;
    assert!(is_taken(&app, &key).await);
    for kid in [
        json!("../../../../dev/null"),
        json!("/etc/passwd"),
        json!("k' OR '1'='1"),
        json!("k; rm -rf /"),
        json!("$(id)"),
        json!("k\u{0}"),
        json!("k\n"),
        json!(elsewhere.url),
        json!(""),
        json!("k".repeat(4000)),
        json!(["k"]),
        json!({ "k": "k" }),
        json!(0),
        json!(null),
    ] {
        let token = key.token_with(&json!({ "alg": "ES256", "kid": kid }), &claims(&app, "acme"));
        app.subscription(&token).await.assert_is(401, "not_authenticated");
    }
    // Whoever forges a token brings their own key along, and says where to find it.
    for (member, value) in [
        ("jwk", evil.jwk.clone()),
        ("jku", json!(elsewhere.url)),
        ("x5u", json!(elsewhere.url)),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = json!({ "alg": "ES256", "kid": "k", member: value });
        let forged = evil.token_with(&header, &claims(&app, "acme"));
        app.subscription(&forged).await.assert_is(401, "not_authenticated");
        app.subscription(&key.token_with(&header, &claims(&app, "acme"))).await.ok();
    }
    assert_eq!(elsewhere.asked(), 0);
    app.stop().await;
}

#[tokio::test]
async fn without_an_audience_the_operator_is_warned() {
    let key = SigningKey::new(Algorithm::EdDSA, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let [settings @ .., _audience] = settings(&issuer, "EdDSA");
    let environment = [("RUST_LOG", "info,billhook=debug")];
    let app = TestApp::start_process_with(Database::Sqlite, &settings, &environment).await;
    assert!(app.stderr().contains("BILLHOOK_JWT_AUDIENCE is not set"), "{}", app.stderr());
    assert!(is_taken(&app, &key).await);
    let unknown = SigningKey::new(Algorithm::EdDSA, "another").token(&claims(&app, "acme"));
    app.subscription(&unknown).await.assert_is(401, "not_authenticated");
    let told = || async { app.stderr().contains("signed with a key that is not known").then_some(()) };
    eventually("why it was refused is told", told).await;
    app.stop().await;
}

#[tokio::test]
async fn what_the_operator_is_told_of_an_issuer_names_neither_its_url_nor_a_token() {
    let key = SigningKey::new(Algorithm::EdDSA, "canary-of-a-kid");
    let issuer = Issuer::replying(Reply::Status(500)).await;
    let environment = [("RUST_LOG", "debug,billhook=trace")];
    let app = TestApp::start_process_with(Database::Sqlite, &settings(&issuer, "EdDSA"), &environment).await;
    let token = key.token(&claims(&app, "acme"));
    let refused = app.subscription(&token).await;
    refused.assert_is(503, "unavailable");
    let told = eventually("it is told", || async {
        let told = app.stderr();
        told.contains("could not be had").then_some(told)
    })
    .await;
    let warned = told.lines().find(|line| line.contains("could not be had")).expect("it is told");
    assert!(warned.contains("BILLHOOK_JWT_JWKS_URL") && warned.contains("500"), "{warned}");
    let ours: Vec<&str> = told.lines().filter(|line| line.contains("billhook")).collect();
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
