//! `billhook tenant erase`, for data-protection requests.

use sea_orm::{ConnectionTrait, EntityTrait, TransactionTrait};
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::command_output::{json_output, read_output};
use crate::support::database::{Database, TestDatabase, on_both_databases};

on_both_databases!(
    erased_tenant_is_named_nowhere_and_redelivery_is_duplicate,
    erasure_is_refused_while_subscription_is_active_at_stripe,
    erasure_keeps_customer_that_moved_to_another_tenant,
    erasure_keeps_other_tenants_history_of_a_customer_it_lost,
    erasure_of_moved_customer_keeps_history_of_former_tenant,
    erasure_keeps_events_of_another_deployment,
    erasure_creates_no_deployment_id,
    erasure_reports_unreadable_log_files,
    refused_erasure_expires_no_checkout_session,
    interrupted_erasure_is_completed_by_the_next,
    checkout_during_erasure_leaves_no_open_session,
    erasure_with_running_replicas_leaves_no_name,
);

async fn erased_tenant_is_named_nowhere_and_redelivery_is_duplicate(database: Database) {
    let app = TestApp::start(database).await;
    let (subscription, customer) = cancelled(&app, "acme").await;
    app.subscribe_to_pro("birch").await;
    let update = |id: &str| {
        stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
            object["id"] = json!(id);
            object["metadata"] = json!({ "tenant_id": "acme" });
        })
    };
    let known = app.for_customer_of("acme", update(&subscription)).await;
    app.deliver(&known).await.ok();
    // A parked event of another customer whose metadata names acme.
    let waiting = update("sub_waiting");
    app.deliver(&waiting).await.ok();
    assert_eq!(app.outcome_of(&waiting).await.0, "parked");
    app.stripe.create_customer_with_id("cus_webhook").await;
    app.wait_for_refreshes().await;

    std::fs::write(app.log_dir().join("billing.log.9.gz"), "compressed").expect("the file is written");

    let dry = json_output(&app, &["tenant", "erase", "acme", "--dry-run"]);
    assert_eq!((&dry["alias"], &dry["dry_run"]), (&Value::Null, &json!(true)));
    assert_eq!(app.customer_of("acme").await, customer, "a dry run changes nothing");
    let (code, _, err) = read_output(&app.run_command(&["tenant", "erase", "acme"]));
    assert_eq!((code, err.contains("give --dry-run or --yes")), (Some(2), true), "{err}");

    let lines_before = app.lines("subscription_state").len();
    let erased = json_output(&app, &["tenant", "erase", "acme", "--yes"]);
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

    // Event ids stay, and so does the journal, without names.
    let alias = erased["alias"].as_str().expect("an alias");
    let journal = app.database.rows::<entity::transition::Entity>().await;
    let entries = journal.iter().filter(|entry| entry.tenant_id == alias);
    assert_eq!(
        entries.count(),
        usize::try_from(erased["journal_entries"].as_u64().expect("a number")).expect("few") + 1
    );
    assert_eq!(app.outcome_of(&waiting).await, ("ignored".to_owned(), Some("tenant_erased".to_owned())));
    app.deliver(&known).await.ok();
    app.wait_for_line("subscription_state", |line| {
        line["event"] == "event.duplicate" && line["stripe_event_id"] == known["id"]
    })
    .await;

    // Log files are reported and left unchanged. The line about the erasure has no name.
    let files = erased["log_files"].as_array().expect("files");
    assert!(files.iter().any(|file| file["file"].as_str().is_some_and(|path| path.ends_with("billing.log"))));
    let is_unread = |file: &&Value| file["file"].as_str().is_some_and(|path| path.ends_with(".9.gz"));
    assert_eq!(files.iter().find(is_unread).expect("it is listed")["lines"], Value::Null);
    let line = app.wait_for_line("subscription_state", |line| line["event"] == "tenant.erased").await;
    assert_eq!((&line["tenant_id"], &line["customer_id"]), (&json!(alias), &Value::Null));
    assert!(app.lines("subscription_state").len() > lines_before, "no line is deleted");

    // A later event does not link the customer again, and its payload is not kept.
    let mut later = update("sub_later");
    later["data"]["object"]["customer"] = json!(customer);
    app.deliver(&later).await.ok();
    assert_eq!(app.outcome_of(&later).await, ("stale".to_owned(), Some("customer_deleted".to_owned())));
    assert_eq!(app.payload_of(&later).await, None);
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    assert_eq!(app.subscription(&app.token("acme")).await.ok()["plan"], "free");
    assert_eq!(app.subscription(&app.token("birch")).await.ok()["plan"], "pro");
    let (code, _, err) = read_output(&app.run_command(&["tenant", "link", "cedar", &customer]));
    assert_eq!((code, err.contains("or its tenant was erased")), (Some(1), true), "{err}");

    let (code, out, _) = read_output(&app.run_command(&["tenant", "erase", "acme", "--yes"]));
    assert_eq!((code, out.starts_with("Nothing is stored about tenant acme.\n")), (Some(0), true), "{out}");
    app.stop().await;
}

async fn erasure_is_refused_while_subscription_is_active_at_stripe(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    let refused = |words: &[&str], reason: &str| {
        let (code, _, err) = read_output(&app.run_command(&[&["tenant", "erase", "acme"], words].concat()));
        assert_eq!((code, err.contains(reason)), (Some(1), true), "{err}");
    };
    let active = format!("not erased: {subscription} of {customer} is active; cancel it at Stripe first");
    refused(&["--yes"], &active);
    refused(&["--dry-run"], &active);
    // An unlinked customer's subscription is still active at Stripe.
    assert!(app.run_command(&["tenant", "unlink", "acme"]).status.success());
    refused(&["--yes"], &active);
    app.stripe.remove("customers", &customer).await;
    refused(&["--yes"], &format!("Stripe does not know {customer}"));
    let key = [("STRIPE_SECRET_KEY", "")];
    let (code, _, err) = read_output(&app.run_command_with(&["tenant", "erase", "acme", "--yes"], &key));
    assert_eq!((code, err.contains("STRIPE_SECRET_KEY is not set")), (Some(2), true), "{err}");
    let (code, out, err) =
        read_output(&app.run_command_with(&["tenant", "erase", "acme", "--yes", "--force"], &key));
    assert_eq!((code, out.starts_with("Erased tenant acme.")), (Some(0), true), "{out}{err}");
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);

    // An open checkout session is expired first.
    let bought = app.check_out(&app.token("birch"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    assert!(app.run_command(&["tenant", "erase", "birch", "--yes"]).status.success());
    let at_stripe = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    assert_eq!(at_stripe["status"], "expired");
    app.stop().await;
}

async fn erasure_keeps_customer_that_moved_to_another_tenant(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    let customer = app.customer_of("acme").await;
    assert!(app.run_command(&["tenant", "unlink", "acme"]).status.success());
    assert!(app.run_command(&["tenant", "link", "birch", &customer]).status.success());
    // The command queued its refresh by the machine's clock.
    app.clock.advance_seconds(60);
    app.wait_for_plan("birch", "pro").await;
    app.wait_for_refreshes().await;

    let erased = json_output(&app, &["tenant", "erase", "acme", "--yes"]);
    assert_eq!(erased["customers"], json!([]));
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    assert_eq!(app.subscription(&app.token("birch")).await.ok()["plan"], "pro");
    let event =
        app.for_customer_of("birch", stripe_event("invoice.upcoming", app.clock_seconds(), |_| {})).await;
    app.deliver(&event).await.ok();
    assert_eq!(app.customer_of("birch").await, customer);
    app.stop().await;
}

async fn erasure_keeps_other_tenants_history_of_a_customer_it_lost(database: Database) {
    let app = TestApp::start(database).await;
    moved_and_cancelled(&app, "acme", "birch").await;
    app.check_out(&app.token("birch"), &json!({})).await.ok();
    let other = app.stripe.api("POST", "/v1/customers", "").await["id"].clone();
    let replace = ["tenant", "link", "birch", other.as_str().expect("an id"), "--replace"];
    let (code, _, err) = read_output(&app.run_command(&replace));
    assert_eq!(code, Some(0), "{err}");
    app.clock.advance_seconds(60);
    app.wait_for_refreshes().await;

    let before = history_of(&app, "birch").await;
    let kept =
        ["subscription", "checkout", "journal"].map(|kind| before.iter().any(|row| row.starts_with(kind)));
    assert_eq!(kept, [true; 3], "{before:#?}");
    assert!(
        before.iter().any(|row| row.starts_with("event") && row.contains("payload: Some")),
        "{before:#?}"
    );
    let erased = json_output(&app, &["tenant", "erase", "acme", "--yes"]);
    assert_eq!(erased["customers"], json!([]));
    // Payloads of birch's own events still name acme in the subscription's metadata.
    assert_eq!(tables_naming(&app.database, "acme").await, ["payload"]);
    assert_eq!(history_of(&app, "birch").await, before);
    app.stop().await;
}

async fn erasure_of_moved_customer_keeps_history_of_former_tenant(database: Database) {
    let app = TestApp::start(database).await;
    let customer = moved_and_cancelled(&app, "acme", "birch").await;
    let bought = app.check_out(&app.token("birch"), &json!({})).await.ok();
    let session = bought["session_id"].as_str().expect("a session");
    app.wait_for_refreshes().await;

    let before = history_of(&app, "acme").await;
    assert!(before.iter().any(|row| row.starts_with("checkout")), "{before:#?}");
    let erased = json_output(&app, &["tenant", "erase", "birch", "--yes"]);
    assert_eq!(erased["customers"], json!([customer]));
    assert_eq!(tables_naming(&app.database, "birch").await, [""; 0]);
    assert_eq!(history_of(&app, "acme").await, before);
    let at_stripe = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    assert_eq!(at_stripe["status"], "expired");
    // A later event does not link it again.
    let later = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["customer"] = json!(customer);
        object["metadata"] = json!({ "tenant_id": "birch" });
    });
    app.deliver(&later).await.ok();
    assert_eq!(app.outcome_of(&later).await, ("stale".to_owned(), Some("customer_deleted".to_owned())));
    assert_eq!(tables_naming(&app.database, "birch").await, [""; 0]);
    app.stop().await;
}

async fn erasure_keeps_events_of_another_deployment(database: Database) {
    let app = TestApp::start(database).await;
    let purchase = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme", "deployment_id": "dev" });
    });
    app.deliver(&purchase).await.ok();
    let quarantined = ("quarantined".to_owned(), Some("foreign_deployment".to_owned()));
    assert_eq!(app.outcome_of(&purchase).await, quarantined);
    assert_eq!(json_output(&app, &["tenant", "erase", "acme", "--yes"])["events"], 0);
    assert_eq!(app.outcome_of(&purchase).await, quarantined);
    assert!(app.payload_of(&purchase).await.is_some());
    app.stop().await;
}

async fn erasure_creates_no_deployment_id(database: Database) {
    let app = TestApp::without_service(database, &[]).await;
    assert!(app.run_command(&["migrate"]).status.success());
    json_output(&app, &["tenant", "erase", "acme", "--yes"]);
    assert_eq!(app.database.rows::<entity::deployment::Entity>().await.len(), 0);
    app.stop().await;
}

async fn erasure_reports_unreadable_log_files(database: Database) {
    let app = TestApp::start(database).await;
    cancelled(&app, "acme").await;
    cancelled(&app, "birch").await;
    // A directory can be opened but not read.
    let unreadable = app.log_dir().join("billing.log.7");
    std::fs::create_dir(&unreadable).expect("the directory is created");
    let erase = |tenant: &str, logs: &str| {
        let words = ["tenant", "erase", tenant, "--yes", "--json"];
        let (code, out, err) = read_output(&app.run_command_with(&words, &[("BILLHOOK_LOG_DIR", logs)]));
        assert_eq!((code, err.contains("could not be read")), (Some(0), true), "{err}");
        let erased: Value = serde_json::from_str(&out).expect("JSON");
        erased["log_files"].as_array().expect("a list").clone()
    };
    let files = erase("acme", app.log_dir().to_str().expect("text"));
    let is_unread = |file: &&Value| file["file"] == json!(unreadable.display().to_string());
    let unread = files.iter().find(is_unread).expect("it is listed");
    assert_eq!((&unread["lines"], unread["error"].is_string()), (&Value::Null, true), "{unread}");
    assert!(files.iter().any(|file| file["lines"].is_u64()), "the others are read: {files:#?}");
    // As with logs on stdout and a read-only root file system.
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
    app.stripe.subscribe_customer(&app.customer_of("acme").await).await;
    app.wait_for_plan("acme", "team").await;
    let (code, _, err) = read_output(&app.run_command(&["tenant", "erase", "acme", "--yes"]));
    assert_eq!((code, err.contains("is active; cancel it at Stripe first")), (Some(1), true), "{err}");
    let at_stripe = app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
    assert_eq!(at_stripe["status"], "open");
    app.stop().await;
}

async fn interrupted_erasure_is_completed_by_the_next(database: Database) {
    let app = TestApp::start(database).await;
    let (subscription, customer) = cancelled(&app, "acme").await;
    assert!(app.run_command(&["tenant", "erase", "acme", "--yes"]).status.success());
    // The state after an erasure that was killed before it reached the journal and one event.
    let payload = app.database.bytes_literal(br#"{"customer_email":"ada@acme.example"}"#);
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
    let erased = json_output(&app, &["tenant", "erase", "acme", "--yes"]);
    assert_eq!((&erased["events"], &erased["journal_entries"]), (&json!(1), &json!(1)));
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    assert_eq!(tables_naming(&app.database, &customer).await, ["customer"]);
    app.stop().await;
}

async fn checkout_during_erasure_leaves_no_open_session(database: Database) {
    let app = TestApp::start(database).await;
    let token = app.token("acme");
    app.check_out(&token, &json!({ "plan": "team" })).await.ok();
    let customer = app.customer_of("acme").await;
    let requested = async || app.stripe.requests_to("POST", "/v1/checkout/sessions").await.len();
    let before = requested().await;
    // The checkout reads the customer, then its request for the session hangs. The retry creates
    // the session for that customer.
    let hang =
        json!({ "match": "POST /v1/checkout/sessions", "param": "line_items", "kind": "hang", "times": 1 });
    app.stripe.inject_fault(&hang).await;
    let pro = json!({ "plan": "pro" });
    let erasure = async {
        eventually("the session is requested", || async { (requested().await > before).then_some(()) }).await;
        tokio::task::block_in_place(|| app.run_command(&["tenant", "erase", "acme", "--yes"]))
    };
    let (_, erased) = tokio::join!(app.check_out(&token, &pro), erasure);
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));

    let sessions = app.stripe.api("GET", &format!("/v1/checkout/sessions?customer={customer}"), "").await;
    let sessions = sessions["data"].as_array().expect("a list");
    assert_eq!(sessions.len(), 2, "one was created during the erasure");
    assert!(sessions.iter().all(|session| session["status"] == "expired"), "{sessions:#?}");
    let rows = app.database.rows::<entity::checkout::Entity>().await;
    assert!(rows.iter().all(|row| row.customer_id != customer), "{rows:#?}");
    app.stop().await;
}

async fn erasure_with_running_replicas_leaves_no_name(database: Database) {
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
    let (first_half, second_half) = events.split_at(50);
    let deliveries = async {
        let to_one = first_half.iter().map(|event| app.deliver(event));
        let to_other = second_half.iter().map(|event| app.deliver_at(&other, event));
        futures_util::future::join(
            futures_util::future::join_all(to_one),
            futures_util::future::join_all(to_other),
        )
        .await
    };
    let erasure =
        async { tokio::task::block_in_place(|| app.run_command(&["tenant", "erase", "acme", "--yes"])) };
    let ((one, two), erased) = tokio::join!(deliveries, erasure);
    assert!(one.into_iter().chain(two).all(|response| response.status == 200));
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));

    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    for event in &events {
        assert_eq!(app.payload_of(event).await, None, "{}", app.outcome_of(event).await.0);
        app.deliver(event).await.ok();
    }
    assert_eq!(tables_naming(&app.database, "acme").await, [""; 0]);
    app.stop().await;
}

/// A batch locks its customers while it reads their checkouts, which an erasure of the former
/// tenant deletes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasure_waits_for_batch_that_locks_moved_customer() {
    let app = TestApp::start(Database::Postgres).await;
    let customer = moved_and_cancelled(&app, "acme", "birch").await;
    let connection = app.database.connect().await;
    let batch = connection.begin().await.expect("a transaction starts");
    let lock = format!("SELECT id FROM customer WHERE id = '{customer}' FOR UPDATE");
    batch.execute_unprepared(&lock).await.expect("the customer is locked");

    let batch_ends = async {
        let waits = || async { (app.database.blocked_sessions().await > 0).then_some(()) };
        eventually("the erasure waits for the lock", waits).await;
        assert!(!tables_naming(&app.database, "acme").await.is_empty(), "nothing is erased yet");
        batch.commit().await.expect("the lock is released");
    };
    let erased = std::thread::scope(|scope| {
        let erasure = scope.spawn(|| app.run_command(&["tenant", "erase", "acme", "--yes"]));
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(batch_ends));
        erasure.join().expect("the command runs")
    });
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));
    // Payloads of birch's own events still name acme in the subscription's metadata.
    assert_eq!(tables_naming(&app.database, "acme").await, ["payload"]);
    connection.close().await.expect("the connection closes");
    app.stop().await;
}

/// Subscribes a tenant and cancels. Returns the ids of subscription and customer.
async fn cancelled(app: &TestApp, tenant: &str) -> (String, String) {
    let subscription = app.subscribe_to_pro(tenant).await;
    let customer = app.customer_of(tenant).await;
    app.stripe.api("DELETE", &format!("/v1/subscriptions/{subscription}"), "").await;
    app.wait_for_plan(tenant, "free").await;
    (subscription, customer)
}

/// Links a tenant's customer to another tenant and cancels its subscription. Returns the customer's
/// id.
async fn moved_and_cancelled(app: &TestApp, from: &str, to: &str) -> String {
    let subscription = app.subscribe_to_pro(from).await;
    let customer = app.customer_of(from).await;
    assert!(app.run_command(&["tenant", "unlink", from]).status.success());
    assert!(app.run_command(&["tenant", "link", to, &customer]).status.success());
    // The command queued its refresh by the machine's clock.
    app.clock.advance_seconds(60);
    app.wait_for_plan(to, "pro").await;
    app.stripe.api("DELETE", &format!("/v1/subscriptions/{subscription}"), "").await;
    app.wait_for_plan(to, "free").await;
    app.wait_for_refreshes().await;
    customer
}

/// The rows of subscriptions, checkouts, events and journal that name a tenant.
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

/// The tables with a text in any column, and `payload` if a payload contains it.
async fn tables_naming(database: &TestDatabase, text: &str) -> Vec<&'static str> {
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
    database: &TestDatabase,
    text: &str,
    name: &'static str,
) -> Option<&'static str> {
    let rows = database.rows::<E>().await;
    rows.iter().any(|row| format!("{row:?}").contains(text)).then_some(name)
}
