//! A tenant that is erased for a data-protection request.

use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::operations::events::{json_of, told};
use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, Fresh, on_both_databases};

on_both_databases!(
    erased_tenant_is_named_nowhere_and_repeats_are_known,
    erasure_refuses_while_something_is_alive_at_stripe,
    erasure_leaves_a_customer_that_moved_to_another_tenant,
    erasure_leaves_what_a_tenant_keeps_of_a_customer_it_lost,
    erasure_of_a_moved_customer_leaves_its_former_tenant,
    erasure_leaves_events_of_another_deployments_tenant,
    erasure_generates_no_deployment_id,
    erasure_reports_log_files_it_cannot_read,
    refused_erasure_expires_no_checkout_session,
    interrupted_erasure_is_completed_by_the_next,
    checkout_in_progress_leaves_no_page_of_an_erased_customer,
    erasure_beside_running_replicas_leaves_no_name,
);

async fn erased_tenant_is_named_nowhere_and_repeats_are_known(database: Database) {
    let app = TestApp::start(database).await;
    let (subscription, customer) = cancelled(&app, "acme").await;
    app.make_pro("birch").await;
    let update = |id: &str| {
        stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
            object["id"] = json!(id);
            object["metadata"] = json!({ "tenant_id": "acme" });
        })
    };
    let known = app.for_customer_of("acme", update(&subscription)).await;
    app.deliver(&known).await.ok();
    // Another customer that says it is acme's, and whose events wait.
    let waiting = update("sub_waiting");
    app.deliver(&waiting).await.ok();
    assert_eq!(app.outcome_of(&waiting).await.0, "parked");
    app.stripe.create_old_customer("cus_webhook").await;
    app.until_nothing_is_asked().await;

    std::fs::write(app.log_dir().join("billing.log.9.gz"), "compressed").expect("written");

    let dry = json_of(&app, &["tenant", "erase", "acme", "--dry-run"]);
    assert_eq!((&dry["alias"], &dry["dry_run"]), (&Value::Null, &json!(true)));
    assert_eq!(app.customer_of("acme").await, customer, "a dry run changes nothing");
    let (code, _, err) = told(&app.run_command(&["tenant", "erase", "acme"]));
    assert_eq!((code, err.contains("--dry-run|--yes")), (Some(2), true), "{err}");

    let lines_before = app.lines("subscription_state").len();
    let erased = json_of(&app, &["tenant", "erase", "acme", "--yes"]);
    for counted in ["subscriptions", "checkouts", "events", "journal_entries", "customers", "log_files"] {
        assert_eq!(erased[counted], dry[counted], "{counted}");
    }
    assert_eq!((&erased["subscriptions"], &erased["checkouts"]), (&json!(1), &json!(1)));
    let mut customers = [customer.as_str(), "cus_webhook"];
    customers.sort_unstable();
    assert_eq!(erased["customers"], json!(customers));
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    assert_eq!(tables_naming(&app.database, &subscription).await, [""; 0]);
    assert_eq!(tables_naming(&app.database, &customer).await, ["customer"]);

    // What stays: the ids of the events, and the journal without names.
    let alias = erased["alias"].as_str().expect("an alias");
    let journal = app.database.rows::<entity::transition::Entity>().await;
    let entries = journal.iter().filter(|entry| entry.tenant_id == alias);
    assert_eq!(
        entries.count(),
        usize::try_from(erased["journal_entries"].as_u64().expect("a number")).expect("few") + 1
    );
    assert_eq!(app.outcome_of(&waiting).await, ("ignored".to_owned(), Some("tenant_erased".to_owned())));
    app.deliver(&known).await.ok();
    app.line("subscription_state", |line| {
        line["event"] == "event.duplicate" && line["stripe_event_id"] == known["id"]
    })
    .await;

    // Log files are listed as they are; the line of the erasure has no name.
    let files = erased["log_files"].as_array().expect("files");
    assert!(files.iter().any(|file| file["file"].as_str().is_some_and(|path| path.ends_with("billing.log"))));
    let is_unread = |file: &&Value| file["file"].as_str().is_some_and(|path| path.ends_with(".9.gz"));
    assert_eq!(files.iter().find(is_unread).expect("it is listed")["lines"], Value::Null);
    let line = app.line("subscription_state", |line| line["event"] == "tenant.erased").await;
    assert_eq!((&line["tenant_id"], &line["customer_id"]), (&json!(alias), &Value::Null));
    assert!(app.lines("subscription_state").len() > lines_before, "no line is deleted");

    // No event links its customer again, and nothing of it is kept.
    let mut later = update("sub_later");
    later["data"]["object"]["customer"] = json!(customer);
    app.deliver(&later).await.ok();
    assert_eq!(app.outcome_of(&later).await, ("stale".to_owned(), Some("customer_deleted".to_owned())));
    assert_eq!(app.payload_of(&later).await, None);
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    assert_eq!(app.subscription(&app.token("birch")).await.ok()["plan"], "pro");
    let (code, _, err) = told(&app.run_command(&["tenant", "link", "cedar", &customer]));
    assert_eq!((code, err.contains("or its tenant was erased")), (Some(1), true), "{err}");

    let (code, out, _) = told(&app.run_command(&["tenant", "erase", "acme", "--yes"]));
    assert_eq!((code, out.starts_with("Nothing is stored about tenant acme.\n")), (Some(0), true), "{out}");
    app.stop().await;
}

async fn erasure_refuses_while_something_is_alive_at_stripe(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    let refused = |words: &[&str], reason: &str| {
        let (code, _, err) = told(&app.run_command(&[&["tenant", "erase", "acme"], words].concat()));
        assert_eq!((code, err.contains(reason)), (Some(1), true), "{err}");
    };
    let alive = format!("not erased: {subscription} of {customer} is active; cancel it at Stripe first");
    refused(&["--yes"], &alive);
    refused(&["--dry-run"], &alive);
    // What was unlinked is not held here any more, and is alive all the same.
    assert!(app.run_command(&["tenant", "unlink", "acme"]).status.success());
    refused(&["--yes"], &alive);
    app.stripe.forget("customers", &customer).await;
    refused(&["--yes"], &format!("Stripe does not know {customer}"));
    let key = [("STRIPE_SECRET_KEY", "")];
    let (code, _, err) = told(&app.run_command_with(&["tenant", "erase", "acme", "--yes"], &key));
    assert_eq!((code, err.contains("STRIPE_SECRET_KEY is not set")), (Some(2), true), "{err}");
    let (code, out, err) =
        told(&app.run_command_with(&["tenant", "erase", "acme", "--yes", "--force"], &key));
    assert_eq!((code, out.starts_with("Erased tenant acme.")), (Some(0), true), "{out}{err}");
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);

    // A page on which the tenant could still pay is closed first.
    let bought = app.check_out(&app.token("birch"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    assert!(app.run_command(&["tenant", "erase", "birch", "--yes"]).status.success());
    let at_stripe = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    assert_eq!(at_stripe["status"], "expired");
    app.stop().await;
}

async fn erasure_leaves_a_customer_that_moved_to_another_tenant(database: Database) {
    let app = TestApp::start(database).await;
    app.make_pro("acme").await;
    let customer = app.customer_of("acme").await;
    assert!(app.run_command(&["tenant", "unlink", "acme"]).status.success());
    assert!(app.run_command(&["tenant", "link", "birch", &customer]).status.success());
    // The command left its question to Stripe by the machine's clock.
    app.clock.advance_seconds(60);
    app.until_plan("birch", "pro").await;
    app.until_nothing_is_asked().await;

    let erased = json_of(&app, &["tenant", "erase", "acme", "--yes"]);
    assert_eq!(erased["customers"], json!([]));
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    assert_eq!(app.subscription(&app.token("birch")).await.ok()["plan"], "pro");
    let event =
        app.for_customer_of("birch", stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await;
    app.deliver(&event).await.ok();
    assert_eq!(app.customer_of("birch").await, customer);
    app.stop().await;
}

async fn erasure_leaves_what_a_tenant_keeps_of_a_customer_it_lost(database: Database) {
    let app = TestApp::start(database).await;
    moved_and_cancelled(&app, "acme", "birch").await;
    app.check_out(&app.token("birch"), &json!({})).await.ok();
    let other = app.stripe.api("POST", "/v1/customers", "").await["id"].clone();
    let replace = ["tenant", "link", "birch", other.as_str().expect("an id"), "--replace"];
    let (code, _, err) = told(&app.run_command(&replace));
    assert_eq!(code, Some(0), "{err}");
    app.clock.advance_seconds(60);
    app.until_nothing_is_asked().await;

    let before = history_of(&app, "birch").await;
    let kept =
        ["subscription", "checkout", "journal"].map(|kind| before.iter().any(|row| row.starts_with(kind)));
    assert_eq!(kept, [true; 3], "{before:#?}");
    assert!(
        before.iter().any(|row| row.starts_with("event") && row.contains("payload: Some")),
        "{before:#?}"
    );
    let erased = json_of(&app, &["tenant", "erase", "acme", "--yes"]);
    assert_eq!(erased["customers"], json!([]));
    // The subscription's metadata in birch's own events names acme still.
    assert_eq!(tables_naming(&app.database, "acme").await, ["payload"]);
    assert_eq!(history_of(&app, "birch").await, before);
    app.stop().await;
}

async fn erasure_of_a_moved_customer_leaves_its_former_tenant(database: Database) {
    let app = TestApp::start(database).await;
    let customer = moved_and_cancelled(&app, "acme", "birch").await;
    let bought = app.check_out(&app.token("birch"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.until_nothing_is_asked().await;

    let before = history_of(&app, "acme").await;
    assert!(before.iter().any(|row| row.starts_with("checkout")), "{before:#?}");
    let erased = json_of(&app, &["tenant", "erase", "birch", "--yes"]);
    assert_eq!(erased["customers"], json!([customer]));
    assert_eq!(tables_naming(&app.database, "birch").await, [""; 0]);
    assert_eq!(history_of(&app, "acme").await, before);
    let at_stripe = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    assert_eq!(at_stripe["status"], "expired");
    // No event links it again.
    let later = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["customer"] = json!(customer);
        object["metadata"] = json!({ "tenant_id": "birch" });
    });
    app.deliver(&later).await.ok();
    assert_eq!(app.outcome_of(&later).await, ("stale".to_owned(), Some("customer_deleted".to_owned())));
    assert_eq!(tables_naming(&app.database, "birch").await, [""; 0]);
    app.stop().await;
}

async fn erasure_leaves_events_of_another_deployments_tenant(database: Database) {
    let app = TestApp::start(database).await;
    let purchase = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme", "deployment_id": "dev" });
    });
    app.deliver(&purchase).await.ok();
    let quarantined = ("quarantined".to_owned(), Some("foreign_deployment".to_owned()));
    assert_eq!(app.outcome_of(&purchase).await, quarantined);
    assert_eq!(json_of(&app, &["tenant", "erase", "acme", "--yes"])["events"], 0);
    assert_eq!(app.outcome_of(&purchase).await, quarantined);
    assert!(app.payload_of(&purchase).await.is_some());
    app.stop().await;
}

async fn erasure_generates_no_deployment_id(database: Database) {
    let app = TestApp::without_service(database, &[]).await;
    assert!(app.run_command(&["migrate"]).status.success());
    json_of(&app, &["tenant", "erase", "acme", "--yes"]);
    assert_eq!(app.database.rows::<entity::deployment::Entity>().await.len(), 0);
    app.stop().await;
}

async fn erasure_reports_log_files_it_cannot_read(database: Database) {
    let app = TestApp::start(database).await;
    cancelled(&app, "acme").await;
    cancelled(&app, "birch").await;
    // Opened like a file, it cannot be read.
    let unreadable = app.log_dir().join("billing.log.7");
    std::fs::create_dir(&unreadable).expect("created");
    let erase = |tenant: &str, logs: &str| {
        let words = ["tenant", "erase", tenant, "--yes", "--json"];
        let (code, out, err) = told(&app.run_command_with(&words, &[("BILLHOOK_LOG_DIR", logs)]));
        assert_eq!((code, err.contains("cannot be read")), (Some(0), true), "{err}");
        let erased: Value = serde_json::from_str(&out).expect("JSON");
        erased["log_files"].as_array().expect("a list").clone()
    };
    let files = erase("acme", app.log_dir().to_str().expect("text"));
    let is_unread = |file: &&Value| file["file"] == json!(unreadable.display().to_string());
    let unread = files.iter().find(is_unread).expect("it is listed");
    assert_eq!((&unread["lines"], unread["error"].is_string()), (&Value::Null, true), "{unread}");
    assert!(files.iter().any(|file| file["lines"].is_u64()), "the others are read: {files:#?}");
    // As where the service logs to stdout and the container's root is read-only.
    let files = erase("birch", "/proc/no-logs");
    assert_eq!((files.len(), &files[0]["file"]), (1, &json!("/proc/no-logs")), "{files:#?}");
    assert!(files[0]["error"].is_string(), "{files:#?}");
    assert_eq!(tables_naming(&app.database, "birch").await, [""; 0]);
    app.stop().await;
}

async fn refused_erasure_expires_no_checkout_session(database: Database) {
    let app = TestApp::start(database).await;
    let bought = app.check_out(&app.token("acme"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.stripe.buy_elsewhere(&app.customer_of("acme").await).await;
    app.until_plan("acme", "team").await;
    let (code, _, err) = told(&app.run_command(&["tenant", "erase", "acme", "--yes"]));
    assert_eq!((code, err.contains("is active; cancel it at Stripe first")), (Some(1), true), "{err}");
    let at_stripe = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    assert_eq!(at_stripe["status"], "open");
    app.stop().await;
}

async fn interrupted_erasure_is_completed_by_the_next(database: Database) {
    let app = TestApp::start(database).await;
    let (subscription, customer) = cancelled(&app, "acme").await;
    assert!(app.run_command(&["tenant", "erase", "acme", "--yes"]).status.success());
    // As one that was killed before the journal and some events leaves it.
    let payload = app.database.bytes(br#"{"customer_email":"ada@acme.example"}"#);
    for row in [
        format!(
            "INSERT INTO transition (entry, tenant_id, customer_id, subscription_id, cause, created, recorded_at_ms) \
             VALUES ('customer.linked', 'acme', '{customer}', '{subscription}', 'checkout', 1, 1)"
        ),
        format!(
            "INSERT INTO event (id, event_type, created, customer_id, tenant_id, outcome, payload, received_at_ms) \
             VALUES ('evt_left', 'customer.updated', 1, '{customer}', 'acme', 'applied', {payload}, 1)"
        ),
    ] {
        app.database.execute(&row).await;
    }
    let erased = json_of(&app, &["tenant", "erase", "acme", "--yes"]);
    assert_eq!((&erased["events"], &erased["journal_entries"]), (&json!(1), &json!(1)));
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    assert_eq!(tables_naming(&app.database, &customer).await, ["customer"]);
    app.stop().await;
}

async fn checkout_in_progress_leaves_no_page_of_an_erased_customer(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({ "plan": "team" })).await.ok();
    let customer = app.customer_of("acme").await;
    let requested = async || app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len();
    let before = requested().await;
    // The session is requested for the customer that was read before, and created by the second try.
    let hang =
        json!({ "match": "POST /v1/checkout/sessions", "param": "line_items", "kind": "hang", "times": 1 });
    app.stripe.fault(&hang).await;
    let pro = json!({ "plan": "pro" });
    let erasure = async {
        eventually("the session is requested", || async { (requested().await > before).then_some(()) }).await;
        tokio::task::block_in_place(|| app.run_command(&["tenant", "erase", "acme", "--yes"]))
    };
    let (_, erased) = tokio::join!(app.check_out(&token, &pro), erasure);
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));

    let sessions = app.stripe.api("GET", &format!("/v1/checkout/sessions?customer={customer}"), "").await;
    let sessions = sessions["data"].as_array().expect("a list");
    assert_eq!(sessions.len(), 2, "one was made while its customer was erased");
    assert!(sessions.iter().all(|session| session["status"] == "expired"), "{sessions:#?}");
    let rows = app.database.rows::<entity::checkout::Entity>().await;
    assert!(rows.iter().all(|row| row.customer_id != customer), "{rows:#?}");
    app.stop().await;
}

async fn erasure_beside_running_replicas_leaves_no_name(database: Database) {
    let mut app = TestApp::start(database).await;
    let (subscription, customer) = cancelled(&app, "acme").await;
    let other = match database {
        Database::Postgres => app.start_replica().await,
        Database::Sqlite => app.url.clone(),
    };
    let events: Vec<Value> = (0..100)
        .map(|quantity| {
            stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
                object["id"] = json!(subscription);
                object["customer"] = json!(customer);
                object["items"]["data"][0]["quantity"] = json!(quantity);
                object["metadata"] = json!({ "tenant_id": "acme" });
            })
        })
        .collect();
    let (half, rest) = events.split_at(50);
    let deliveries = async {
        let to_one = half.iter().map(|event| app.deliver(event));
        let to_other = rest.iter().map(|event| app.deliver_at(&other, event));
        futures_util::future::join(
            futures_util::future::join_all(to_one),
            futures_util::future::join_all(to_other),
        )
        .await
    };
    let erasure =
        async { tokio::task::block_in_place(|| app.run_command(&["tenant", "erase", "acme", "--yes"])) };
    let ((one, two), erased) = tokio::join!(deliveries, erasure);
    assert!(one.into_iter().chain(two).all(|answer| answer.status == 200));
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));

    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    for event in &events {
        assert_eq!(app.payload_of(event).await, None, "{}", app.outcome_of(event).await.0);
        app.deliver(event).await.ok();
    }
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    app.stop().await;
}

/// A tenant that has bought and cancelled: its subscription and its customer.
async fn cancelled(app: &TestApp, tenant: &str) -> (String, String) {
    let subscription = app.make_pro(tenant).await;
    let customer = app.customer_of(tenant).await;
    app.stripe.api("DELETE", &format!("/v1/subscriptions/{subscription}"), "").await;
    app.until_plan(tenant, "free").await;
    (subscription, customer)
}

/// A customer that the operator moved from one tenant to another, where its subscription was
/// cancelled.
async fn moved_and_cancelled(app: &TestApp, from: &str, to: &str) -> String {
    let subscription = app.make_pro(from).await;
    let customer = app.customer_of(from).await;
    assert!(app.run_command(&["tenant", "unlink", from]).status.success());
    assert!(app.run_command(&["tenant", "link", to, &customer]).status.success());
    // The command left its question to Stripe by the machine's clock.
    app.clock.advance_seconds(60);
    app.until_plan(to, "pro").await;
    app.stripe.api("DELETE", &format!("/v1/subscriptions/{subscription}"), "").await;
    app.until_plan(to, "free").await;
    app.until_nothing_is_asked().await;
    customer
}

/// A tenant's subscriptions, checkouts, events and journal.
async fn history_of(app: &TestApp, tenant: &str) -> Vec<String> {
    let named = |rows: Vec<String>| rows.into_iter().filter(|row| row.contains(&format!("{tenant:?}")));
    let subscriptions = app.database.rows::<entity::subscription::Entity>().await;
    let checkouts = app.database.rows::<entity::checkout::Entity>().await;
    let events = app.database.rows::<entity::event::Entity>().await;
    let journal = app.database.rows::<entity::transition::Entity>().await;
    let mut history: Vec<String> =
        named(subscriptions.iter().map(|row| format!("subscription {row:?}")).collect())
            .chain(named(checkouts.iter().map(|row| format!("checkout {row:?}")).collect()))
            .chain(named(events.iter().map(|row| format!("event {row:?}")).collect()))
            .chain(named(journal.iter().map(|row| format!("journal {row:?}")).collect()))
            .collect();
    history.sort_unstable();
    history
}

/// The tables that have a text anywhere.
async fn tables_naming(database: &Fresh, text: &str) -> Vec<&'static str> {
    let mut naming = Vec::new();
    naming.extend(naming_table::<entity::backfill::Entity>(database, text, "backfill").await);
    naming.extend(naming_table::<entity::checkout::Entity>(database, text, "checkout").await);
    naming.extend(naming_table::<entity::customer::Entity>(database, text, "customer").await);
    naming.extend(naming_table::<entity::event::Entity>(database, text, "event").await);
    naming.extend(naming_table::<entity::gap_recovery::Entity>(database, text, "gap_recovery").await);
    naming.extend(naming_table::<entity::observation::Entity>(database, text, "observation").await);
    naming.extend(naming_table::<entity::refresh::Entity>(database, text, "refresh").await);
    naming.extend(naming_table::<entity::subscription::Entity>(database, text, "subscription").await);
    naming.extend(naming_table::<entity::tenant::Entity>(database, text, "tenant").await);
    naming.extend(naming_table::<entity::transition::Entity>(database, text, "transition").await);
    let in_payload = |row: entity::event::Model| {
        row.payload.is_some_and(|payload| String::from_utf8_lossy(&payload).contains(text))
    };
    if database.rows::<entity::event::Entity>().await.into_iter().any(in_payload) {
        naming.push("payload");
    }
    naming
}

async fn naming_table<E: EntityTrait>(
    database: &Fresh,
    text: &str,
    name: &'static str,
) -> Option<&'static str> {
    let rows = database.rows::<E>().await;
    rows.iter().any(|row| format!("{row:?}").contains(text)).then_some(name)
}
