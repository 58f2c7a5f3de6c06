//! Which tokens are accepted.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::app::{JWT_SECRET, TestApp};
use crate::support::database::Database;
use crate::support::issuer::{AUDIENCE, ISSUER, Issuer, SigningKey, sign, signing_input};

const PUBLIC: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

#[tokio::test]
async fn missing_token_returns_401() {
    let app = TestApp::start(Database::Sqlite).await;
    let missing = app.get("/api/billing/subscription/").await;
    missing.assert_problem(401, "not_authenticated");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    app.get("/api/billing/tenants/acme/subscription/").await.assert_problem(401, "not_authenticated");
    for path in ["/api/billing/create-portal-session/", "/api/billing/create-checkout-session/"] {
        app.call(app.request(reqwest::Method::POST, path)).await.assert_problem(401, "not_authenticated");
    }
    app.stop().await;
}

#[tokio::test]
async fn invalid_or_expired_token_is_rejected() {
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
        ("expiry as text", app.token_with(&json!({ "tenant": "acme", "exp": "tomorrow" }))),
        ("not valid yet", app.token_with(&json!({ "tenant": "acme", "nbf": now + 31 }))),
        ("no user", app.token_with(&json!({ "tenant": "acme", "sub": null }))),
        ("no tenant", app.token_with(&json!({}))),
        ("an invalid tenant", app.token_with(&json!({ "tenant": "a/b" }))),
        ("a tenant of 64 characters", app.token_with(&json!({ "tenant": "t".repeat(64) }))),
        ("a tenant of another type", app.token_with(&json!({ "tenant": 7 }))),
        ("several tenants", app.token_with(&json!({ "tenant": ["acme"] }))),
    ];
    for (what, token) in refused {
        let response = app.subscription(&token).await;
        assert_eq!(response.status, 401, "{what}: {}", response.text);
        response.assert_problem(401, "not_authenticated");
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
async fn service_token_reads_but_never_acts_as_user() {
    let app = TestApp::start(Database::Sqlite).await;
    for scope in [json!("billing:service"), json!("openid billing:service"), json!(["billing:service"])] {
        let token = app.token_with(&json!({ "tenant": "acme", "scope": scope }));
        app.tenant_subscription("acme", &token).await.ok();
        app.subscription(&token).await.assert_problem(403, "not_allowed");
        app.open_portal(&token, &json!({})).await.assert_problem(403, "not_allowed");
        app.check_out(&token, &json!({})).await.assert_problem(403, "not_allowed");
    }
    for scope in [json!("billing:services"), json!("xbilling:service"), json!(7)] {
        let token = app.token_with(&json!({ "tenant": "acme", "scope": scope }));
        app.tenant_subscription("acme", &token).await.assert_problem(403, "not_allowed");
    }
    app.stop().await;
}

/// Microsoft Entra ID and Okta put scopes into `scp`.
#[tokio::test]
async fn scp_claim_counts_as_scope() {
    let app = TestApp::start_with(Database::Sqlite, &[("--jwt-scope", "billing")]).await;
    for scp in
        [json!("billing:service"), json!("openid billing:service"), json!(["openid", "billing:service"])]
    {
        let token = app.token_with(&json!({ "scp": scp }));
        app.tenant_subscription("acme", &token).await.ok();
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
        let response = app.subscription(&app.token_with(&claims)).await;
        assert_eq!(response.status.as_u16(), status, "{claims}");
    }
    app.stop().await;
}

#[tokio::test]
async fn configured_claims_are_required() {
    let settings = [
        ("--jwt-tenant-claim", "tenant_schema"),
        ("--jwt-issuer", "https://id.example.com"),
        ("--jwt-audience", "billing"),
        ("--jwt-scope", "billing:manage"),
    ];
    let app = TestApp::start_with(Database::Sqlite, &settings).await;
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
        app.subscription(&app.token_with(&claims)).await.assert_problem(status, code);
    }
    app.stop().await;
}

#[tokio::test]
async fn missing_jwt_secret_rejects_every_token() {
    let app = TestApp::start_with(Database::Sqlite, &[("--jwt-secret", "")]).await;
    app.subscription(&app.token("acme")).await.assert_problem(401, "not_authenticated");
    app.stop().await;
}

/// Starts a service that accepts the issuer's tokens, by the URL of its JWKS.
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
async fn each_algorithm_works_with_jwks_url_and_key_file() {
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
        let without_kid = key.token_with(&json!({ "alg": key.alg() }), &from_issuer(&app, &json!({})));
        app.subscription(&without_kid).await.ok();
        let another = SigningKey::new(algorithm, "k").token(&from_issuer(&app, &json!({})));
        app.subscription(&another).await.assert_problem(401, "not_authenticated");
        app.stop().await;
    }
}

#[tokio::test]
async fn token_cannot_choose_its_algorithm_or_key() {
    let keys = PUBLIC.map(|algorithm| SigningKey::new(algorithm, "k"));
    for key in &keys {
        let issuer = Issuer::publishing(&[key]).await;
        let app = start_with_issuer(&issuer, key.algorithm, &[]).await;
        let claims = from_issuer(&app, &json!({}));
        app.subscription(&key.token(&claims)).await.ok();
        for (what, token) in forgeries(key, &keys, &claims) {
            let response = app.subscription(&token).await;
            assert_eq!(response.status, 401, "{} and {what}: {}", key.alg(), response.text);
        }
        app.stop().await;
    }
}

/// Known attacks on services that let a token choose its algorithm or key.
fn forgeries(key: &SigningKey, keys: &[SigningKey], claims: &Value) -> Vec<(String, String)> {
    let mut forged = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "none ", "", &key.alg()] {
        let message = signing_input(&json!({ "alg": alg, "kid": "k" }), claims);
        forged.push((format!("`{alg}`, unsigned"), format!("{message}.")));
        forged.push((
            format!("`{alg}`, with a well-formed false signature"),
            format!("{message}.{}", "A".repeat(86)),
        ));
        forged.push((format!("`{alg}`, without a third part"), message));
    }
    let good = key.token(claims);
    let (_, signature) = good.rsplit_once('.').expect("three parts");
    for alg in ["none", "HS256", "RS512", "PS256", "ES384", "ES256K", "Ed25519", &key.alg().to_lowercase()] {
        let message = signing_input(&json!({ "alg": alg, "kid": "k" }), claims);
        forged.push((format!("`{alg}`, with a good token's signature"), format!("{message}.{signature}")));
    }
    // Everyone has the public key. A service that takes it as an HS256 secret would accept anyone's
    // tokens.
    let der: String = key.pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let numbers = ["n", "x"].into_iter().filter_map(|name| key.jwk[name].as_str());
    let mut public_data: Vec<Vec<u8>> = numbers.clone().map(|number| number.as_bytes().to_vec()).collect();
    public_data.extend(numbers.map(|number| URL_SAFE_NO_PAD.decode(number).expect("base64url")));
    public_data.extend([
        key.pem.clone().into_bytes(),
        key.pem.trim_end().as_bytes().to_vec(),
        STANDARD.decode(&der).expect("base64"),
        der.into_bytes(),
        key.jwk.to_string().into_bytes(),
        b"k".to_vec(),
        Vec::new(),
    ]);
    for (number, secret) in public_data.into_iter().enumerate() {
        let secret = EncodingKey::from_secret(&secret);
        for alg in ["HS256", &key.alg()] {
            let header = json!({ "alg": alg, "kid": "k" });
            let token = sign(&header, claims, &secret, Algorithm::HS256);
            forged.push((format!("`{alg}`, signed with public data, {number}"), token));
        }
    }
    // Another key, of the same or another algorithm, with the same `kid`.
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
async fn shared_secret_accepts_only_hs256() {
    let app = TestApp::start(Database::Sqlite).await;
    let claims = app.claims(&json!({ "tenant": "acme" }));
    for algorithm in PUBLIC {
        let key = SigningKey::new(algorithm, "k");
        let header = json!({ "alg": key.alg(), "jwk": key.jwk });
        app.subscription(&key.token_with(&header, &claims)).await.assert_problem(401, "not_authenticated");
        let header = json!({ "alg": "HS256", "jwk": key.jwk });
        app.subscription(&key.token_with(&header, &claims)).await.assert_problem(401, "not_authenticated");
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
        app.subscription(&token).await.assert_problem(401, "not_authenticated");
    }
    let kid = sign(&json!({ "alg": "HS256", "kid": "any" }), &claims, &secret, Algorithm::HS256);
    app.subscription(&kid).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn token_for_other_time_issuer_audience_or_type_is_rejected() {
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
        // Milliseconds instead of seconds would be valid for tens of thousands of years.
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
        let response = app.subscription(&key.token(&with(claim, value.clone()))).await;
        assert_eq!(response.status, 401, "{claim}: {value}: {}", response.text);
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
        let response = app.subscription(&key.token_with(&header, &good)).await;
        assert_eq!(response.status, 401, "{member}: {value}: {}", response.text);
    }
    for typ in ["JWT", "at+jwt", "application/at+jwt"] {
        let header = json!({ "alg": "RS256", "kid": "k", "typ": typ });
        app.subscription(&key.token_with(&header, &good)).await.ok();
    }
    app.stop().await;
}

#[tokio::test]
async fn duplicate_claims_are_rejected() {
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
        let response = app.subscription(&token).await;
        assert_eq!(response.status, 401, "{claims}: {}", response.text);
    }
    app.stop().await;
}

#[tokio::test]
async fn tokens_of_one_issuer_map_to_their_own_tenants() {
    let key = SigningKey::new(Algorithm::ES256, "k");
    let issuer = Issuer::publishing(&[&key]).await;
    let app = start_with_issuer(&issuer, Algorithm::ES256, &[]).await;
    let tokens = ["acme", "birch"].map(|tenant| key.token(&from_issuer(&app, &json!({ "tenant": tenant }))));
    app.check_out(&tokens[0], &json!({})).await.ok();
    let [acme, birch] = [app.subscription(&tokens[0]).await, app.subscription(&tokens[1]).await];
    assert_eq!((&acme.ok()["tenant"], &birch.ok()["tenant"]), (&json!("acme"), &json!("birch")));
    assert_ne!(acme.header("etag"), birch.header("etag"));
    let etag = acme.header("etag").expect("an ETag");
    assert_eq!(app.subscription_if_none_match(&tokens[1], etag).await.ok()["tenant"], "birch");
    app.open_portal(&tokens[1], &json!({})).await.assert_problem(409, "no_customer");
    app.open_portal(&tokens[0], &json!({})).await.ok();
    app.tenant_subscription("acme", &tokens[1]).await.assert_problem(403, "not_allowed");
    // The signature of one token does not cover the claims of the other.
    let parts: Vec<Vec<&str>> = tokens.iter().map(|token| token.split('.').collect()).collect();
    let mixed = format!("{}.{}.{}", parts[0][0], parts[1][1], parts[0][2]);
    app.subscription(&mixed).await.assert_problem(401, "not_authenticated");
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
