//! Upgrades: the service works on a database of every earlier migration, and refuses one that a
//! newer version has migrated.

use billhook::domain::journey::{JourneyId, Traceparent};
use migration::{Migrator, MigratorTrait};
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, TestDatabase, on_both_databases};

on_both_databases!(
    service_upgrades_database_of_every_migration,
    migrate_command_upgrades_database_of_every_migration,
    newer_schema_stops_new_replica_but_not_running_one,
);

const DAY: i64 = 86_400;
const HOUR: i64 = 3600;

async fn service_upgrades_database_of_every_migration(database: Database) {
    for step in 1..=Migrator::migrations().len() {
        let mut app = TestApp::without_service(database, &[]).await;
        let old_database = OldDatabase::create(&app, step).await;
        app.start_service().await;
        old_database.assert_works(&app).await;
        app.stop().await;
    }
}

async fn migrate_command_upgrades_database_of_every_migration(database: Database) {
    for step in 1..=Migrator::migrations().len() {
        let mut app = TestApp::without_service(database, &[]).await;
        let old_database = OldDatabase::create(&app, step).await;
        let migrated = app.run_command(&["migrate"]);
        assert_eq!(
            String::from_utf8_lossy(&migrated.stdout),
            "The database is up to date.\n",
            "{migrated:?}"
        );
        app.start_service().await;
        old_database.assert_works(&app).await;
        app.stop().await;
    }
}

async fn newer_schema_stops_new_replica_but_not_running_one(database: Database) {
    let app = TestApp::start(database).await;
    // The first replica of a newer version does this while this replica runs.
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20990101_000001_newer', 1)";
    app.database.execute(newer).await;
    app.subscribe_to_pro("acme").await;
    assert_eq!(app.get("/readyz").await.status, 200);

    for words in [&["migrate"][..], &["serve", "--listen=127.0.0.1:0"]] {
        let refused = app.run_command(words);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("a newer billhook has migrated it (m20990101_000001_newer)"), "{stderr}");
        assert!(stderr.contains("run that version, or restore the backup"), "{stderr}");
    }
    app.stop().await;
}

/// A database that an earlier version left, after this many migrations.
pub struct OldDatabase {
    step: usize,
    now: i64,
    /// Acme's subscription at Stripe.
    subscription: String,
    /// Events that failed, are parked, and are old.
    failed: Value,
    parked: Value,
    old: Value,
}

impl OldDatabase {
    pub async fn create(app: &TestApp, step: usize) -> Self {
        let now = app.clock_seconds();
        make_schema(&app.database, step).await;
        // The service does not learn of Stripe's events until the faults are cleared.
        app.stripe.inject_fault(&json!({ "events": "hidden" })).await;
        let acme = app.stripe.create_subscribed_customer().await;
        let subscription =
            app.stripe.api("GET", "/v1/subscriptions?status=all", "").await["data"][0]["id"].clone();
        let of = |name: &str, created: i64| {
            stripe_event("customer.subscription.created", created, |object| {
                object["id"] = json!(format!("sub_{name}"));
                object["customer"] = json!(format!("cus_{name}"));
            })
        };
        let old_database = Self {
            step,
            now,
            subscription: subscription.as_str().expect("a subscription").to_owned(),
            failed: of("failed", now - HOUR),
            parked: of("parked", now - HOUR),
            old: of("old", now - 89 * DAY),
        };
        app.database.execute("INSERT INTO installation (id, mode) VALUES (1, 'test')").await;
        old_database.tenant(&app.database, "acme", &acme, &old_database.subscription).await;
        old_database.tenant(&app.database, "birch", "cus_failed", "sub_birch").await;
        old_database.event(&app.database, &old_database.failed, "failed").await;
        old_database.event(&app.database, &old_database.parked, "parked").await;
        old_database.event(&app.database, &old_database.old, "applied").await;
        if step >= 2 {
            old_database.background(&app.database, &acme).await;
        }
        if step >= 4 {
            let cut = (now - 90 * DAY) * 1000;
            let row = format!("INSERT INTO retention (id, dropped_before_ms) VALUES (1, {cut})");
            app.database.execute(&row).await;
        }
        if step >= 5 {
            let row =
                format!("INSERT INTO customer (id, withheld_at_ms) VALUES ('cus_withheld', {})", now * 1000);
            app.database.execute(&row).await;
        }
        // Migration 6 changes only indexes. The table of migration 7 is empty unless a recovery was
        // interrupted.
        if step >= 8 {
            let at_ms = now * 1000;
            let row = format!(
                "INSERT INTO observation (name, first_at_ms, last_at_ms, detail) \
                 VALUES ('webhook_refused:no_match', {at_ms}, {at_ms}, NULL)"
            );
            app.database.execute(&row).await;
        }
        if step >= 9 {
            let row = format!("INSERT INTO known_price VALUES ('price_pro_monthly', 'pro_monthly', {now})");
            app.database.execute(&row).await;
        }
        if step >= 10 {
            app.database.execute("UPDATE installation SET account_id = NULL").await;
        }
        if step >= 11 {
            app.database.execute("UPDATE customer SET asked_at_ms = NULL").await;
        }
        // Migration 12 adds a price to checkouts, which earlier ones do not have.
        if step >= 13 {
            app.database.execute("INSERT INTO deployment (id, deployment_id) VALUES (1, 'staging')").await;
        }
        if step >= 14 {
            // An abandoned copy.
            let row = "INSERT INTO database_copy (id, token, is_source) VALUES (1, 'abandoned', TRUE)";
            app.database.execute(row).await;
        }
        // Migration 15 adds a tenant to customers, which earlier ones do not have.
        assert!(step <= 15, "add rows here for the tables of migration {step}");
        old_database
    }

    /// Inserts a tenant on Pro, with its checkout and journal.
    async fn tenant(&self, database: &TestDatabase, tenant: &str, customer: &str, subscription: &str) {
        let (seconds, at_ms) = (self.now - DAY, (self.now - DAY) * 1000);
        let journey = JourneyId::from_bytes(uuid::Uuid::new_v4().into_bytes()).expect("not zero");
        let origin = Traceparent::new(journey, [7; 8], true).expect("not zero");
        let items = r#"[{"price":"price_pro_monthly","lookup_key":"pro_monthly","quantity":3}]"#;
        for row in [
            format!(
                "INSERT INTO tenant (id, stripe_customer_id, customer_generation, journey_id, journey_traceparent, \
                 journey_began_at_ms, created_at_ms, updated_at_ms) \
                 VALUES ('{tenant}', '{customer}', 0, '{journey}', '{origin}', {at_ms}, {at_ms}, {at_ms})"
            ),
            format!("INSERT INTO customer (id, deleted_at_ms) VALUES ('{customer}', NULL)"),
            format!(
                "INSERT INTO subscription (id, customer_id, tenant_id, status, started_at, items, \
                 current_period_end, cancel_at_period_end, as_of, revision, awaiting_payment, updated_at_ms) \
                 VALUES ('{subscription}', '{customer}', '{tenant}', 'active', {seconds}, '{items}', \
                 {}, FALSE, {seconds}, 1, FALSE, {at_ms})",
                seconds + 30 * DAY
            ),
            format!(
                "INSERT INTO checkout (session_id, tenant_id, customer_id, plan, success_path, cancel_path, status, \
                 subscription_id, journey_id, traceparent, created_at_ms, updated_at_ms) \
                 VALUES ('cs_{tenant}', '{tenant}', '{customer}', 'pro', '/a', '/b', 'complete', \
                 '{subscription}', '{journey}', '{origin}', {at_ms}, {at_ms})"
            ),
            format!(
                "INSERT INTO transition (entry, tenant_id, customer_id, subscription_id, to_status, cause, created, \
                 journey_id, recorded_at_ms) \
                 VALUES ('subscription.transition', '{tenant}', '{customer}', '{subscription}', 'active', \
                 'customer.subscription.created', {seconds}, '{journey}', {at_ms})"
            ),
        ] {
            database.execute(&row).await;
        }
    }

    /// Inserts an event with the columns of its migration.
    async fn event(&self, database: &TestDatabase, event: &Value, outcome: &str) {
        let created = event["created"].as_i64().expect("a time");
        let object = &event["data"]["object"];
        let mut fields = vec![
            ("id", quoted(&event["id"])),
            ("event_type", quoted(&event["type"])),
            ("created", created.to_string()),
            ("customer_id", quoted(&object["customer"])),
            ("subscription_id", quoted(&object["id"])),
            ("outcome", format!("'{outcome}'")),
            ("payload", database.bytes_literal(event.to_string().as_bytes())),
            ("received_at_ms", (created * 1000).to_string()),
        ];
        if self.step >= 2 && outcome == "failed" {
            fields.push(("attempts", "1".to_owned()));
            fields.push(("retry_at_ms", (created * 1000).to_string()));
        }
        if self.step >= 3 {
            fields.push(("span_id", "'00f067aa0ba902b7'".to_owned()));
        }
        let (columns, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let (columns, values) = (columns.join(", "), values.join(", "));
        database.execute(&format!("INSERT INTO event ({columns}) VALUES ({values})")).await;
    }

    /// Inserts what background jobs left: a refresh, a lease of a stopped process, and the
    /// backfill's position.
    async fn background(&self, database: &TestDatabase, customer: &str) {
        for row in [
            format!(
                "INSERT INTO refresh (subject, customer_id, tenant_id, reason, version, attempts, due_at_ms) \
                 VALUES ('sub_asked', '{customer}', 'acme', 'older', 1, 21, 0)"
            ),
            "INSERT INTO lease (name, token, expires_at_ms) VALUES ('backfill', 'gone', 1)".to_owned(),
            format!(
                "INSERT INTO backfill (id, watermark, finished_at_ms, leapt_at) VALUES (1, {}, {}, {})",
                self.now - HOUR,
                (self.now - HOUR) * 1000,
                self.now - DAY
            ),
        ] {
            database.execute(&row).await;
        }
    }

    /// Asserts that every row is read, and that the service works on the database.
    pub async fn assert_works(&self, app: &TestApp) {
        // A backfill that still runs when the faults are cleared would be the last, since the
        // test's clock stands still.
        app.run_backfill_after(0).await;
        let subscription = app.wait_for_plan("acme", "pro").await;
        assert_eq!(
            (&subscription["quantity"], &subscription["access"]),
            (&json!(3), &json!(true)),
            "{subscription}"
        );
        let timeline = app.run_command(&["tenant", "show", "acme", "--timeline"]);
        let timeline = String::from_utf8_lossy(&timeline.stdout).into_owned();
        assert!(timeline.contains("checkout.begun") && timeline.contains("- -> active"), "{timeline}");

        let known = app.database.rows::<entity::known_price::Entity>().await;
        let known = known
            .iter()
            .any(|row| (&*row.price_id, &*row.lookup_key) == ("price_pro_monthly", "pro_monthly"));
        assert!(known, "the lookup key of a bought price is known");

        // The failed event is retried, the parked one is applied after its link, and the old one is
        // a duplicate.
        app.wait_for_outcome(&self.failed, "applied").await;
        assert_eq!(app.outcome_of(&self.parked).await.0, "parked");
        assert!(app.run_command(&["tenant", "link", "cedar", "cus_parked"]).status.success());
        app.wait_for_plan("cedar", "pro").await;
        app.deliver(&self.old).await.ok();
        app.wait_for_line("subscription_state", |line| {
            line["event"] == "event.duplicate" && line["stripe_event_id"] == self.old["id"]
        })
        .await;

        // A customer that the operator unlinked stays unlinked.
        if self.step >= 5 {
            let unlinked = stripe_event("customer.subscription.created", self.now, |object| {
                object["id"] = json!("sub_withheld");
                object["customer"] = json!("cus_withheld");
                object["metadata"] = json!({ "tenant_id": "elm" });
            });
            app.deliver(&unlinked).await.ok();
            assert_eq!(app.outcome_of(&unlinked).await.0, "parked");
        }

        // Events from a webhook and from the backfill are applied.
        let ended = stripe_event("customer.subscription.deleted", self.now, |object| {
            object["id"] = json!("sub_birch");
            object["customer"] = json!("cus_failed");
            object["status"] = json!("canceled");
        });
        app.deliver(&ended).await.ok();
        assert_eq!(app.status_of("sub_birch").await, "canceled");
        app.stripe.clear_faults().await;
        app.clock.advance_seconds(300);
        app.wait_for_plan("acme", "team").await;

        // Only the old payload is deleted.
        assert!(app.payload_of(&self.old).await.is_some(), "it is kept for another day");
        app.clock.advance_seconds(DAY + HOUR);
        eventually("the old payload is deleted", || async {
            app.payload_of(&self.old).await.is_none().then_some(())
        })
        .await;
        assert!(app.payload_of(&self.failed).await.is_some());
        eventually("the old refresh is done", || async {
            (!app.queued_refreshes().await.contains(&"sub_asked".to_owned())).then_some(())
        })
        .await;

        // A replica of the earlier version may still run and write its rows.
        self.tenant(&app.database, "late", "cus_late", "sub_late").await;
        let late = stripe_event("customer.subscription.updated", self.now, |_| {});
        self.event(&app.database, &late, "applied").await;
        app.wait_for_plan("late", "pro").await;
    }
}

fn quoted(text: &Value) -> String {
    format!("'{}'", text.as_str().expect("text"))
}

async fn make_schema(database: &TestDatabase, step: usize) {
    let connection = database.create_and_connect().await;
    let steps = u32::try_from(step).expect("few steps");
    Migrator::up(&connection, Some(steps)).await.expect("the migrations run");
    connection.close().await.expect("the connection closes");
}
