//! Receiving events: verification, storing, linking, batches, ordering.

use std::process::{Command, Stdio};

use futures_util::future::Either;
use sea_orm::{SqliteTransactionMode, TransactionOptions, TransactionTrait};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::{NEWER_BY_SECONDS, TestApp, WEBHOOK_SECRET, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    stripe_sdk_signature_is_accepted_and_changed_byte_rejected,
    repeated_event_is_duplicate_and_changes_nothing,
    events_of_unknown_customer_are_parked_until_session_links_it,
    parked_events_are_applied_when_operator_links_customer,
    event_failing_in_a_batch_does_not_affect_others,
    replicas_given_same_events_apply_each_once,
    duplicate_and_reordered_deliveries_reach_same_state,
    client_reference_links_only_when_trusted,
    failed_payment_and_expired_session_close_checkout,
    unused_event_type_is_stored_without_payload,
    event_of_other_mode_or_account_is_quarantined,
    concurrent_events_are_each_applied_once,
    same_second_events_are_ordered_by_previous_attributes,
    customer_deleted_event_ends_subscriptions_and_frees_tenant,
    event_with_unreadable_object_is_stored_as_failed,
    invoice_events_set_and_clear_payment_problem,
);

async fn stripe_sdk_signature_is_accepted_and_changed_byte_rejected(database: Database) {
    let app = TestApp::start(database).await;
    let body = stripe_event("charge.succeeded", app.clock_seconds(), |_| {}).to_string().into_bytes();
    let header = signed_by_stripes_sdk(&body);

    let mut changed = body.clone();
    let last_digit = changed.iter().rposition(u8::is_ascii_digit).expect("a digit");
    changed[last_digit] ^= 1;
    app.post_webhook(changed, Some(&header)).await.assert_problem(400, "invalid_signature");
    assert_eq!(app.post_webhook(body, Some(&header)).await.ok(), json!({ "received": true }));

    let logged: Vec<(Value, Value)> = app
        .lines("webhook_signatures")
        .into_iter()
        .map(|line| (line["event"].clone(), line["reason"].clone()))
        .collect();
    assert_eq!(logged[0], (json!("signature.rejected"), json!("no_match")));
    assert_eq!(logged[1].0, "signature.accepted");
    app.stop().await;
}

async fn repeated_event_is_duplicate_and_changes_nothing(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let event =
        stripe_event("customer.subscription.updated", app.clock_seconds() + NEWER_BY_SECONDS, |object| {
            object["id"] = json!(subscription);
            object["status"] = json!("past_due");
        });
    let event = app.for_customer_of("acme", event).await;
    for _ in 0..3 {
        app.deliver(&event).await.ok();
    }
    let is_this_event = |line: &Value| line["stripe_event_id"] == event["id"];
    let outcomes: Vec<Value> = app
        .lines("subscription_state")
        .into_iter()
        .filter(|line| is_this_event(line) && !line["outcome"].is_null())
        .map(|line| line["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["applied", "duplicate", "duplicate"]);
    let duplicate = app
        .wait_for_line("subscription_state", |line| is_this_event(line) && line["outcome"] == "duplicate")
        .await;
    assert_eq!(duplicate["tenant_id"], "acme");
    app.stop().await;
}

async fn events_of_unknown_customer_are_parked_until_session_links_it(database: Database) {
    let app = TestApp::start(database).await;
    let created = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    let updated = stripe_event("customer.subscription.updated", app.clock_seconds() + 5, |object| {
        object["status"] = json!("past_due");
    });
    app.deliver(&created).await.ok();
    app.deliver(&updated).await.ok();
    assert_eq!(app.outcome_of(&created).await, ("parked".into(), Some("unknown_customer".into())));

    // A completed session for the same customer names the tenant.
    let session = json!({
        "id": "cs_test_foreign", "object": "checkout.session", "customer": "cus_webhook", "mode": "subscription",
        "subscription": "sub_webhook", "payment_status": "paid", "metadata": { "tenant_id": "acme" },
    });
    let completed = stripe_event("checkout.session.completed", app.clock_seconds() + 6, |object| {
        *object = session.clone();
    });
    app.deliver(&completed).await.ok();

    let response = app.subscription(&app.token("acme")).await.ok();
    assert_eq!((&response["plan"], &response["status"]), (&json!("pro"), &json!("past_due")));
    assert_eq!(app.outcome_of(&created).await.0, "applied");
    assert_eq!(app.outcome_of(&updated).await.0, "applied");
    app.stop().await;
}

async fn parked_events_are_applied_when_operator_links_customer(database: Database) {
    let app = TestApp::start(database).await;
    let created = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    app.deliver(&created).await.ok();
    assert_eq!(app.outcome_of(&created).await.0, "parked");

    let linked = app.run_command(&["tenant", "link", "acme", "cus_webhook"]);
    assert!(linked.status.success(), "{linked:?}");
    assert_eq!(app.outcome_of(&created).await.0, "applied");
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    let shown = app.run_command(&["tenant", "show", "acme", "--json"]);
    let mut shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    // The command has no user, so `may_manage` is false there.
    shown["subscription"]["may_manage"] = json!(true);
    assert_eq!(shown["subscription"], app.subscription(&app.token("acme")).await.ok());
    app.stop().await;
}

async fn event_failing_in_a_batch_does_not_affect_others(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    app.database.reject_poisoned_subscriptions().await;
    let mut events = Vec::new();
    for number in 0..20 {
        let event = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
            object["id"] = json!(format!("sub_{number}"));
            object["status"] = json!(if number == 7 { "poisoned" } else { "active" });
        });
        events.push(app.for_customer_of("acme", event).await);
    }
    let responses = app.deliver_all(&events).await;
    assert!(responses.iter().all(|response| response.status == 200), "Stripe gets 2xx for each event");
    for (number, event) in events.iter().enumerate() {
        let expected = if number == 7 { "failed" } else { "applied" };
        assert_eq!(app.outcome_of(event).await.0, expected, "event {number}");
    }
    assert!(app.payload_of(&events[7]).await.is_some(), "the payload is kept for a retry");
    app.wait_for_line("subscription_state", |line| {
        line["event"] == "event.failed" && line["level"] == "warn"
    })
    .await;
    app.stop().await;
}

async fn replicas_given_same_events_apply_each_once(database: Database) {
    let mut app = TestApp::start(database).await;
    let replica = app.start_replica().await;
    app.subscribe_to_pro("acme").await;
    let mut events = Vec::new();
    for number in 0..40_i64 {
        let event =
            stripe_event("customer.subscription.updated", app.clock_seconds() + 10 + number, |object| {
                object["id"] = json!(format!("sub_{}", number % 4));
                object["items"]["data"][0]["quantity"] = json!(number + 2);
            });
        events.push(app.for_customer_of("acme", event).await);
    }
    let here = events.iter().map(|event| app.deliver(event));
    let there = events.iter().rev().map(|event| app.deliver_at(&replica, event));
    let responses =
        futures_util::future::join_all(here.map(Either::Left).chain(there.map(Either::Right))).await;
    assert!(responses.iter().all(|response| response.status == 200));

    let count = |outcome: &'static str| {
        let is = move |line: &&Value| {
            line["outcome"] == outcome && line["stripe_event_type"] == "customer.subscription.updated"
        };
        app.lines("subscription_state").iter().filter(is).count()
    };
    assert_eq!((count("duplicate"), count("applied") + count("stale")), (40, 40));
    for number in 0..4 {
        assert_eq!(app.quantity_of(&format!("sub_{number}")).await, 38 + number, "the newest wins");
    }
    app.stop().await;
}

async fn duplicate_and_reordered_deliveries_reach_same_state(database: Database) {
    for trouble in ["duplicate", "reorder"] {
        let app = TestApp::start(database).await;
        app.stripe.inject_fault(&json!({ "deliveries": trouble })).await;
        let subscription = app.subscribe_to_pro("acme").await;
        app.stripe.update_subscription(&subscription, &json!({ "status": "past_due" })).await;
        app.wait_for_subscription("acme", |subscription| subscription["status"] == "past_due").await;
        app.stripe.update_subscription(&subscription, &json!({ "status": "canceled" })).await;
        app.wait_for_subscription("acme", |subscription| {
            subscription["plan"] == "free" && subscription["status"] == "canceled"
        })
        .await;
        app.stop().await;
    }
}

async fn client_reference_links_only_when_trusted(database: Database) {
    for (trust, outcome, plan) in [("false", "parked", "free"), ("true", "applied", "pro")] {
        let app = TestApp::start_with(database, &[("--trust-client-reference", trust)]).await;
        let created = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
        let completed = stripe_event("checkout.session.completed", app.clock_seconds(), |object| {
            *object = json!({
                "id": "cs_test_link", "object": "checkout.session", "customer": "cus_webhook",
                "subscription": "sub_webhook", "payment_status": "paid", "client_reference_id": "acme",
            });
        });
        app.deliver(&created).await.ok();
        app.deliver(&completed).await.ok();
        assert_eq!(app.outcome_of(&completed).await.0, outcome);
        assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], plan);
        app.stop().await;
    }
}

async fn failed_payment_and_expired_session_close_checkout(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let delayed = app.check_out(&token, &json!({})).await.ok();
    let delayed = delayed["session_id"].as_str().expect("a session");
    app.stripe.pay_with(delayed, "delayed").await;
    app.stripe.settle(delayed, false).await;
    app.wait_for_checkout(delayed, "payment_failed").await;
    assert_eq!(app.subscription(&token).await.ok()["plan"], "free");

    let token = app.token("birch");
    let expired = app.check_out(&token, &json!({})).await.ok();
    let expired = expired["session_id"].as_str().expect("a session");
    app.stripe.api("POST", &format!("/v1/checkout/sessions/{expired}/expire"), "").await;
    app.wait_for_checkout(expired, "expired").await;
    let next = app.check_out(&token, &json!({})).await.ok();
    assert_ne!(next["session_id"], expired);
    app.stop().await;
}

async fn unused_event_type_is_stored_without_payload(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await, ("ignored".into(), Some("type_not_used".into())));
    assert_eq!(app.payload_of(&event).await, None);
    app.stop().await;
}

async fn event_of_other_mode_or_account_is_quarantined(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let base = stripe_event("customer.subscription.deleted", app.clock_seconds() + 9, |_| {});
    let base = app.for_customer_of("acme", base).await;
    let foreign = |id: &str, member: &str, value: Value| {
        let mut event = base.clone();
        event["id"] = json!(id);
        event[member] = value;
        event
    };
    let live = foreign("evt_live", "livemode", json!(true));
    app.deliver(&live).await.ok();
    assert_eq!(app.outcome_of(&live).await, ("quarantined".into(), Some("foreign_mode".into())));
    let of_other_account = foreign("evt_other", "account", json!("acct_other"));
    app.deliver(&of_other_account).await.ok();
    // It is retried once the service knows its own account, which it fetches after the start.
    eventually("the event is known to be another account's", || async {
        let outcome = app.outcome_of(&of_other_account).await;
        (outcome == ("quarantined".into(), Some("foreign_account".into()))).then_some(())
    })
    .await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}

async fn concurrent_events_are_each_applied_once(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let mut deliveries = Vec::new();
    for number in 0..100_i64 {
        let event =
            stripe_event("customer.subscription.updated", app.clock_seconds() + 10 + number, |object| {
                object["id"] = json!("sub_many");
                object["items"]["data"][0]["quantity"] = json!(number + 2);
            });
        let event = app.for_customer_of("acme", event).await;
        deliveries.push(event.clone());
        deliveries.push(event);
    }
    let responses = app.deliver_all(&deliveries).await;
    assert!(responses.iter().all(|response| response.status == 200));

    let mut outcomes = std::collections::BTreeMap::<String, usize>::new();
    for line in app.lines("subscription_state") {
        let many = line["subscription_id"] == "sub_many" && !line["outcome"].is_null();
        if let (true, Some(outcome)) = (many, line["outcome"].as_str()) {
            *outcomes.entry(outcome.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(outcomes.values().sum::<usize>(), 200, "{outcomes:?}");
    assert_eq!(outcomes["duplicate"], 100, "{outcomes:?}");
    let quantity = app.quantity_of("sub_many").await;
    assert_eq!(quantity, 101, "the newest wins, whatever the order of arrival");
    app.stop().await;
}

async fn same_second_events_are_ordered_by_previous_attributes(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let second = app.clock_seconds() + 10;
    let statuses = ["incomplete", "active", "past_due", "unpaid"];
    let mut chain = Vec::new();
    for (position, status) in statuses.into_iter().enumerate() {
        let kind = if position == 0 { "created" } else { "updated" };
        let mut event = stripe_event(&format!("customer.subscription.{kind}"), second, |object| {
            object["status"] = json!(status);
        });
        if position > 0 {
            event["data"]["previous_attributes"] = json!({ "status": statuses[position - 1] });
        }
        chain.push(app.for_customer_of("acme", event).await);
    }
    for (number, order) in [[3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]].into_iter().enumerate() {
        let id = format!("sub_order{number}");
        for position in order {
            let mut event = chain[position].clone();
            event["id"] = json!(format!("evt_order{number}x{position}"));
            event["data"]["object"]["id"] = json!(id);
            app.deliver(&event).await.ok();
        }
        assert_eq!(app.status_of(&id).await, "unpaid", "{order:?}");
    }
    app.stop().await;
}

async fn customer_deleted_event_ends_subscriptions_and_frees_tenant(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    let ended = app
        .wait_for_subscription("acme", |subscription| {
            subscription["plan"] == "free" && subscription["can_manage"] == false
        })
        .await;
    assert_eq!(ended["status"], "canceled");
    app.wait_for_line("subscription_state", |line| line["event"] == "customer.unlinked").await;

    let later_event = stripe_event("customer.subscription.updated", app.clock_seconds() + 99, |object| {
        object["customer"] = json!(customer);
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&later_event).await.ok();
    assert_eq!(app.outcome_of(&later_event).await, ("stale".into(), Some("customer_deleted".into())));

    app.open_portal(&app.token("acme"), &json!({})).await.assert_problem(409, "no_customer");
    app.subscribe_to_pro("acme").await;
    assert_ne!(app.customer_of("acme").await, customer, "the next checkout creates another customer");
    app.stop().await;
}

async fn event_with_unreadable_object_is_stored_as_failed(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        *object = json!({ "id": "sub_webhook", "customer": "cus_webhook" });
    });
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "failed");
    assert_eq!(
        app.payload_of(&event).await,
        Some(event.to_string().into_bytes()),
        "the body is stored unchanged"
    );
    app.stop().await;
}

async fn invoice_events_set_and_clear_payment_problem(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    for (kind, problem) in [
        ("invoice.payment_failed", Some("payment_failed")),
        ("invoice.payment_action_required", Some("payment_action_required")),
        ("invoice.paid", None),
    ] {
        let invoice = stripe_event(kind, app.clock_seconds() + NEWER_BY_SECONDS, |object| {
            *object = json!({
                "id": "in_1", "object": "invoice", "customer": customer,
                "parent": { "subscription_details": { "subscription": subscription } },
            });
        });
        app.deliver(&invoice).await.ok();
        assert_eq!(app.payment_problem_of(&subscription).await.as_deref(), problem);
    }
    assert_eq!(
        app.subscription(&app.token("acme")).await.ok()["status"],
        "active",
        "an invoice changes no status"
    );
    app.stop().await;
}

#[tokio::test]
async fn signature_rejections_are_logged_with_reason() {
    let app = TestApp::start(Database::Sqlite).await;
    let body = stripe_event("charge.succeeded", app.clock_seconds(), |_| {}).to_string().into_bytes();
    let now = app.clock_seconds();
    let sign = |secret: &str, at: i64| sandbox::sign(secret, at, &body);
    let v0_only = sign(WEBHOOK_SECRET, now).replace("v1=", "v0=");
    for (header, reason) in [
        (None, "missing"),
        (Some("nonsense".to_owned()), "malformed"),
        (Some(v0_only), "malformed"),
        (Some(sign("whsec_another", now)), "no_match"),
        (Some(sign(WEBHOOK_SECRET, now - 301)), "too_old"),
    ] {
        let response = app.post_webhook(body.clone(), header.as_deref()).await;
        response.assert_problem(400, "invalid_signature");
        let line = app.lines("webhook_signatures").pop().expect("a line");
        assert_eq!((&line["event"], &line["reason"]), (&json!("signature.rejected"), &json!(reason)));
        assert_eq!(line["trace_id"], response.json()["trace_id"]);
        if reason == "too_old" {
            assert_eq!(line["skew_seconds"], 301);
        }
    }
    app.post_webhook(body.clone(), Some(&sign(WEBHOOK_SECRET, now - 300))).await.ok();
    app.post_webhook(body.clone(), Some(&sign(WEBHOOK_SECRET, now + 3600))).await.ok();
    let future = app.lines("webhook_signatures").pop().expect("a line");
    assert_eq!((&future["level"], &future["reason"]), (&json!("warn"), &json!("future_timestamp")));
    app.stop().await;
}

#[tokio::test]
async fn both_secrets_verify_during_a_roll_and_are_logged_by_name() {
    let both = ("--stripe-webhook-secret", "new=whsec_new,whsec_old");
    let app = TestApp::start_with(Database::Sqlite, &[both]).await;
    for (name, secret) in [("2", "whsec_old"), ("new", "whsec_new")] {
        let body = stripe_event("charge.succeeded", app.clock_seconds(), |_| {}).to_string().into_bytes();
        let header = sandbox::sign(secret, app.clock_seconds(), &body);
        app.post_webhook(body, Some(&header)).await.ok();
        let line = app.lines("webhook_signatures").pop().expect("a line");
        assert_eq!(line["secret_name"], name);
        assert!(
            app.metrics()
                .await
                .contains(&format!("billhook_webhook_verified_total{{secret_name=\"{name}\"}} 1"))
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn signed_body_that_is_no_event_is_rejected() {
    let app = TestApp::start(Database::Sqlite).await;
    for body in
        ["", "[]", "null", "{}", "not json", r#"{"id":"evt_1"}"#, r#"{"id":"x","type":"a.b","created":1}"#]
    {
        let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
        app.post_webhook(body.into(), Some(&header)).await.assert_problem(400, "unreadable_event");
    }
    let thin = json!({
        "id": "evt_thin", "object": "v2.core.event", "type": "v1.customer.subscription.updated",
        "created": "2026-11-23T00:00:00.000Z", "related_object": { "id": "sub_1" },
    });
    app.deliver(&thin).await.ok();
    assert_eq!(app.outcome_of(&thin).await, ("ignored".into(), Some("thin_event".into())));
    app.stop().await;
}

#[tokio::test]
async fn body_over_1_mib_is_too_large() {
    let app = TestApp::start(Database::Sqlite).await;
    let forged = app.forged_signature();
    app.post_webhook(vec![b' '; 1024 * 1024 + 1], Some(&forged)).await.assert_problem(413, "too_large");
    let response = send_oversized_chunked_body(&app.url, &forged).await;
    assert!(response.starts_with("HTTP/1.1 413 ") && response.contains("too_large"), "{response}");
    app.stop().await;
}

#[tokio::test]
async fn missing_webhook_secret_returns_503() {
    let app = TestApp::start_with(Database::Sqlite, &[("--stripe-webhook-secret", "")]).await;
    let response = app.deliver(&stripe_event("charge.succeeded", app.clock_seconds(), |_| {})).await;
    response.assert_problem(503, "billing_not_configured");
    assert!(response.header("retry-after").is_some());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_is_stored_although_client_disconnects() {
    let app = TestApp::start(Database::Sqlite).await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let connection = app.database.connect().await;
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let lock = connection.begin_with_options(options).await.expect("the write lock");
    send_and_hang_up(&app, &event).await;
    assert_eq!(app.outcome(id_of(&event)).await, None);

    lock.rollback().await.expect("the lock is released");
    let (outcome, _) = eventually("the event is stored", || app.outcome(id_of(&event))).await;
    assert_eq!(outcome, "ignored");
    connection.close().await.expect("the connection closes");
    app.stop().await;
}

async fn send_and_hang_up(app: &TestApp, event: &Value) {
    let body = event.to_string();
    let signature = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
    let address = app.url.trim_start_matches("http://");
    let request = format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: {address}\r\nStripe-Signature: {signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
}

fn id_of(event: &Value) -> &str {
    event["id"].as_str().expect("an id")
}

/// Sends just over 1 MiB in chunks, or less if the service stops reading. Returns the response.
async fn send_oversized_chunked_body(url: &str, signature: &str) -> String {
    let address = url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "POST /api/billing/webhook/ HTTP/1.1\r\nHost: {address}\r\nStripe-Signature: {signature}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..17 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    // The service may reset the connection before the response is read completely.
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    String::from_utf8_lossy(&response).into_owned()
}

fn signed_by_stripes_sdk(body: &[u8]) -> String {
    use std::io::Write;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sandbox/honesty/sign.mjs");
    let mut node = Command::new("node")
        .args([script, WEBHOOK_SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    node.stdin.take().expect("stdin is piped").write_all(body).expect("node reads its input");
    let output = node.wait_with_output().expect("node exits");
    assert!(output.status.success(), "Stripe's SDK is installed: run the tests with `make test`");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
