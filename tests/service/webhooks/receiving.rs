//! Taking events from Stripe.

use std::process::{Command, Stdio};

use futures_util::future::Either;
use sea_orm::{SqliteTransactionMode, TransactionOptions, TransactionTrait};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::{LATER, TestApp, WEBHOOK_SECRET, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(
    a_request_signed_by_stripes_own_sdk_is_accepted_and_a_flipped_byte_is_not,
    a_repeat_is_known_and_changes_nothing,
    events_of_a_customer_that_no_tenant_has_wait_for_it,
    events_that_wait_are_applied_when_the_operator_links_their_customer,
    a_poisoned_event_is_kept_as_failed_and_harms_no_neighbour,
    replicas_that_are_given_the_same_events_apply_each_once,
    doubled_and_reordered_deliveries_come_to_the_same,
    a_client_reference_links_only_where_it_is_trusted,
    a_failed_payment_and_an_expired_session_close_their_checkouts,
    a_type_of_no_use_is_taken_without_its_payload,
    another_mode_or_account_is_quarantined,
    many_events_at_once_are_each_applied_once,
    events_of_one_second_are_settled_by_what_they_replaced_in_whatever_order_they_come,
    a_deleted_customer_ends_its_subscriptions_and_frees_its_tenant,
    an_object_that_cannot_be_read_is_kept_as_failed,
    an_invoice_notes_a_payment_problem_and_its_end,
);

async fn a_request_signed_by_stripes_own_sdk_is_accepted_and_a_flipped_byte_is_not(database: Database) {
    let app = TestApp::start(database).await;
    let body = stripe_event("charge.succeeded", app.clock_seconds(), |_| {}).to_string().into_bytes();
    let header = signed_by_stripes_sdk(&body);

    let mut flipped = body.clone();
    let last_digit = flipped.iter().rposition(u8::is_ascii_digit).expect("a digit");
    flipped[last_digit] ^= 1;
    app.post_webhook(flipped, Some(&header)).await.assert_is(400, "invalid_signature");
    assert_eq!(app.post_webhook(body, Some(&header)).await.ok(), json!({ "received": true }));

    let told: Vec<(Value, Value)> = app
        .lines("webhook_signatures")
        .into_iter()
        .map(|line| (line["event"].clone(), line["reason"].clone()))
        .collect();
    assert_eq!(told[0], (json!("signature.rejected"), json!("no_match")));
    assert_eq!(told[1].0, "signature.accepted");
    app.stop().await;
}

async fn a_repeat_is_known_and_changes_nothing(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let event = stripe_event("customer.subscription.updated", app.clock_seconds() + LATER, |object| {
        object["id"] = json!(subscription);
        object["status"] = json!("past_due");
    });
    let event = app.for_customer_of("acme", event).await;
    for _ in 0..3 {
        app.deliver(&event).await.ok();
    }
    let of_this = |line: &Value| line["stripe_event_id"] == event["id"];
    let outcomes: Vec<Value> = app
        .lines("subscription_state")
        .into_iter()
        .filter(|line| of_this(line) && !line["outcome"].is_null())
        .map(|line| line["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["applied", "duplicate", "duplicate"]);
    let duplicate =
        app.line("subscription_state", |line| of_this(line) && line["outcome"] == "duplicate").await;
    assert_eq!(duplicate["tenant_id"], "acme");
    app.stop().await;
}

async fn events_of_a_customer_that_no_tenant_has_wait_for_it(database: Database) {
    let app = TestApp::start(database).await;
    let created = stripe_event("customer.subscription.created", app.clock_seconds(), |_| {});
    let updated = stripe_event("customer.subscription.updated", app.clock_seconds() + 5, |object| {
        object["status"] = json!("past_due");
    });
    app.deliver(&created).await.ok();
    app.deliver(&updated).await.ok();
    assert_eq!(app.outcome_of(&created).await, ("parked".into(), Some("unknown_customer".into())));

    // A completed session of ours, for the same customer, names the tenant.
    let session = json!({
        "id": "cs_test_foreign", "object": "checkout.session", "customer": "cus_webhook", "mode": "subscription",
        "subscription": "sub_webhook", "payment_status": "paid", "metadata": { "tenant_id": "acme" },
    });
    let completed = stripe_event("checkout.session.completed", app.clock_seconds() + 6, |object| {
        *object = session.clone();
    });
    app.deliver(&completed).await.ok();

    let answer = app.subscription(&app.token("acme")).await.ok();
    assert_eq!((&answer["plan"], &answer["status"]), (&json!("pro"), &json!("past_due")));
    assert_eq!(app.outcome_of(&created).await.0, "applied");
    assert_eq!(app.outcome_of(&updated).await.0, "applied");
    app.stop().await;
}

async fn events_that_wait_are_applied_when_the_operator_links_their_customer(database: Database) {
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
    // That is said of whoever asks, and nobody asks here.
    shown["subscription"]["may_manage"] = json!(true);
    assert_eq!(shown["subscription"], app.subscription(&app.token("acme")).await.ok());
    app.stop().await;
}

async fn a_poisoned_event_is_kept_as_failed_and_harms_no_neighbour(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    app.database.poison().await;
    let mut events = Vec::new();
    for number in 0..20 {
        let event = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
            object["id"] = json!(format!("sub_{number}"));
            object["status"] = json!(if number == 7 { "poisoned" } else { "active" });
        });
        events.push(app.for_customer_of("acme", event).await);
    }
    let answers = app.deliver_all(&events).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "Stripe's endpoint keeps its health");
    for (number, event) in events.iter().enumerate() {
        let expected = if number == 7 { "failed" } else { "applied" };
        assert_eq!(app.outcome_of(event).await.0, expected, "event {number}");
    }
    assert!(app.payload_of(&events[7]).await.is_some(), "it can be tried again");
    app.line("subscription_state", |line| line["event"] == "event.failed" && line["level"] == "warn").await;
    app.stop().await;
}

async fn replicas_that_are_given_the_same_events_apply_each_once(database: Database) {
    let mut app = TestApp::start(database).await;
    let replica = app.start_replica().await;
    app.make_pro("acme").await;
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
    let answers =
        futures_util::future::join_all(here.map(Either::Left).chain(there.map(Either::Right))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));

    let told = |outcome: &'static str| {
        let is = move |line: &&Value| {
            line["outcome"] == outcome && line["stripe_event_type"] == "customer.subscription.updated"
        };
        app.lines("subscription_state").iter().filter(is).count()
    };
    assert_eq!((told("duplicate"), told("applied") + told("stale")), (40, 40));
    for number in 0..4 {
        assert_eq!(app.quantity_of(&format!("sub_{number}")).await, 38 + number, "the newest stands");
    }
    app.stop().await;
}

async fn doubled_and_reordered_deliveries_come_to_the_same(database: Database) {
    for trouble in ["duplicate", "reorder"] {
        let app = TestApp::start(database).await;
        app.stripe.fault(&json!({ "deliveries": trouble })).await;
        let subscription = app.make_pro("acme").await;
        app.stripe.change(&subscription, &json!({ "status": "past_due" })).await;
        app.until("acme", |answer| answer["status"] == "past_due").await;
        app.stripe.change(&subscription, &json!({ "status": "canceled" })).await;
        app.until("acme", |answer| answer["plan"] == "free" && answer["status"] == "canceled").await;
        app.stop().await;
    }
}

async fn a_client_reference_links_only_where_it_is_trusted(database: Database) {
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

async fn a_failed_payment_and_an_expired_session_close_their_checkouts(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    let delayed = app.check_out(&token, &json!({})).await.ok();
    let delayed = delayed["session_id"].as_str().expect("a session");
    app.stripe.pay_with(delayed, "delayed").await;
    app.stripe.settle(delayed, false).await;
    app.until_checkout(delayed, "payment_failed").await;
    assert_eq!(app.subscription(&token).await.ok()["plan"], "free");

    let token = app.token("birch");
    let expired = app.check_out(&token, &json!({})).await.ok();
    let expired = expired["session_id"].as_str().expect("a session");
    app.stripe.api("POST", &format!("/v1/checkout/sessions/{expired}/expire"), "").await;
    app.until_checkout(expired, "expired").await;
    let next = app.check_out(&token, &json!({})).await.ok();
    assert_ne!(next["session_id"], expired);
    app.stop().await;
}

async fn a_type_of_no_use_is_taken_without_its_payload(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await, ("ignored".into(), Some("type_not_used".into())));
    assert_eq!(app.payload_of(&event).await, None);
    app.stop().await;
}

async fn another_mode_or_account_is_quarantined(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
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
    // It is retried once the service knows its own account, which it asks for after the start.
    eventually("the event is known to be another account's", || async {
        let outcome = app.outcome_of(&of_other_account).await;
        (outcome == ("quarantined".into(), Some("foreign_account".into()))).then_some(())
    })
    .await;
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "pro");
    app.stop().await;
}

async fn many_events_at_once_are_each_applied_once(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
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
    let answers = app.deliver_all(&deliveries).await;
    assert!(answers.iter().all(|answer| answer.status == 200));

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
    assert_eq!(quantity, 101, "the newest stands, in whatever order they came");
    app.stop().await;
}

async fn events_of_one_second_are_settled_by_what_they_replaced_in_whatever_order_they_come(
    database: Database,
) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
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

async fn a_deleted_customer_ends_its_subscriptions_and_frees_its_tenant(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
    let ended = app.until("acme", |answer| answer["plan"] == "free" && answer["can_manage"] == false).await;
    assert_eq!(ended["status"], "canceled");
    app.line("subscription_state", |line| line["event"] == "customer.unlinked").await;

    let late = stripe_event("customer.subscription.updated", app.clock_seconds() + 99, |object| {
        object["customer"] = json!(customer);
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&late).await.ok();
    assert_eq!(app.outcome_of(&late).await, ("stale".into(), Some("customer_deleted".into())));

    app.open_portal(&app.token("acme"), &json!({})).await.assert_is(409, "no_customer");
    app.make_pro("acme").await;
    assert_ne!(app.customer_of("acme").await, customer, "the next generation is another customer");
    app.stop().await;
}

async fn an_object_that_cannot_be_read_is_kept_as_failed(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        *object = json!({ "id": "sub_webhook", "customer": "cus_webhook" });
    });
    app.deliver(&event).await.ok();
    assert_eq!(app.outcome_of(&event).await.0, "failed");
    assert_eq!(app.payload_of(&event).await, Some(event.to_string().into_bytes()), "the bytes that came");
    app.stop().await;
}

async fn an_invoice_notes_a_payment_problem_and_its_end(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    for (kind, problem) in [
        ("invoice.payment_failed", Some("payment_failed")),
        ("invoice.payment_action_required", Some("payment_action_required")),
        ("invoice.paid", None),
    ] {
        let invoice = stripe_event(kind, app.clock_seconds() + LATER, |object| {
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
async fn refusals_are_classified_in_the_log() {
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
        let refused = app.post_webhook(body.clone(), header.as_deref()).await;
        refused.assert_is(400, "invalid_signature");
        let line = app.lines("webhook_signatures").pop().expect("a line");
        assert_eq!((&line["event"], &line["reason"]), (&json!("signature.rejected"), &json!(reason)));
        assert_eq!(line["trace_id"], refused.json()["trace_id"]);
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
async fn while_a_secret_is_rolled_both_are_taken_and_told_apart() {
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
async fn what_is_signed_but_no_event_is_told_apart() {
    let app = TestApp::start(Database::Sqlite).await;
    for body in
        ["", "[]", "null", "{}", "not json", r#"{"id":"evt_1"}"#, r#"{"id":"x","type":"a.b","created":1}"#]
    {
        let header = sandbox::sign(WEBHOOK_SECRET, app.clock_seconds(), body.as_bytes());
        app.post_webhook(body.into(), Some(&header)).await.assert_is(400, "unreadable_event");
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
async fn a_body_beyond_a_megabyte_is_too_large() {
    let app = TestApp::start(Database::Sqlite).await;
    let forged = app.forged_signature();
    app.post_webhook(vec![b' '; 1024 * 1024 + 1], Some(&forged)).await.assert_is(413, "too_large");
    let answer = send_chunks_without_end(&app.url, &forged).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("too_large"), "{answer}");
    app.stop().await;
}

#[tokio::test]
async fn without_a_secret_stripe_is_asked_to_try_again() {
    let app = TestApp::start_with(Database::Sqlite, &[("--stripe-webhook-secret", "")]).await;
    let answer = app.deliver(&stripe_event("charge.succeeded", app.clock_seconds(), |_| {})).await;
    answer.assert_is(503, "billing_not_configured");
    assert!(answer.header("retry-after").is_some());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_stored_though_its_sender_hangs_up_while_the_database_is_busy() {
    let app = TestApp::start(Database::Sqlite).await;
    let event = stripe_event("invoice.upcoming", app.clock_seconds(), |_| {});
    let connection = app.database.connect().await;
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let busy = connection.begin_with_options(options).await.expect("the write lock");
    send_and_hang_up(&app, &event).await;
    assert_eq!(app.outcome(id_of(&event)).await, None);

    busy.rollback().await.expect("the lock is let go");
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

/// Sends a body of no announced length until the service has had enough, and reads what it says then.
async fn send_chunks_without_end(url: &str, signature: &str) -> String {
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
    // The service closes what it has had enough of, perhaps before all of it is read.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
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
    node.stdin.take().expect("a pipe").write_all(body).expect("node reads");
    let output = node.wait_with_output().expect("node ends");
    assert!(output.status.success(), "Stripe's SDK is installed: run the tests with `make test`");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
