//! Bodies made to break a parser: deep nesting, huge numbers, invalid text, compression bombs.

use std::io::Write;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::checkout::return_paths::{CHECKOUT, PORTAL, sent};
use crate::support::app::{TestApp, WEBHOOK_SECRET, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::webhooks::webhook_admission::{WEBHOOK, is_in_inbox, post_signed};

on_both_databases!(odd_signed_body_is_stored_unchanged_or_rejected);

/// A signed body that is an event is stored byte for byte. Any other gets 400 and an error in the
/// log.
async fn odd_signed_body_is_stored_unchanged_or_rejected(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    let event = |number: usize, object: &str| {
        format!(
            r#"{{"id":"evt_weird{number}","object":"event","type":"customer.subscription.updated","livemode":false,
            "created":{},"data":{{"object":{{"customer":"{customer}",{object}}}}}}}"#,
            app.clock_seconds() + 60,
        )
    };
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let digits = "9".repeat(100_000);
    let odd_bodies: Vec<Vec<u8>> = [
        format!(r#""id":"sub_1","status":"active","deep":{deep}"#),
        format!(r#""id":"sub_2","status":"active","items":{deep}"#),
        r#""id":"sub_3","id":"sub_4","status":"active""#.to_owned(),
        r#""id":"sub_5","status":"active","status":"canceled""#.to_owned(),
        format!(r#""id":"sub_6","status":"active","cancel_at":{digits}"#),
        r#""id":"sub_7","status":"active","cancel_at":1e999999"#.to_owned(),
        r#""id":"sub_8","status":"active","cancel_at":-9223372036854775809"#.to_owned(),
        r#""id":"sub_9\u0000","status":"active""#.to_owned(),
        r#""id":"sub_10","status":"\ud800""#.to_owned(),
        format!(r#""id":"sub_{}","status":"active""#, "x".repeat(100_000)),
    ]
    .iter()
    .enumerate()
    .map(|(number, object)| event(number, object).into_bytes())
    .collect();
    for (number, body) in odd_bodies.iter().enumerate() {
        post_signed(&app, body, &[]).await.ok();
        let id = format!("evt_weird{number}");
        let (outcome, _) = app.outcome(&id).await.expect("it is in the inbox");
        assert_ne!(outcome, "quarantined", "{id}");
        assert_eq!(
            app.payload_of(&json!({ "id": id })).await.as_ref(),
            Some(body),
            "the body is stored unchanged"
        );
    }

    let good = event(99, r#""id":"sub_11","status":"active""#);
    let mut invalid_utf8 = good.clone().into_bytes();
    let id = good.find("evt_").expect("an id");
    invalid_utf8[id + 4] = 0xff;
    let rejected_bodies: [Vec<u8>; 8] = [
        invalid_utf8,
        format!("\u{feff}{good}").into_bytes(),
        good.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        format!("{good}{good}").into_bytes(),
        format!("[{good}]").into_bytes(),
        deep.clone().into_bytes(),
        good.replace("\"id\":\"evt_", "\"id\":\"evt_other\",\"id\":\"evt_").into_bytes(),
        gzipped(good.as_bytes()),
    ];
    for body in &rejected_bodies {
        let before = app.lines("webhook_signatures").len();
        post_signed(&app, body, &[]).await.assert_problem(400, "unreadable_event");
        let new_lines = app.lines("webhook_signatures").split_off(before);
        let is_logged_error = |line: &Value| line["reason"] == "unreadable_event" && line["level"] == "error";
        assert!(new_lines.iter().any(is_logged_error), "{new_lines:?}");
    }
    assert!(!is_in_inbox(&app, &json!({ "id": "evt_weird99" })).await);
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}

/// The service reads the bytes of a body and ignores its `Content-Encoding`.
#[tokio::test]
async fn compressed_bodies_are_not_decompressed() {
    let app = TestApp::start(Database::Sqlite).await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let plain = event.to_string().into_bytes();
    let gzip_header = [("Content-Encoding", "gzip")];
    // Compressed after it was signed, so the signature does not match.
    let signature = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), &plain);
    let request = app.request(Method::POST, WEBHOOK).header("Stripe-Signature", signature);
    let request = request.header("Content-Encoding", "gzip").body(gzipped(&plain));
    app.call(request).await.assert_problem(400, "invalid_signature");
    post_signed(&app, &gzipped(&plain), &gzip_header).await.assert_problem(400, "unreadable_event");
    let bomb = gzipped(&vec![b' '; 256 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024, "the compressed body is under the size limit");
    post_signed(&app, &bomb, &gzip_header).await.assert_problem(400, "unreadable_event");
    post_signed(&app, &plain, &gzip_header).await.ok();
    assert!(
        is_in_inbox(&app, &event).await,
        "the signature matches: a proxy may have decompressed the body and left the header"
    );

    let token = app.token("acme");
    for coding in ["gzip", "br", "gzip, identity", "x"] {
        let request = app.request(Method::POST, CHECKOUT).bearer_auth(&token);
        let request = request.header("Content-Type", "application/json").header("Content-Encoding", coding);
        app.call(request.body(gzipped(b"{}"))).await.assert_problem(415, "unsupported_media_type");
    }
    app.stop().await;
}

#[tokio::test]
async fn hostile_api_body_is_rejected() {
    let app = TestApp::start_with(Database::Sqlite, &[("--throttle-per-minute", "6000")]).await;
    let token = app.token("acme");
    let deep = "[".repeat(8000) + &"]".repeat(8000);
    let digits = "9".repeat(16_000);
    let mut invalid_utf8 = br#"{"return_path":"/x"}"#.to_vec();
    invalid_utf8[17] = 0xff;
    for route in [PORTAL, CHECKOUT] {
        for body in [
            deep.clone().into_bytes(),
            format!(r#"{{"return_path":{}}}"#, "[".repeat(7000) + &"]".repeat(7000)).into_bytes(),
            digits.clone().into_bytes(),
            format!(r#"{{"plan":{}}}"#, &digits[..15_000]).into_bytes(),
            r#"{"plan":1e99999}"#.into(),
            invalid_utf8.clone(),
            "\u{feff}{}".into(),
            "{}{}".into(),
            r#"{"plan":"\ud800"}"#.into(),
        ] {
            let request = app.request(Method::POST, route).bearer_auth(&token);
            let request = request.header("Content-Type", "application/json").body(body);
            app.call(request).await.assert_problem(400, "invalid_request");
        }
        assert!(sent(&app, route).await.is_empty());
    }
    app.stop().await;
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let piped = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut gzip = piped.expect("gzip runs");
    let mut stdin = gzip.stdin.take().expect("stdin is piped");
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = gzip.wait_with_output().expect("gzip exits");
    writing.join().expect("the writer thread ends").expect("gzip reads its input");
    output.stdout
}
