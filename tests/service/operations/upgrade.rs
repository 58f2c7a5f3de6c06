//! Upgrades: a database that an earlier version has left, with rows in it, goes on under this one; and one that a newer
//! version has migrated is not touched.

use billhook::domain::journey::{JourneyId, Traceparent};
use migration::{Migrator, MigratorTrait};
use serde_json::{Value, json};

use crate::support::app::{TestApp, eventually, stripe_event};
use crate::support::database::{Database, Fresh, on_both_databases};

on_both_databases!(
    a_database_of_every_earlier_step_goes_on_when_the_service_has_upgraded_it,
    a_database_of_every_earlier_step_goes_on_when_the_command_has_upgraded_it,
    what_a_newer_version_has_migrated_is_refused_by_who_starts_and_serves_who_runs,
);

const DAY: i64 = 86_400;
const HOUR: i64 = 3600;

async fn a_database_of_every_earlier_step_goes_on_when_the_service_has_upgraded_it(database: Database) {
    for step in 1..=Migrator::migrations().len() {
        let mut app = TestApp::without_service(database, &[]).await;
        let past = Past::make(&app, step).await;
        app.come_back().await;
        past.goes_on(&app).await;
        app.stop().await;
    }
}

async fn a_database_of_every_earlier_step_goes_on_when_the_command_has_upgraded_it(database: Database) {
    for step in 1..=Migrator::migrations().len() {
        let mut app = TestApp::without_service(database, &[]).await;
        let past = Past::make(&app, step).await;
        let migrated = app.run_command(&["migrate"]);
        assert_eq!(
            String::from_utf8_lossy(&migrated.stdout),
            "The database is up to date.\n",
            "{migrated:?}"
        );
        app.come_back().await;
        past.goes_on(&app).await;
        app.stop().await;
    }
}

async fn what_a_newer_version_has_migrated_is_refused_by_who_starts_and_serves_who_runs(database: Database) {
    let app = TestApp::start(database).await;
    // As the first replica of a newer version does while this one runs on.
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20990101_000001_newer', 1)";
    app.database.execute(newer).await;
    app.make_pro("acme").await;
    assert_eq!(app.get("/readyz").await.status, 200);

    for words in [&["migrate"][..], &["serve", "--listen=127.0.0.1:0"]] {
        let refused = app.run_command(words);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(
            told.contains("a newer billhook has brought it up to date (m20990101_000001_newer)"),
            "{told}"
        );
        assert!(told.contains("run that one, or restore the backup"), "{told}");
    }
    app.stop().await;
}

/// A database as an earlier version has left it, after so many migrations.
pub struct Past {
    step: usize,
    now: i64,
    /// What the service is told of acme's subscription.
    subscription: String,
    /// The event that failed and is to be tried again, the one that is parked, and an old one.
    failed: Value,
    parked: Value,
    old: Value,
}

impl Past {
    pub async fn make(app: &TestApp, step: usize) -> Self {
        let now = app.clock_seconds();
        make_schema(&app.database, step).await;
        // What happens at Stripe is not told until the story wants it.
        app.stripe.fault(&json!({ "events": "hidden" })).await;
        let acme = app.stripe.customer_who_bought_elsewhere().await;
        let subscription =
            app.stripe.api("GET", "/v1/subscriptions?status=all", "").await["data"][0]["id"].clone();
        let of = |name: &str, created: i64| {
            stripe_event("customer.subscription.created", created, |object| {
                object["id"] = json!(format!("sub_{name}"));
                object["customer"] = json!(format!("cus_{name}"));
            })
        };
        let past = Self {
            step,
            now,
            subscription: subscription.as_str().expect("a subscription").to_owned(),
            failed: of("failed", now - HOUR),
            parked: of("parked", now - HOUR),
            old: of("old", now - 89 * DAY),
        };
        app.database.execute("INSERT INTO installation (id, mode) VALUES (1, 'test')").await;
        past.tenant(&app.database, "acme", &acme, &past.subscription).await;
        past.tenant(&app.database, "birch", "cus_failed", "sub_birch").await;
        past.event(&app.database, &past.failed, "failed").await;
        past.event(&app.database, &past.parked, "parked").await;
        past.event(&app.database, &past.old, "applied").await;
        if step >= 2 {
            past.background(&app.database, &acme).await;
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
        // The sixth changes indexes alone, and the table of the seventh is empty unless a recovery is interrupted.
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
        // The twelfth adds the price of a checkout, which those of earlier steps do not have.
        if step >= 13 {
            app.database.execute("INSERT INTO deployment (id, deployment_id) VALUES (1, 'staging')").await;
        }
        if step >= 14 {
            // Of a copy that came to nothing.
            let row = "INSERT INTO database_copy (id, token, is_source) VALUES (1, 'abandoned', TRUE)";
            app.database.execute(row).await;
        }
        // The fifteenth adds to customers a tenant that those of earlier steps do not name.
        assert!(step <= 15, "tell here what a database of step {step} holds");
        past
    }

    /// A tenant that has bought Pro, with its checkout and its journal.
    async fn tenant(&self, database: &Fresh, tenant: &str, customer: &str, subscription: &str) {
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

    /// A row of the inbox, with the columns that it had then.
    async fn event(&self, database: &Fresh, event: &Value, outcome: &str) {
        let created = event["created"].as_i64().expect("a time");
        let object = &event["data"]["object"];
        let mut fields = vec![
            ("id", quoted(&event["id"])),
            ("event_type", quoted(&event["type"])),
            ("created", created.to_string()),
            ("customer_id", quoted(&object["customer"])),
            ("subscription_id", quoted(&object["id"])),
            ("outcome", format!("'{outcome}'")),
            ("payload", database.bytes(event.to_string().as_bytes())),
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

    /// What the work in the background has left: a question, a lease whose holder is gone, and how far it came.
    async fn background(&self, database: &Fresh, customer: &str) {
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

    /// All of it is there and works.
    pub async fn goes_on(&self, app: &TestApp) {
        // One that was still under way when Stripe tells again would be the last for the story's clock.
        app.next_backfill(0).await;
        let held = app.until_plan("acme", "pro").await;
        assert_eq!((&held["quantity"], &held["access"]), (&json!(3), &json!(true)), "{held}");
        let story = app.run_command(&["tenant", "show", "acme", "--timeline"]);
        let story = String::from_utf8_lossy(&story.stdout).into_owned();
        assert!(story.contains("checkout.begun") && story.contains("- -> active"), "{story}");

        // The keys of the prices that were bought are known.
        let known = app.database.rows::<entity::known_price::Entity>().await;
        let known = known
            .iter()
            .any(|row| (&*row.price_id, &*row.lookup_key) == ("price_pro_monthly", "pro_monthly"));
        assert!(known, "the key of a price that was bought is known");

        // What failed is tried again; what is parked finds its tenant; what was taken is not taken twice.
        app.until_outcome(&self.failed, "applied").await;
        assert_eq!(app.outcome_of(&self.parked).await.0, "parked");
        assert!(app.run_command(&["tenant", "link", "cedar", "cus_parked"]).status.success());
        app.until_plan("cedar", "pro").await;
        app.deliver(&self.old).await.ok();
        app.line("subscription_state", |line| {
            line["event"] == "event.duplicate" && line["stripe_event_id"] == self.old["id"]
        })
        .await;

        // What the operator has taken from a tenant stays taken.
        if self.step >= 5 {
            let withheld = stripe_event("customer.subscription.created", self.now, |object| {
                object["id"] = json!("sub_withheld");
                object["customer"] = json!("cus_withheld");
                object["metadata"] = json!({ "tenant_id": "elm" });
            });
            app.deliver(&withheld).await.ok();
            assert_eq!(app.outcome_of(&withheld).await.0, "parked");
        }

        // What Stripe tells, by a webhook and by its list.
        let ended = stripe_event("customer.subscription.deleted", self.now, |object| {
            object["id"] = json!("sub_birch");
            object["customer"] = json!("cus_failed");
            object["status"] = json!("canceled");
        });
        app.deliver(&ended).await.ok();
        assert_eq!(app.status_of("sub_birch").await, "canceled");
        app.stripe.all_is_well().await;
        app.clock.advance_seconds(300);
        app.until_plan("acme", "team").await;

        // What is old is dropped, and nothing else.
        assert!(app.payload_of(&self.old).await.is_some(), "it has a day left");
        app.clock.advance_seconds(DAY + HOUR);
        eventually("the old payload is dropped", || async {
            app.payload_of(&self.old).await.is_none().then_some(())
        })
        .await;
        assert!(app.payload_of(&self.failed).await.is_some());
        eventually("the question of before is settled", || async {
            (!app.questions().await.contains(&"sub_asked".to_owned())).then_some(())
        })
        .await;

        // A replica of the earlier version may still be running, and writes as it always did.
        self.tenant(&app.database, "late", "cus_late", "sub_late").await;
        let late = stripe_event("customer.subscription.updated", self.now, |_| {});
        self.event(&app.database, &late, "applied").await;
        app.until_plan("late", "pro").await;
    }
}

fn quoted(text: &Value) -> String {
    format!("'{}'", text.as_str().expect("text"))
}

/// The tables after so many migrations.
async fn make_schema(database: &Fresh, step: usize) {
    let connection = database.make_and_connect().await;
    let steps = u32::try_from(step).expect("few steps");
    Migrator::up(&connection, Some(steps)).await.expect("the migrations run");
    connection.close().await.expect("the connection closes");
}
