//! The largest inputs that get in, in the shapes that are worst for a reader that looks at anything twice. Nothing is
//! timed: at these sizes a reader whose work grew with the square would be at it for an hour, and the runner ends a test
//! after minutes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use billhook::domain::address::ReturnPath;
use billhook::domain::event::{Event, UnreadableEvent};
use billhook::domain::plan::Catalog;
use billhook::domain::signature::{RefusalReason, verify};
use billhook::domain::token::{self, ClaimName, KeySet, Keys, PublicAlgorithm, TokenRules};
use billhook::domain::webhook_secret::WebhookSecrets;

/// The largest webhook that is read.
const WEBHOOK_BYTES: usize = 1024 * 1024;

/// The longest variable that Linux lets a program be started with.
const VARIABLE_BYTES: usize = 128 * 1024;

/// The largest file of secrets that is read.
const SECRET_FILE_BYTES: usize = 64 * 1024;

/// The longest header of a signature that is read.
const HEADER_BYTES: usize = 32 * 1024;

/// The longest token that is looked at.
const TOKEN_BYTES: usize = 8192;

/// The largest set of an issuer's keys that is read.
const KEY_SET_BYTES: usize = 256 * 1024;

const NOW: i64 = 1_700_000_000;

/// As often as it fits.
fn filled(bytes: usize, text: &str) -> String {
    text.repeat(bytes / text.len())
}

/// Values that fill a webhook, for want of any use.
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

/// An event with a value in the place of each of what is read of it.
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
fn the_largest_events_are_read_or_refused() {
    let read = |event: &str| {
        assert!(event.len() <= WEBHOOK_BYTES);
        Event::read(event.as_bytes()).map(|event| event.created)
    };
    for value in large_values(WEBHOOK_BYTES - 512) {
        let [id, kind, created, others @ ..] = events_with(&value);
        let start: String = value.chars().take(40).collect();
        assert_eq!(read(&id), Err(UnreadableEvent::NoId), "{start}");
        assert_eq!(read(&kind), Err(UnreadableEvent::NoType), "{start}");
        assert!(matches!(read(&created), Ok(_) | Err(UnreadableEvent::NoCreated)), "{start}");
        // In place of an object a number that fits nowhere costs the event.
        let is_number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        for event in others {
            let read = read(&event);
            assert!(
                read == Ok(1) || (is_number && read == Err(UnreadableEvent::NotJson)),
                "{start}: {read:?}"
            );
        }
    }
}

#[test]
fn what_never_ends_is_no_event() {
    for open in
        ["[", "{\"data\":", "{\"data\":{\"object\":[", "\"\\", "{\"id\":\"evt_1\",", " ", "9", "\"evt_"]
    {
        let event = filled(WEBHOOK_BYTES, open);
        assert_eq!(Event::read(event.as_bytes()), Err(UnreadableEvent::NotJson), "{open}");
    }
}

#[test]
fn the_longest_headers_are_held_against_all_secrets() {
    let secrets: Vec<String> = (0..16).map(|number| format!("whsec_{number}")).collect();
    let secrets = WebhookSecrets::parse(&secrets.join(",")).expect("secrets");
    let body = vec![b' '; WEBHOOK_BYTES];
    let refused = |header: &str| verify(&body, Some(header), &secrets, NOW).map_err(|refusal| refusal.reason);

    let signature = format!("v1={},", "0".repeat(64));
    for item in ["v1=,", "v1=0,", signature.as_str(), "v1=\u{3000},"] {
        let header = format!("t={NOW},{}", filled(HEADER_BYTES - 16, item));
        assert_eq!(refused(&header), Err(RefusalReason::NoMatch), "{item}");
    }
    for item in ["t=1,", ",", "=", " ", "t", "t=0", "v1=", "v0=0,", "\u{3000}"] {
        assert_eq!(refused(&filled(HEADER_BYTES, item)), Err(RefusalReason::Malformed), "{item}");
        assert_eq!(refused(&filled(WEBHOOK_BYTES, item)), Err(RefusalReason::Malformed), "{item}");
    }
}

#[test]
fn the_longest_lists_are_read_or_refused() {
    for item in
        [";", "=", ",", " ", "a", "pro=a;", "pro=a,", "=a,", "a=", "a;", "a,", "pro=a;pro=a,a;", "\u{3000}"]
    {
        assert!(Catalog::parse(&filled(VARIABLE_BYTES, item), true).is_err(), "{item}");
    }
    let plans: Vec<String> = (0..9000).map(|number| format!("p{number}=a{number}")).collect();
    let catalog = Catalog::parse(&plans.join(";"), true).expect("plans");
    assert!(catalog.plan("p8999").is_some());
    let prices: Vec<String> = (0..18_000).map(|number| format!("a{number}")).collect();
    let catalog = Catalog::parse(&format!("pro={}", prices.join(",")), true).expect("a plan");
    assert_eq!(catalog.default_plan().map(|plan| plan.prices.len()), Some(18_000));

    for item in ["whsec_", "whsec_a,", ",", "=", "a=", " ", "a=whsec_a,", "\u{3000}"] {
        let list = filled(SECRET_FILE_BYTES, item);
        let read = WebhookSecrets::parse(&list);
        assert_eq!(read.is_ok(), item == "whsec_", "{item}");
    }
}

#[test]
fn the_longest_paths_are_refused() {
    for step in ["/", "a", "/..", "/%2e%2E", "%", "?", "\\", "\u{ff0f}"] {
        assert!(ReturnPath::parse(&format!("/{}", filled(WEBHOOK_BYTES, step))).is_err(), "{step}");
    }
}

#[test]
fn the_longest_tokens_are_refused() {
    let tenant_claim = ClaimName::parse("tenant").expect("a claim's name");
    let (issuer, audience, scope, manage_scope, manage_roles) = (None, None, None, None, None);
    let rules = TokenRules { tenant_claim, issuer, audience, scope, manage_scope, manage_roles };
    let keys = Keys::of_secret(b"a secret of at least 32 bytes, as it should be");
    let refused = |token: &str| token::verify(token.as_bytes(), &keys, &rules, NOW).is_err();

    for part in [".", "A", "-", "=", "e30.", "e30.e30.A", "\u{3000}"] {
        assert!(refused(&filled(TOKEN_BYTES, part)), "{part}");
        assert!(refused(&filled(WEBHOOK_BYTES, part)), "{part}");
    }
    for header in ["[", "{\"alg\":", "{\"alg\":\"HS256\",", "\"\\u0061", " ", "9"] {
        let header = URL_SAFE_NO_PAD.encode(filled(TOKEN_BYTES / 4 * 3 - 16, header));
        assert!(refused(&format!("{header}.e30.AAAA")), "{header:.40}");
    }
}

#[test]
fn the_largest_sets_of_keys_have_none_or_are_refused() {
    for value in large_values(KEY_SET_BYTES - 128) {
        for set in [
            format!("{{\"keys\":{value}}}"),
            format!("{{\"keys\":[{value}]}}"),
            format!("{{\"keys\":[],\"new\":{value}}}"),
            format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":{value}}}]}}"),
            format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"d\":{value}}}]}}"),
        ] {
            assert!(set.len() <= KEY_SET_BYTES);
            let read = KeySet::read(set.as_bytes(), PublicAlgorithm::EdDsa).ok();
            assert!(read.is_none_or(|set| set.keys.is_empty()), "{set:.60}");
        }
    }
}
