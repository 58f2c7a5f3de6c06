//! Which tokens are accepted: by rule, by the examples of the RFCs, and with arbitrary bytes.

mod jwk_sets;
mod rfc_examples;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_700_000_000;
const SECRET: &[u8] = b"a secret of at least 32 bytes, as it should be";

fn encoded(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// Signs any header and payload with HS256.
fn signed(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", encoded(header), encoded(payload));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    format!("{message}.{}", encoded(hmac::sign(&key, message.as_bytes())))
}

fn token(claims: &Value) -> String {
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

/// Valid claims with changes; a null removes a claim.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({ "sub": "user-1", "tenant": "acme", "exp": NOW + 60 });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

fn rules() -> TokenRules {
    TokenRules {
        tenant_claim: ClaimPath::parse("tenant").expect("a claim path"),
        issuer: None,
        audience: None,
        scope: None,
        manage_scope: None,
        manage_roles: None,
    }
}

fn verify_claims(claims: &Value, rules: &TokenRules) -> Result<Principal, TokenError> {
    verify(token(claims).as_bytes(), &VerificationKeys::from_secret(SECRET), rules, NOW)
}

fn may_manage(changes: &Value, rules: &TokenRules) -> bool {
    match verify_claims(&claims(changes), rules) {
        Ok(Principal::User { may_manage, .. }) => may_manage,
        other => panic!("not a user: {other:?}"),
    }
}

#[test]
fn valid_token_returns_principal_and_expiry() {
    let user = Principal::User {
        tenant: TenantId::parse("acme").expect("a tenant"),
        user: UserId::parse("user-1").expect("a user"),
        may_manage: true,
        token_accepted_until: NOW + 60 + LEEWAY_SECONDS,
    };
    assert_eq!(verify_claims(&claims(&json!({})), &rules()), Ok(user));
    let service = claims(&json!({ "scope": "billing:service", "tenant": null }));
    assert_eq!(
        verify_claims(&service, &rules()),
        Ok(Principal::Service(UserId::parse("user-1").expect("a user")))
    );
}

#[test]
fn token_times_are_checked_with_30_seconds_leeway() {
    for (changes, error) in [
        (json!({ "exp": NOW - 29 }), None),
        (json!({ "exp": NOW - 30 }), Some(TokenError::Expired)),
        (json!({ "exp": 0 }), Some(TokenError::Expired)),
        (json!({ "exp": -1 }), Some(TokenError::Expired)),
        (json!({ "exp": i64::MIN }), Some(TokenError::Expired)),
        (json!({ "exp": null }), Some(TokenError::NoExpiry)),
        (json!({ "exp": "1900000000" }), Some(TokenError::NoExpiry)),
        (json!({ "exp": true }), Some(TokenError::NoExpiry)),
        // Milliseconds, and several ways to never expire.
        (json!({ "exp": (NOW + 60) * 1000 }), Some(TokenError::NoExpiry)),
        (json!({ "exp": i64::MAX }), Some(TokenError::NoExpiry)),
        (json!({ "exp": u64::MAX }), Some(TokenError::NoExpiry)),
        (json!({ "exp": 1e300 }), Some(TokenError::NoExpiry)),
        (json!({ "nbf": NOW + 30 }), None),
        (json!({ "nbf": NOW + 31 }), Some(TokenError::NotYet)),
        (json!({ "nbf": i64::MIN }), None),
        (json!({ "nbf": i64::MAX }), Some(TokenError::NotYet)),
        (json!({ "nbf": "now" }), Some(TokenError::NotYet)),
    ] {
        assert_eq!(verify_claims(&claims(&changes), &rules()).err(), error, "{changes}");
    }
    let far = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"u","tenant":"acme","exp":1e999}"#);
    let rejected = verify(far.as_bytes(), &VerificationKeys::from_secret(SECRET), &rules(), NOW);
    assert_eq!(rejected, Err(TokenError::Invalid));
}

#[test]
fn invalid_tenant_or_user_claim_is_rejected() {
    for tenant in [
        json!(null),
        json!(7),
        json!(true),
        json!(["acme"]),
        json!({ "id": "acme" }),
        json!(""),
        json!(" acme"),
        json!("acme\n"),
        json!("acme\u{0}"),
        json!("../acme"),
        json!("t".repeat(64)),
    ] {
        assert_eq!(
            verify_claims(&claims(&json!({ "tenant": tenant })), &rules()),
            Err(TokenError::NoTenant),
            "{tenant}"
        );
    }
    for sub in [json!(null), json!(7), json!([]), json!(""), json!("a\nb"), json!("u".repeat(256))] {
        assert_eq!(
            verify_claims(&claims(&json!({ "sub": sub })), &rules()),
            Err(TokenError::NoUser),
            "{sub}"
        );
    }
}

#[test]
fn token_with_duplicate_name_is_rejected() {
    let header = r#"{"alg":"HS256"}"#;
    for (header, payload) in [
        (header, r#"{"sub":"u","tenant":"acme","tenant":"birch","exp":1700000060}"#),
        (header, r#"{"sub":"u","tenant":"acme","\u0074enant":"birch","exp":1700000060}"#),
        (header, r#"{"sub":"u","tenant":"acme","exp":1700000060,"exp":1900000000}"#),
        (header, r#"{"sub":"u","tenant":"acme","exp":1700000060,"more":{"a":1,"a":2}}"#),
        (r#"{"alg":"HS256","alg":"none"}"#, r#"{"sub":"u","tenant":"acme","exp":1700000060}"#),
        (r#"{"alg":"none","alg":"HS256"}"#, r#"{"sub":"u","tenant":"acme","exp":1700000060}"#),
    ] {
        let token = signed(header, payload);
        let rejected = verify(token.as_bytes(), &VerificationKeys::from_secret(SECRET), &rules(), NOW);
        assert_eq!(rejected, Err(TokenError::Invalid), "{header} {payload}");
    }
}

#[test]
fn nested_or_too_deep_token_payload_is_rejected() {
    let inner = token(&claims(&json!({})));
    let deep = format!("{{\"exp\":{}{}}}", "[".repeat(1500), "]".repeat(1500));
    for payload in [inner.as_str(), &format!("{inner:?}"), "[]", "null", "7", "", &deep] {
        let nested = signed(r#"{"alg":"HS256"}"#, payload);
        let rejected = verify(nested.as_bytes(), &VerificationKeys::from_secret(SECRET), &rules(), NOW);
        assert_eq!(rejected, Err(TokenError::Invalid), "{payload}");
    }
}

#[test]
fn managing_billing_needs_both_scope_and_role() {
    assert!(may_manage(&json!({}), &rules()), "no rule is configured");
    let by_scope = TokenRules { manage_scope: Some("billing:manage".into()), ..rules() };
    assert!(may_manage(&json!({ "scope": "openid billing:manage" }), &by_scope));
    assert!(!may_manage(&json!({ "scope": "openid billing:manages" }), &by_scope));
    assert!(!may_manage(&json!({}), &by_scope));

    for claim in ["roles", "realm_access.roles", "https://example.com/roles"] {
        let claim = ClaimPath::parse(claim).expect("a claim path");
        let roles = vec!["owner".to_owned(), "billing admin".to_owned()];
        let manage_roles = Some(RoleRule { claim: claim.clone(), roles });
        let by_role = TokenRules { manage_roles: manage_roles.clone(), ..rules() };
        let both = TokenRules { manage_roles, ..by_scope.clone() };
        for (role, is_allowed) in [
            (json!("owner"), true),
            (json!(["member", "billing admin"]), true),
            (json!(["member"]), false),
            (json!("owner member"), false),
            (json!("OWNER"), false),
            (json!({ "owner": true }), false),
            (json!([["owner"]]), false),
            (json!(true), false),
        ] {
            let mut changes = json!({}).as_object().expect("an object").clone();
            claim.set(&mut changes, role.clone());
            assert_eq!(may_manage(&changes.clone().into(), &by_role), is_allowed, "{role}");
            assert!(!may_manage(&changes.clone().into(), &both), "the scope is missing");
            changes.insert("scope".into(), "billing:manage".into());
            assert_eq!(may_manage(&changes.into(), &both), is_allowed, "{role}, with the scope");
        }
        assert!(!may_manage(&json!({ "role": "owner", "scope": "owner" }), &by_role));
    }
}

#[test]
fn claim_errors_are_returned_only_for_signed_tokens() {
    let rules = TokenRules {
        issuer: Some("https://id.example".into()),
        audience: Some("billing".into()),
        scope: Some("billing".into()),
        ..rules()
    };
    let valid = json!({ "iss": "https://id.example", "aud": ["billing"], "scope": "billing" });
    assert!(verify_claims(&claims(&valid), &rules).is_ok());
    for (claim, value, error) in [
        ("iss", json!("https://id.example/"), TokenError::OtherIssuer),
        ("iss", json!(["https://id.example"]), TokenError::OtherIssuer),
        ("aud", json!("bill"), TokenError::OtherAudience),
        ("aud", json!([["billing"]]), TokenError::OtherAudience),
        ("scope", json!("billing:read"), TokenError::NoScope),
    ] {
        let mut wrong = claims(&valid);
        wrong[claim] = value;
        assert_eq!(verify_claims(&wrong, &rules), Err(error), "{claim}");
        let forged = VerificationKeys::from_secret(b"another secret of at least 32 bytes, as it is");
        assert_eq!(
            verify(token(&wrong).as_bytes(), &forged, &rules, NOW),
            Err(TokenError::Invalid),
            "{claim}"
        );
    }
}

/// Plausible headers, payloads and signatures, joined by dots.
fn nearly_token() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        any::<Vec<u8>>().prop_map(encoded),
        "\\PC{0,40}".prop_map(encoded),
        "[A-Za-z0-9_=.-]{0,40}",
        prop::sample::select(vec![
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"EdDSA","kid":"k"}"#,
            r#"{"alg":"ES256"}"#,
            r#"{"alg":"none"}"#,
            r#"{"sub":"u","tenant":"acme","exp":1900000000}"#,
            "[[[[[[[[",
        ])
        .prop_map(encoded),
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.join(".").into_bytes())
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_rejected_without_panic(
        token in prop_oneof![any::<Vec<u8>>(), nearly_token()],
        now_seconds in any::<i64>(),
    ) {
        for keys in [VerificationKeys::from_secret(SECRET), rfc_examples::es256_keys(), rfc_examples::eddsa_keys(), rfc_examples::rs256_keys()] {
            prop_assert!(verify(&token, &keys, &rules(), now_seconds).is_err());
        }
    }

    #[test]
    fn arbitrary_signed_payload_never_panics(
        payload in any::<Vec<u8>>(),
        exp in any::<f64>(),
        tenant in "\\PC{0,70}",
        now_seconds in any::<i64>(),
    ) {
        let plausible = json!({ "sub": "u", "tenant": tenant, "exp": exp }).to_string().into_bytes();
        for payload in [payload, plausible] {
            let message = format!("{}.{}", encoded(r#"{"alg":"HS256"}"#), encoded(payload));
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            let token = format!("{message}.{}", encoded(hmac::sign(&key, message.as_bytes())));
            let verified = verify(token.as_bytes(), &VerificationKeys::from_secret(SECRET), &rules(), now_seconds);
            if let Ok(Principal::User { token_accepted_until, .. }) = verified {
                prop_assert!(token_accepted_until > now_seconds);
            }
        }
    }

    #[test]
    fn one_flipped_bit_of_a_token_is_rejected(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut changed = token(&claims(&json!({}))).into_bytes();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        prop_assert!(verify(&changed, &VerificationKeys::from_secret(SECRET), &rules(), NOW).is_err());
    }
}
