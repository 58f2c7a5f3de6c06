//! Bodies that are made to hurt whoever reads them.

use std::io::Write;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::checkout::return_paths::{CHECKOUT, PORTAL, sent};
use crate::support::app::{TestApp, WEBHOOK_SECRET, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::webhooks::webhook_admission::{WEBHOOK, is_known, post_signed};

on_both_databases!(however_weird_a_signed_body_is_it_is_taken_whole_or_refused_loudly);

/// Bytes that are signed, and may yet hurt: each is kept byte for byte, or Stripe is told that it is no event, and so is
/// whoever reads the log.
async fn however_weird_a_signed_body_is_it_is_taken_whole_or_refused_loudly(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
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
    let weird: Vec<Vec<u8>> = [
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
    for (number, body) in weird.iter().enumerate() {
        post_signed(&app, body, &[]).await.ok();
        let id = format!("evt_weird{number}");
        let (outcome, _) = app.outcome(&id).await.expect("it is in the inbox");
        assert_ne!(outcome, "quarantined", "{id}");
        assert_eq!(app.payload_of(&json!({ "id": id })).await.as_ref(), Some(body), "the bytes that came");
    }

    let good = event(99, r#""id":"sub_11","status":"active""#);
    let mut no_text = good.clone().into_bytes();
    let id = good.find("evt_").expect("an id");
    no_text[id + 4] = 0xff;
    let refused: [Vec<u8>; 8] = [
        no_text,
        format!("\u{feff}{good}").into_bytes(),
        good.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        format!("{good}{good}").into_bytes(),
        format!("[{good}]").into_bytes(),
        deep.clone().into_bytes(),
        good.replace("\"id\":\"evt_", "\"id\":\"evt_other\",\"id\":\"evt_").into_bytes(),
        gzipped(good.as_bytes()),
    ];
    for body in &refused {
        let before = app.lines("webhook_signatures").len();
        post_signed(&app, body, &[]).await.assert_is(400, "unreadable_event");
        let told = app.lines("webhook_signatures").split_off(before);
        let loud = |line: &Value| line["reason"] == "unreadable_event" && line["level"] == "error";
        assert!(told.iter().any(loud), "{told:?}");
    }
    assert!(!is_known(&app, &json!({ "id": "evt_weird99" })).await);
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}

/// A body is its bytes, whatever a header says they are.
#[tokio::test]
async fn what_is_compressed_is_not_unpacked() {
    let app = TestApp::start(Database::Sqlite).await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let plain = event.to_string().into_bytes();
    let coded = [("Content-Encoding", "gzip")];
    // Signed as it was before somebody compressed it: these are not the bytes that were signed.
    let of_plain = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), &plain);
    let request = app.request(Method::POST, WEBHOOK).header("Stripe-Signature", of_plain);
    let request = request.header("Content-Encoding", "gzip").body(gzipped(&plain));
    app.call(request).await.assert_is(400, "invalid_signature");
    post_signed(&app, &gzipped(&plain), &coded).await.assert_is(400, "unreadable_event");
    let bomb = gzipped(&vec![b' '; 256 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024, "it is a bomb");
    post_signed(&app, &bomb, &coded).await.assert_is(400, "unreadable_event");
    post_signed(&app, &plain, &coded).await.ok();
    assert!(is_known(&app, &event).await, "the signature tells, and a proxy may have left the header");

    let token = app.token("acme");
    for coding in ["gzip", "br", "gzip, identity", "x"] {
        let request = app.request(Method::POST, CHECKOUT).bearer_auth(&token);
        let request = request.header("Content-Type", "application/json").header("Content-Encoding", coding);
        app.call(request.body(gzipped(b"{}"))).await.assert_is(415, "unsupported_media_type");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_users_body_that_is_made_to_hurt_is_refused() {
    let app = TestApp::start_with(Database::Sqlite, &[("--throttle-per-minute", "6000")]).await;
    let token = app.token("acme");
    let deep = "[".repeat(8000) + &"]".repeat(8000);
    let digits = "9".repeat(16_000);
    let mut no_text = br#"{"return_path":"/x"}"#.to_vec();
    no_text[17] = 0xff;
    for route in [PORTAL, CHECKOUT] {
        for body in [
            deep.clone().into_bytes(),
            format!(r#"{{"return_path":{}}}"#, "[".repeat(7000) + &"]".repeat(7000)).into_bytes(),
            digits.clone().into_bytes(),
            format!(r#"{{"plan":{}}}"#, &digits[..15_000]).into_bytes(),
            r#"{"plan":1e99999}"#.into(),
            no_text.clone(),
            "\u{feff}{}".into(),
            "{}{}".into(),
            r#"{"plan":"\ud800"}"#.into(),
        ] {
            let request = app.request(Method::POST, route).bearer_auth(&token);
            let request = request.header("Content-Type", "application/json").body(body);
            app.call(request).await.assert_is(400, "invalid_request");
        }
        assert!(sent(&app, route).await.is_empty());
    }
    app.stop().await;
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let piped = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut gzip = piped.expect("gzip runs");
    let mut to = gzip.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || to.write_all(&bytes));
    let output = gzip.wait_with_output().expect("gzip ends");
    writing.join().expect("joined").expect("gzip reads");
    output.stdout
}
