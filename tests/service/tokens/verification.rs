//! Whose tokens are taken.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::app::{JWT_SECRET, TestApp};
use crate::support::database::Database;
use crate::support::issuer::{AUDIENCE, ISSUER, Issuer, SigningKey, message, sign};

const PUBLIC: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

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

/// Microsoft Entra ID and Okta have them there.
#[tokio::test]
async fn scopes_in_scp_count_as_those_in_scope() {
    let app = TestApp::start_with(Database::Sqlite, &[("--jwt-scope", "billing")]).await;
    for scp in
        [json!("billing:service"), json!("openid billing:service"), json!(["openid", "billing:service"])]
    {
        let token = app.token_with(&json!({ "scp": scp }));
        app.subscription_of("acme", &token).await.ok();
    }
    for (claims, status) in [
        (json!({ "scp": "openid billing" }), 200),
        (json!({ "scp": ["billing"] }), 200),
        (json!({ "scp": ["billing"], "scope": "openid" }), 200),
        (json!({ "scp": ["openid"], "scope": "billing" }), 200),
        (json!({ "scp": "billings" }), 403),
        (json!({ "scp": ["openid billing"] }), 403),
        (json!({ "scp": { "billing": true } }), 403),
    ] {
        let mut claims = claims;
        claims["tenant"] = json!("acme");
        let answer = app.subscription(&app.token_with(&claims)).await;
        assert_eq!(answer.status.as_u16(), status, "{claims}");
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

/// A service that takes the tokens of an issuer, by the URL of its keys.
async fn start_with_issuer(issuer: &Issuer, algorithm: Algorithm, more: &[(&str, &str)]) -> TestApp {
    let algorithm = format!("{algorithm:?}");
    let mut settings = vec![
        ("--jwt-secret", ""),
        ("--jwt-algorithm", algorithm.as_str()),
        ("--jwt-jwks-url", issuer.url.as_str()),
        ("--jwt-issuer", ISSUER),
        ("--jwt-audience", AUDIENCE),
    ];
    settings.extend_from_slice(more);
    TestApp::start_with(Database::Sqlite, &settings).await
}

fn from_issuer(app: &TestApp, others: &Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "tenant": "acme" });
    for (name, value) in others.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    app.claims(&claims)
}

#[tokio::test]
async fn each_algorithm_is_taken_by_the_url_of_its_keys_and_by_a_file() {
    let dir = tempfile::TempDir::new().expect("a directory");
    for algorithm in PUBLIC {
        let key = SigningKey::new(algorithm, "k");
        let issuer = Issuer::publishing(&[&key]).await;
        let app = start_with_issuer(&issuer, algorithm, &[]).await;
        let token = key.token(&from_issuer(&app, &json!({})));
        assert_eq!(app.subscription(&token).await.ok()["tenant"], "acme", "{algorithm:?}");
        app.check_out(&token, &json!({})).await.ok();
        app.stop().await;

        let file = dir.path().join(format!("{algorithm:?}.pem"));
        fs::write(&file, &key.pem).expect("the file is written");
        let settings = [
            ("--jwt-secret", ""),
            ("--jwt-algorithm", &format!("{algorithm:?}")),
            ("--jwt-public-key-file", file.to_str().expect("a path")),
        ];
        let app = TestApp::start_with(Database::Sqlite, &settings).await;
        assert_eq!(app.subscription(&token).await.ok()["tenant"], "acme", "{algorithm:?}");
        let nameless = key.token_with(&json!({ "alg": key.alg() }), &from_issuer(&app, &json!({})));
        app.subscription(&nameless).await.ok();
        let another = SigningKey::new(algorithm, "k").token(&from_issuer(&app, &json!({})));
        app.subscription(&another).await.assert_is(401, "not_authenticated");
        app.stop().await;
    }
}

#[tokio::test]
async fn a_token_chooses_neither_its_algorithm_nor_its_key() {
    let keys = PUBLIC.map(|algorithm| SigningKey::new(algorithm, "k"));
    for key in &keys {
        let issuer = Issuer::publishing(&[key]).await;
        let app = start_with_issuer(&issuer, key.algorithm, &[]).await;
        let claims = from_issuer(&app, &json!({}));
        app.subscription(&key.token(&claims)).await.ok();
        for (what, token) in forgeries(key, &keys, &claims) {
            let answer = app.subscription(&token).await;
            assert_eq!(answer.status, 401, "{} and {what}: {}", key.alg(), answer.text);
        }
        app.stop().await;
    }
}

/// What has been tried elsewhere against whoever let a token choose.
fn forgeries(key: &SigningKey, keys: &[SigningKey], claims: &Value) -> Vec<(String, String)> {
    let mut forged = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "none ", "", &key.alg()] {
        let message = message(&json!({ "alg": alg, "kid": "k" }), claims);
        forged.push((format!("`{alg}`, not signed"), format!("{message}.")));
        forged.push((
            format!("`{alg}`, with the form of a signature"),
            format!("{message}.{}", "A".repeat(86)),
        ));
        forged.push((format!("`{alg}`, without a third part"), message));
    }
    let good = key.token(claims);
    let (_, signature) = good.rsplit_once('.').expect("three parts");
    for alg in ["none", "HS256", "RS512", "PS256", "ES384", "ES256K", "Ed25519", &key.alg().to_lowercase()] {
        let message = message(&json!({ "alg": alg, "kid": "k" }), claims);
        forged.push((format!("`{alg}`, with a good token's signature"), format!("{message}.{signature}")));
    }
    // The public key is everybody's. As a secret of HS256 it would sign for everybody.
    let der: String = key.pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let numbers = ["n", "x"].into_iter().filter_map(|name| key.jwk[name].as_str());
    let mut known: Vec<Vec<u8>> = numbers.clone().map(|number| number.as_bytes().to_vec()).collect();
    known.extend(numbers.map(|number| URL_SAFE_NO_PAD.decode(number).expect("base64url")));
    known.extend([
        key.pem.clone().into_bytes(),
        key.pem.trim_end().as_bytes().to_vec(),
        STANDARD.decode(&der).expect("base64"),
        der.into_bytes(),
        key.jwk.to_string().into_bytes(),
        b"k".to_vec(),
        Vec::new(),
    ]);
    for (number, secret) in known.into_iter().enumerate() {
        let secret = EncodingKey::from_secret(&secret);
        for alg in ["HS256", &key.alg()] {
            let header = json!({ "alg": alg, "kid": "k" });
            let token = sign(&header, claims, &secret, Algorithm::HS256);
            forged.push((format!("`{alg}`, signed with what is public, {number}"), token));
        }
    }
    // Another key, of this kind or of another, that calls itself the same.
    let another = SigningKey::new(key.algorithm, "k");
    for other in keys.iter().filter(|other| other.algorithm != key.algorithm).chain([&another]) {
        for alg in [key.alg(), other.alg()] {
            let header = json!({ "alg": alg, "kid": "k", "jwk": other.jwk });
            let token = other.token_with(&header, claims);
            forged.push((format!("`{alg}`, signed by another {}", other.alg()), token));
        }
    }
    if key.algorithm == Algorithm::RS256 {
        for (alg, algorithm) in
            [("RS512", Algorithm::RS512), ("PS256", Algorithm::PS256), ("RS256", Algorithm::PS256)]
        {
            let token = sign(&json!({ "alg": alg, "kid": "k" }), claims, &key.key, algorithm);
            forged.push((format!("`{alg}`, by the right key and {algorithm:?}"), token));
        }
    }
    forged
}

#[tokio::test]
async fn a_shared_secret_takes_no_other_algorithm_and_a_public_key_is_none() {
    let app = TestApp::start(Database::Sqlite).await;
    let claims = app.claims(&json!({ "tenant": "acme" }));
    for algorithm in PUBLIC {
        let key = SigningKey::new(algorithm, "k");
        let header = json!({ "alg": key.alg(), "jwk": key.jwk });
        app.subscription(&key.token_with(&header, &claims)).await.assert_is(401, "not_authenticated");
        let header = json!({ "alg": "HS256", "jwk": key.jwk });
        app.subscription(&key.token_with(&header, &claims)).await.assert_is(401, "not_authenticated");
    }
    let secret = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    for (alg, algorithm) in [
        ("HS384", Algorithm::HS384),
        ("HS512", Algorithm::HS512),
        ("HS256", Algorithm::HS512),
        ("hs256", Algorithm::HS256),
        ("none", Algorithm::HS256),
        ("RS256", Algorithm::HS256),
    ] {
        let token = sign(&json!({ "alg": alg }), &claims, &secret, algorithm);
        app.subscription(&token).await.assert_is(401, "not_authenticated");
    }
    let kid = sign(&json!({ "alg": "HS256", "kid": "any" }), &claims, &secret, Algorithm::HS256);
    app.subscription(&kid).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn what_an_issuer_signed_for_another_time_place_or_purpose_is_refused() {
    let key = SigningKey::new(Algorithm::RS256, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start_with_issuer(&issuer, Algorithm::RS256, &[("--jwt-tenant-claim", "org.id")]).await;
    let now = app.clock_seconds();
    let good = from_issuer(&app, &json!({ "tenant": null, "org": { "id": "acme" } }));
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        claims
    };
    app.subscription(&key.token(&good)).await.ok();
    for (claim, value) in [
        ("exp", json!(now - 30)),
        ("exp", json!(0)),
        ("exp", json!(null)),
        ("exp", json!("9999999999")),
        // In milliseconds it would be good for tens of thousands of years.
        ("exp", json!((now + 60) * 1000)),
        ("exp", json!(1e300)),
        ("nbf", json!(now + 31)),
        ("nbf", json!("now")),
        ("iss", json!("https://id.example.com")),
        ("iss", json!("https://id.evil.example/")),
        ("iss", json!([ISSUER])),
        ("iss", json!(null)),
        ("aud", json!("https://app.example.com")),
        ("aud", json!(["https://app.example.com"])),
        ("aud", json!({ "0": AUDIENCE })),
        ("aud", json!(null)),
        ("sub", json!(null)),
        ("sub", json!(7)),
        ("sub", json!("")),
        ("org", json!(null)),
        ("org", json!("acme")),
        ("org", json!([{ "id": "acme" }])),
        ("org", json!({ "id": 7 })),
        ("org", json!({ "id": ["acme"] })),
        ("org", json!({ "id": { "id": "acme" } })),
        ("org", json!({ "id": "" })),
        ("org", json!({ "id": "acme/../birch" })),
        ("org", json!({ "id": "t".repeat(64) })),
    ] {
        let answer = app.subscription(&key.token(&with(claim, value.clone()))).await;
        assert_eq!(answer.status, 401, "{claim}: {value}: {}", answer.text);
    }
    for (member, value) in [
        ("typ", json!("logout+jwt")),
        ("typ", json!("dpop+jwt")),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
    ] {
        let mut header = json!({ "alg": "RS256", "kid": "k" });
        header[member] = value.clone();
        let answer = app.subscription(&key.token_with(&header, &good)).await;
        assert_eq!(answer.status, 401, "{member}: {value}: {}", answer.text);
    }
    for typ in ["JWT", "at+jwt", "application/at+jwt"] {
        let header = json!({ "alg": "RS256", "kid": "k", "typ": typ });
        app.subscription(&key.token_with(&header, &good)).await.ok();
    }
    app.stop().await;
}

#[tokio::test]
async fn of_claims_that_stand_twice_neither_is_believed() {
    let app = TestApp::start(Database::Sqlite).await;
    let exp = app.clock_seconds() + 60;
    let secret = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    for claims in [
        format!(r#"{{"sub":"u","tenant":"acme","tenant":"birch","exp":{exp}}}"#),
        format!(r#"{{"sub":"u","tenant":"acme","\u0074enant":"birch","exp":{exp}}}"#),
        format!(r#"{{"sub":"u","tenant":"acme","exp":1,"exp":{exp}}}"#),
        format!(r#"{{"sub":"u","tenant":"acme","scope":"","scope":"billing:service","exp":{exp}}}"#),
    ] {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256);
        let token = format!("{message}.{}", signature.expect("a signature"));
        let answer = app.subscription(&token).await;
        assert_eq!(answer.status, 401, "{claims}: {}", answer.text);
    }
    app.stop().await;
}

#[tokio::test]
async fn tokens_of_one_issuer_lead_each_to_their_own_tenant() {
    let key = SigningKey::new(Algorithm::ES256, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start_with_issuer(&issuer, Algorithm::ES256, &[]).await;
    let tokens = ["acme", "birch"].map(|tenant| key.token(&from_issuer(&app, &json!({ "tenant": tenant }))));
    app.check_out(&tokens[0], &json!({})).await.ok();
    let [acme, birch] = [app.subscription(&tokens[0]).await, app.subscription(&tokens[1]).await];
    assert_eq!((&acme.ok()["tenant"], &birch.ok()["tenant"]), (&json!("acme"), &json!("birch")));
    assert_ne!(acme.header("etag"), birch.header("etag"));
    let etag = acme.header("etag").expect("an ETag");
    assert_eq!(app.subscription_unless(&tokens[1], etag).await.ok()["tenant"], "birch");
    app.open_portal(&tokens[1], &json!({})).await.assert_is(409, "no_customer");
    app.open_portal(&tokens[0], &json!({})).await.ok();
    app.subscription_of("acme", &tokens[1]).await.assert_is(403, "not_allowed");
    // The signature of one does not cover the claims of the other.
    let parts: Vec<Vec<&str>> = tokens.iter().map(|token| token.split('.').collect()).collect();
    let mixed = format!("{}.{}.{}", parts[0][0], parts[1][1], parts[0][2]);
    app.subscription(&mixed).await.assert_is(401, "not_authenticated");
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
