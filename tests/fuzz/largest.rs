//! The largest accepted inputs, in the worst shapes for a parser that reads anything twice. Nothing
//! is timed: at these sizes a quadratic parser takes an hour, and the test runner ends a test after
//! minutes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use billhook::domain::app_url::ReturnPath;
use billhook::domain::event::{Event, UnreadableEvent};
use billhook::domain::plan::Catalog;
use billhook::domain::signature::{RejectionReason, verify};
use billhook::domain::token::{self, ClaimPath, JwkSet, PublicAlgorithm, TokenRules, VerificationKeys};
use billhook::domain::webhook_secret::WebhookSecrets;

const MAX_WEBHOOK_BYTES: usize = 1024 * 1024;

/// Linux's limit for an environment variable (`MAX_ARG_STRLEN`).
const MAX_VARIABLE_BYTES: usize = 128 * 1024;

const MAX_SECRET_FILE_BYTES: usize = 64 * 1024;

/// Of the signature header.
const MAX_HEADER_BYTES: usize = 32 * 1024;

const MAX_TOKEN_BYTES: usize = 8192;

const MAX_KEY_SET_BYTES: usize = 256 * 1024;

const NOW: i64 = 1_700_000_000;

/// Repeats the text as often as it fits.
fn filled(bytes: usize, text: &str) -> String {
    text.repeat(bytes / text.len())
}

/// JSON values of about that size, some of them invalid.
fn large_values(bytes: usize) -> Vec<String> {
    let half = bytes / 2;
    let list = |item: &str| format!("[{}0]", filled(bytes, &format!("{item},")));
    let nested = |open: &str, close: &str| {
        let depth = bytes / (open.len() + close.len());
        format!("{}0{}", open.repeat(depth), close.repeat(depth))
    };
    let object = |member: &dyn Fn(usize) -> String| {
        let mut members = String::from("{\"first\":0");
        for member in (0..).map(member) {
            if members.len() + member.len() > bytes {
                break;
            }
            members.push(',');
            members += &member;
        }
        members + "}"
    };
    vec![
        nested("[", "]"),
        nested("{\"data\":", "}"),
        nested("{\"object\":[", "]}"),
        nested("{\"id\":\"\\u0061\",\"items\":{\"data\":[", "]}}"),
        list("0"),
        list("[]"),
        list("{}"),
        list("\"\""),
        list("{\"price\":{\"id\":\"price_1\"},\"quantity\":1,\"current_period_end\":1}"),
        object(&|_| "\"new\":0".to_owned()),
        object(&|_| "\"id\":\"cus_1\"".to_owned()),
        object(&|number| format!("\"{number}\":{number}")),
        object(&|number| format!("\"data\":{{\"{number}\":[]}}")),
        format!("\"{}\"", filled(bytes, "a")),
        format!("\"{}\"", filled(bytes, "\\\\")),
        format!("\"{}\"", filled(bytes, "\\u0061")),
        format!("\"{}\"", filled(bytes, "\\ud83d\\ude00")),
        format!("\"cus_{}\"", filled(bytes, "1")),
        format!("\"2026-07-07T09:05:27.{}Z\"", filled(bytes, "1")),
        filled(bytes, "9"),
        format!("-{}", filled(bytes, "9")),
        format!("0.{}1", filled(bytes, "0")),
        format!("1e{}", filled(bytes, "9")),
        format!("{}.{}e-{}", filled(half / 2, "9"), filled(half / 2, "9"), filled(half, "9")),
        format!("{}0{}", filled(half, " "), filled(half, "\n")),
    ]
}

/// Events with the value in place of each field that is read.
fn events_with(value: &str) -> [String; 12] {
    let kind = "customer.subscription.updated";
    let object = |object: &str| {
        format!(r#"{{"id":"evt_1","type":"{kind}","created":1,"data":{{"object":{{{object}}}}}}}"#)
    };
    let [id, customer, status] = [r#""id":"sub_1""#, r#""customer":"cus_1""#, r#""status":"active""#];
    [
        format!(r#"{{"id":{value},"type":"{kind}","created":1}}"#),
        format!(r#"{{"id":"evt_1","type":{value},"created":1}}"#),
        format!(r#"{{"id":"evt_1","type":"{kind}","created":{value}}}"#),
        format!(r#"{{"id":"evt_1","type":"{kind}","created":1,"request":{value}}}"#),
        format!(r#"{{"id":"evt_1","type":"{kind}","created":1,"new":{value}}}"#),
        format!(r#"{{"id":"evt_1","type":"{kind}","created":1,"data":{value}}}"#),
        format!(r#"{{"id":"evt_1","type":"{kind}","created":1,"data":{{"object":{value}}}}}"#),
        format!(
            r#"{{"id":"evt_1","type":"{kind}","created":1,"data":{{"previous_attributes":{value},"object":{{{id},{customer},{status}}}}}}}"#
        ),
        object(&format!("{id},\"customer\":{value},{status}")),
        object(&format!("{id},{customer},{status},\"items\":{{\"data\":{value}}}")),
        object(&format!("{id},{customer},{status},\"metadata\":{value}")),
        object(&format!("{id},{customer},{status},\"cancel_at\":{value}")),
    ]
}

#[test]
fn largest_events_are_accepted_or_rejected() {
    let read = |event: &str| {
        assert!(event.len() <= MAX_WEBHOOK_BYTES);
        Event::read(event.as_bytes()).map(|event| event.created)
    };
    for value in large_values(MAX_WEBHOOK_BYTES - 512) {
        let [id, kind, created, rest @ ..] = events_with(&value);
        let start: String = value.chars().take(40).collect();
        assert_eq!(read(&id), Err(UnreadableEvent::NoId), "{start}");
        assert_eq!(read(&kind), Err(UnreadableEvent::NoType), "{start}");
        assert!(matches!(read(&created), Ok(_) | Err(UnreadableEvent::NoCreated)), "{start}");
        // A number that is out of range in place of an object makes the event unreadable.
        let is_number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        for event in rest {
            let read = read(&event);
            assert!(
                read == Ok(1) || (is_number && read == Err(UnreadableEvent::NotJson)),
                "{start}: {read:?}"
            );
        }
    }
}

#[test]
fn unterminated_json_is_no_event() {
    for open in
        ["[", "{\"data\":", "{\"data\":{\"object\":[", "\"\\", "{\"id\":\"evt_1\",", " ", "9", "\"evt_"]
    {
        let event = filled(MAX_WEBHOOK_BYTES, open);
        assert_eq!(Event::read(event.as_bytes()), Err(UnreadableEvent::NotJson), "{open}");
    }
}

#[test]
fn longest_signature_headers_are_rejected() {
    let secrets: Vec<String> = (0..16).map(|number| format!("whsec_{number}")).collect();
    let secrets = WebhookSecrets::parse(&secrets.join(",")).expect("secrets");
    let body = vec![b' '; MAX_WEBHOOK_BYTES];
    let reason =
        |header: &str| verify(&body, Some(header), &secrets, NOW).map_err(|rejection| rejection.reason);

    let signature = format!("v1={},", "0".repeat(64));
    for item in ["v1=,", "v1=0,", signature.as_str(), "v1=\u{3000},"] {
        let header = format!("t={NOW},{}", filled(MAX_HEADER_BYTES - 16, item));
        assert_eq!(reason(&header), Err(RejectionReason::NoMatch), "{item}");
    }
    for item in ["t=1,", ",", "=", " ", "t", "t=0", "v1=", "v0=0,", "\u{3000}"] {
        assert_eq!(reason(&filled(MAX_HEADER_BYTES, item)), Err(RejectionReason::Malformed), "{item}");
        assert_eq!(reason(&filled(MAX_WEBHOOK_BYTES, item)), Err(RejectionReason::Malformed), "{item}");
    }
}

#[test]
fn longest_lists_are_accepted_or_rejected() {
    for item in
        [";", "=", ",", " ", "a", "pro=a;", "pro=a,", "=a,", "a=", "a;", "a,", "pro=a;pro=a,a;", "\u{3000}"]
    {
        assert!(Catalog::parse(&filled(MAX_VARIABLE_BYTES, item), true).is_err(), "{item}");
    }
    let plans: Vec<String> = (0..9000).map(|number| format!("p{number}=a{number}")).collect();
    let catalog = Catalog::parse(&plans.join(";"), true).expect("plans");
    assert!(catalog.plan("p8999").is_some());
    let prices: Vec<String> = (0..18_000).map(|number| format!("a{number}")).collect();
    let catalog = Catalog::parse(&format!("pro={}", prices.join(",")), true).expect("a plan");
    assert_eq!(catalog.default_plan().map(|plan| plan.prices.len()), Some(18_000));

    for item in ["whsec_", "whsec_a,", ",", "=", "a=", " ", "a=whsec_a,", "\u{3000}"] {
        let list = filled(MAX_SECRET_FILE_BYTES, item);
        let read = WebhookSecrets::parse(&list);
        assert_eq!(read.is_ok(), item == "whsec_", "{item}");
    }
}

#[test]
fn longest_return_paths_are_rejected() {
    for step in ["/", "a", "/..", "/%2e%2E", "%", "?", "\\", "\u{ff0f}"] {
        assert!(ReturnPath::parse(&format!("/{}", filled(MAX_WEBHOOK_BYTES, step))).is_err(), "{step}");
    }
}

#[test]
fn longest_tokens_are_rejected() {
    let tenant_claim = ClaimPath::parse("tenant").expect("a claim's name");
    let (issuer, audience, scope, manage_scope, manage_roles) = (None, None, None, None, None);
    let rules = TokenRules { tenant_claim, issuer, audience, scope, manage_scope, manage_roles };
    let keys = VerificationKeys::from_secret(b"a secret of at least 32 bytes, as it should be");
    let is_rejected = |token: &str| token::verify(token.as_bytes(), &keys, &rules, NOW).is_err();

    for part in [".", "A", "-", "=", "e30.", "e30.e30.A", "\u{3000}"] {
        assert!(is_rejected(&filled(MAX_TOKEN_BYTES, part)), "{part}");
        assert!(is_rejected(&filled(MAX_WEBHOOK_BYTES, part)), "{part}");
    }
    for header in ["[", "{\"alg\":", "{\"alg\":\"HS256\",", "\"\\u0061", " ", "9"] {
        let header = URL_SAFE_NO_PAD.encode(filled(MAX_TOKEN_BYTES / 4 * 3 - 16, header));
        assert!(is_rejected(&format!("{header}.e30.AAAA")), "{header:.40}");
    }
}

#[test]
fn largest_key_sets_are_empty_or_rejected() {
    for value in large_values(MAX_KEY_SET_BYTES - 128) {
        for set in [
            format!("{{\"keys\":{value}}}"),
            format!("{{\"keys\":[{value}]}}"),
            format!("{{\"keys\":[],\"new\":{value}}}"),
            format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":{value}}}]}}"),
            format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"d\":{value}}}]}}"),
        ] {
            assert!(set.len() <= MAX_KEY_SET_BYTES);
            let read = JwkSet::read(set.as_bytes(), PublicAlgorithm::EdDsa).ok();
            assert!(read.is_none_or(|set| set.keys.is_empty()), "{set:.60}");
        }
    }
}
