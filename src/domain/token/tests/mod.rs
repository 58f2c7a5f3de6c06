//! What makes a token good, and what does not; with the RFCs' own examples, and with whatever bytes there are.

mod key_sets;
mod rfcs;

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

/// Signs whatever stands there, as HS256 does.
fn signed(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", encoded(header), encoded(payload));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    format!("{message}.{}", encoded(hmac::sign(&key, message.as_bytes())))
}

fn token(claims: &Value) -> String {
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

/// Good claims, with others over them; a null removes one.
fn claims(others: &Value) -> Value {
    let mut claims = json!({ "sub": "user-1", "tenant": "acme", "exp": NOW + 60 });
    for (name, value) in others.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

fn rules() -> TokenRules {
    TokenRules {
        tenant_claim: ClaimName::parse("tenant").expect("a name"),
        issuer: None,
        audience: None,
        scope: None,
        manage_scope: None,
        manage_roles: None,
    }
}

fn judge(claims: &Value, rules: &TokenRules) -> Result<Bearer, Refusal> {
    verify(token(claims).as_bytes(), &Keys::of_secret(SECRET), rules, NOW)
}

/// Whether the bearer may manage billing.
fn may_manage(others: &Value, rules: &TokenRules) -> bool {
    match judge(&claims(others), rules) {
        Ok(Bearer::User { may_manage, .. }) => may_manage,
        other => panic!("no user: {other:?}"),
    }
}

#[test]
fn a_good_token_says_who_bears_it_and_until_when() {
    let user = Bearer::User {
        tenant: TenantId::parse("acme").expect("a tenant"),
        user: UserId::parse("user-1").expect("a user"),
        may_manage: true,
        token_ends_at: NOW + 60 + LEEWAY_SECONDS,
    };
    assert_eq!(judge(&claims(&json!({})), &rules()), Ok(user));
    let service = claims(&json!({ "scope": "billing:service", "tenant": null }));
    assert_eq!(judge(&service, &rules()), Ok(Bearer::Service(UserId::parse("user-1").expect("a user"))));
}

#[test]
fn time_is_held_to_with_half_a_minute_of_leeway() {
    for (others, refusal) in [
        (json!({ "exp": NOW - 29 }), None),
        (json!({ "exp": NOW - 30 }), Some(Refusal::Expired)),
        (json!({ "exp": 0 }), Some(Refusal::Expired)),
        (json!({ "exp": -1 }), Some(Refusal::Expired)),
        (json!({ "exp": i64::MIN }), Some(Refusal::Expired)),
        (json!({ "exp": null }), Some(Refusal::NoExpiry)),
        (json!({ "exp": "1900000000" }), Some(Refusal::NoExpiry)),
        (json!({ "exp": true }), Some(Refusal::NoExpiry)),
        // In milliseconds; and never, in several ways.
        (json!({ "exp": (NOW + 60) * 1000 }), Some(Refusal::NoExpiry)),
        (json!({ "exp": i64::MAX }), Some(Refusal::NoExpiry)),
        (json!({ "exp": u64::MAX }), Some(Refusal::NoExpiry)),
        (json!({ "exp": 1e300 }), Some(Refusal::NoExpiry)),
        (json!({ "nbf": NOW + 30 }), None),
        (json!({ "nbf": NOW + 31 }), Some(Refusal::NotYet)),
        (json!({ "nbf": i64::MIN }), None),
        (json!({ "nbf": i64::MAX }), Some(Refusal::NotYet)),
        (json!({ "nbf": "now" }), Some(Refusal::NotYet)),
    ] {
        assert_eq!(judge(&claims(&others), &rules()).err(), refusal, "{others}");
    }
    let far = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"u","tenant":"acme","exp":1e999}"#);
    let refused = verify(far.as_bytes(), &Keys::of_secret(SECRET), &rules(), NOW);
    assert_eq!(refused, Err(Refusal::Invalid));
}

#[test]
fn a_tenant_is_a_text_of_its_alphabet_and_nothing_else() {
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
            judge(&claims(&json!({ "tenant": tenant })), &rules()),
            Err(Refusal::NoTenant),
            "{tenant}"
        );
    }
    for sub in [json!(null), json!(7), json!([]), json!(""), json!("a\nb"), json!("u".repeat(256))] {
        assert_eq!(judge(&claims(&json!({ "sub": sub })), &rules()), Err(Refusal::NoUser), "{sub}");
    }
}

#[test]
fn a_name_that_stands_twice_is_refused_wherever_it_stands() {
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
        let refused = verify(token.as_bytes(), &Keys::of_secret(SECRET), &rules(), NOW);
        assert_eq!(refused, Err(Refusal::Invalid), "{header} {payload}");
    }
}

#[test]
fn a_token_within_a_token_or_far_too_deep_a_one_is_none() {
    let inner = token(&claims(&json!({})));
    let deep = format!("{{\"exp\":{}{}}}", "[".repeat(1500), "]".repeat(1500));
    for payload in [inner.as_str(), &format!("{inner:?}"), "[]", "null", "7", "", &deep] {
        let nested = signed(r#"{"alg":"HS256"}"#, payload);
        let refused = verify(nested.as_bytes(), &Keys::of_secret(SECRET), &rules(), NOW);
        assert_eq!(refused, Err(Refusal::Invalid), "{payload}");
    }
}

#[test]
fn whoever_manages_has_the_scope_and_one_of_the_roles() {
    assert!(may_manage(&json!({}), &rules()), "where nothing is asked");
    let by_scope = TokenRules { manage_scope: Some("billing:manage".into()), ..rules() };
    assert!(may_manage(&json!({ "scope": "openid billing:manage" }), &by_scope));
    assert!(!may_manage(&json!({ "scope": "openid billing:manages" }), &by_scope));
    assert!(!may_manage(&json!({}), &by_scope));

    for claim in ["roles", "realm_access.roles", "https://example.com/roles"] {
        let claim = ClaimName::parse(claim).expect("a name");
        let roles = vec!["owner".to_owned(), "billing admin".to_owned()];
        let manage_roles = Some(RoleRule { claim: claim.clone(), roles });
        let by_role = TokenRules { manage_roles: manage_roles.clone(), ..rules() };
        let both = TokenRules { manage_roles, ..by_scope.clone() };
        for (role, is_enough) in [
            (json!("owner"), true),
            (json!(["member", "billing admin"]), true),
            (json!(["member"]), false),
            (json!("owner member"), false),
            (json!("OWNER"), false),
            (json!({ "owner": true }), false),
            (json!([["owner"]]), false),
            (json!(true), false),
        ] {
            let mut others = json!({}).as_object().expect("an object").clone();
            claim.put(&mut others, role.clone());
            assert_eq!(may_manage(&others.clone().into(), &by_role), is_enough, "{role}");
            assert!(!may_manage(&others.clone().into(), &both), "the scope is lacking");
            others.insert("scope".into(), "billing:manage".into());
            assert_eq!(may_manage(&others.into(), &both), is_enough, "{role}, with the scope");
        }
        assert!(!may_manage(&json!({ "role": "owner", "scope": "owner" }), &by_role));
    }
}

#[test]
fn a_lack_is_told_only_of_a_token_that_was_verified() {
    let rules = TokenRules {
        issuer: Some("https://id.example".into()),
        audience: Some("billing".into()),
        scope: Some("billing".into()),
        ..rules()
    };
    let good = json!({ "iss": "https://id.example", "aud": ["billing"], "scope": "billing" });
    assert!(judge(&claims(&good), &rules).is_ok());
    for (claim, value, refusal) in [
        ("iss", json!("https://id.example/"), Refusal::OtherIssuer),
        ("iss", json!(["https://id.example"]), Refusal::OtherIssuer),
        ("aud", json!("bill"), Refusal::OtherAudience),
        ("aud", json!([["billing"]]), Refusal::OtherAudience),
        ("scope", json!("billing:read"), Refusal::NoScope),
    ] {
        let mut wrong = claims(&good);
        wrong[claim] = value;
        assert_eq!(judge(&wrong, &rules), Err(refusal), "{claim}");
        let forged = Keys::of_secret(b"another secret of at least 32 bytes, as it is");
        assert_eq!(verify(token(&wrong).as_bytes(), &forged, &rules, NOW), Err(Refusal::Invalid), "{claim}");
    }
}

/// Headers, payloads and signatures that could be something, and pieces of them.
fn like_a_token() -> impl Strategy<Value = Vec<u8>> {
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
    fn no_bytes_at_all_pass_unsigned_or_panic(
        token in prop_oneof![any::<Vec<u8>>(), like_a_token()],
        now_seconds in any::<i64>(),
    ) {
        for keys in [Keys::of_secret(SECRET), rfcs::es256_keys(), rfcs::eddsa_keys(), rfcs::rs256_keys()] {
            prop_assert!(verify(&token, &keys, &rules(), now_seconds).is_err());
        }
    }

    #[test]
    fn whatever_is_signed_is_judged_and_never_panics(
        payload in any::<Vec<u8>>(),
        exp in any::<f64>(),
        tenant in "\\PC{0,70}",
        now_seconds in any::<i64>(),
    ) {
        let likely = json!({ "sub": "u", "tenant": tenant, "exp": exp }).to_string().into_bytes();
        for payload in [payload, likely] {
            let message = format!("{}.{}", encoded(r#"{"alg":"HS256"}"#), encoded(payload));
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            let token = format!("{message}.{}", encoded(hmac::sign(&key, message.as_bytes())));
            let judged = verify(token.as_bytes(), &Keys::of_secret(SECRET), &rules(), now_seconds);
            if let Ok(Bearer::User { token_ends_at, .. }) = judged {
                prop_assert!(token_ends_at > now_seconds);
            }
        }
    }

    #[test]
    fn one_changed_byte_of_a_token_is_seen(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let good = token(&claims(&json!({})));
        let mut changed = good.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        prop_assert!(verify(&changed, &Keys::of_secret(SECRET), &rules(), NOW).is_err());
    }
}
