//! The trace of a checkout contains or links to everything that follows from it.

use std::collections::HashSet;

use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry_sdk::trace::SpanData;
use reqwest::Method;
use serde_json::json;

use crate::support::app::{TestApp, ended_spans, eventually, stripe_event};
use crate::support::database::{Database, on_both_databases};
use crate::webhooks::retry::deliver_poisoned_event;

on_both_databases!(
    checkout_trace_contains_linked_milestones,
    refresh_is_milestone_and_links_to_event_that_caused_it,
    backfilled_event_joins_journey_like_a_webhook,
    tenants_started_by_one_backfill_have_separate_journeys,
    retried_event_links_to_first_attempt,
    subscription_without_checkout_starts_a_journey,
    parked_event_is_milestone_once_applied,
    late_event_names_journey_but_adds_no_milestone,
    statement_spans_contain_no_values,
);

const SPA: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn checkout_trace_contains_linked_milestones(database: Database) {
    let app = TestApp::start(database).await;
    // Otherwise the backfill at start could fetch an event before its webhook arrives.
    app.wait_for_backfill().await;
    let token = app.token("acme");
    let checkout = app.request(Method::POST, "/api/billing/create-checkout-session/").bearer_auth(&token);
    let checkout = checkout.header("traceparent", format!("00-{SPA}-00f067aa0ba902b7-01"));
    let bought = app.call(checkout).await.ok();
    app.stripe.pay(bought["session_id"].as_str().expect("a session")).await;
    app.wait_for_plan("acme", "pro").await;
    app.wait_for_line("subscription_state", |line| line["stripe_event_type"] == "checkout.session.completed")
        .await;
    app.open_portal(&token, &json!({})).await.ok();

    let line = app.wait_for_line("billing", |line| line["event"] == "checkout.create.success").await;
    let journey = line["journey_id"].as_str().expect("a journey").to_owned();
    assert_ne!(journey, SPA, "a caller does not choose a journey's id");

    let origin = span(&journey, "create checkout session").await;
    assert_eq!(origin.parent_span_id, SpanId::INVALID, "the origin is a root");
    let request = request_span(&origin).await;
    assert_eq!(request.name, "POST /api/billing/create-checkout-session");
    assert!(links_to(&request, &origin), "the request links to the origin");

    let stripe = span(&journey, "POST /v1/checkout/sessions").await;
    assert_eq!(
        (stripe.parent_span_id, &stripe.span_kind),
        (origin.span_context.span_id(), &SpanKind::Client)
    );
    assert_eq!(attribute(&stripe, "http.response.status_code").as_deref(), Some("200"));
    assert!(attribute(&stripe, "billing.stripe.request.id").is_some_and(|id| id.starts_with("req_")));

    for milestone in ["journey: customer.subscription.created", "journey: checkout.session.completed"] {
        let milestone = span(&journey, milestone).await;
        assert_eq!(milestone.parent_span_id, origin.span_context.span_id());
        assert_eq!(attribute(&milestone, "billing.tenant.id").as_deref(), Some("acme"));
        assert_webhook_spans(&milestone, &origin).await;
    }
    let portal = span(&journey, "journey: portal opened").await;
    assert_eq!(attribute(&portal, "user.id").as_deref(), Some("user-1"));

    assert_every_line_has_a_trace(&app).await;
    app.stop().await;
    assert_no_duplicate_attributes();
}

async fn refresh_is_milestone_and_links_to_event_that_caused_it(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let journey = journey_of(&app).await;
    let origin = span(&journey, "create checkout session").await;
    app.wait_for_refreshes().await;
    app.stripe.update_subscription(&subscription, &json!({ "quantity": 5, "silently": true })).await;
    let older = stripe_event("customer.subscription.updated", app.clock_seconds() - 1000, |object| {
        object["id"] = json!(subscription);
        object["status"] = json!("past_due");
    });
    let older = app.for_customer_of("acme", older).await;
    app.deliver(&older).await.ok();

    let milestone = span(&journey, "journey: refresh.changed").await;
    assert_eq!(milestone.parent_span_id, origin.span_context.span_id());
    let refresh = linked_from(&milestone).await;
    assert_eq!((&*refresh.name, refresh.parent_span_id), ("refresh", SpanId::INVALID));
    assert_eq!(attribute(&refresh, "billing.refresh.reason").as_deref(), Some("older"));
    assert!(links_to(&refresh, &origin));
    let cause = span_with("billing.stripe.event.id", older["id"].as_str().expect("an id"), "process ").await;
    assert!(links_to(&refresh, &cause), "the refresh links to the event that caused it");
    let trace = refresh.span_context.trace_id().to_string();
    let request = span(&trace, "GET /v1/subscriptions/{id}").await;
    for span in [&milestone, &refresh, &request] {
        assert_tenant_and_journey(span, &journey);
    }
    app.stop().await;
    assert_no_duplicate_attributes();
}

async fn backfilled_event_joins_journey_like_a_webhook(database: Database) {
    let mut app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let journey = journey_of(&app).await;
    app.wait_for_backfill().await;
    app.wait_for_refreshes().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    app.stripe.set_clock(&json!({ "advance_seconds": 5 })).await;
    app.stripe.update_subscription(&subscription, &json!({ "status": "past_due" })).await;

    app.start_service().await;
    let milestone = span(&journey, "journey: customer.subscription.updated").await;
    let process = linked_from(&milestone).await;
    assert_eq!(attribute(&process, "billing.event.source").as_deref(), Some("backfill"));
    assert_tenant_and_journey(&process, &journey);
    assert_eq!(
        process.parent_span_id,
        SpanId::INVALID,
        "it has its own trace, since a journey may start with it"
    );
    let backfill = linked_from(&process).await;
    assert_eq!((&*backfill.name, backfill.parent_span_id), ("backfill", SpanId::INVALID));
    assert_eq!(attribute(&backfill, "billing.backfill.cause").as_deref(), Some("start"));
    app.stop().await;
    assert_no_duplicate_attributes();
}

async fn tenants_started_by_one_backfill_have_separate_journeys(database: Database) {
    let mut app = TestApp::start(database).await;
    app.wait_for_backfill().await;
    app.stop_service().await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    for tenant in ["birch", "cedar"] {
        let customer =
            app.stripe.api("POST", "/v1/customers", &format!("metadata[tenant_id]={tenant}")).await;
        let customer = customer["id"].as_str().expect("a customer");
        let linked = app.run_command(&["tenant", "link", tenant, customer]);
        assert!(linked.status.success(), "{linked:?}");
        app.stripe.subscribe_customer(customer).await;
    }
    app.start_service().await;
    for tenant in ["birch", "cedar"] {
        app.wait_for_plan(tenant, "team").await;
    }
    let journey = |tenant: &'static str| {
        let app = &app;
        async move {
            let row = app.database.row::<entity::tenant::Entity>(tenant).await;
            row.and_then(|row| row.journey_id)
        }
    };
    let journeys = eventually("both have a journey", || async {
        Some((journey("birch").await?, journey("cedar").await?))
    })
    .await;
    assert_ne!(journeys.0, journeys.1);
    app.stop().await;
    assert_no_duplicate_attributes();
}

async fn retried_event_links_to_first_attempt(database: Database) {
    let app = TestApp::start(database).await;
    let event = deliver_poisoned_event(&app).await;
    let journey = journey_of(&app).await;
    app.wait_for_attempts(&event, 1).await;
    app.database.accept_poisoned_subscriptions().await;
    app.clock.advance_seconds(60);
    app.wait_for_outcome(&event, "applied").await;

    let id = event["id"].as_str().expect("an id");
    let first = span_with("billing.stripe.event.id", id, "process ").await;
    let retry = eventually("the successful retry has ended", || async {
        let is = |span: &SpanData| {
            span.name == "retry event" && attribute(span, "billing.outcome").as_deref() == Some("applied")
        };
        ended_spans().into_iter().find(is)
    })
    .await;
    assert!(links_to(&retry, &first));
    assert_tenant_and_journey(&retry, &journey);
    let milestone = eventually("the milestone", || async {
        let is = |span: &SpanData| span.name.starts_with("journey: ") && links_to(span, &retry);
        ended_spans().into_iter().find(is)
    })
    .await;
    assert_eq!(milestone.span_context.trace_id().to_string(), journey);
    app.stop().await;
    assert_no_duplicate_attributes();
}

async fn subscription_without_checkout_starts_a_journey(database: Database) {
    let app = TestApp::start(database).await;
    let event = stripe_event("customer.subscription.created", app.clock_seconds(), |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&event).await.ok();
    let process =
        span_with("billing.stripe.event.id", event["id"].as_str().expect("an id"), "process ").await;
    let journey = process.span_context.trace_id().to_string();
    assert_tenant_and_journey(&process, &journey);
    for what in ["customer.linked", "subscription.transition"] {
        let line = app.wait_for_line("subscription_state", |line| line["event"] == what).await;
        assert_eq!(line["journey_id"], journey.as_str(), "{line}");
    }

    let later = stripe_event("customer.subscription.updated", app.clock_seconds() + 1, |object| {
        object["status"] = json!("past_due");
    });
    app.deliver(&later).await.ok();
    let milestone = span(&journey, "journey: customer.subscription.updated").await;
    assert_eq!(milestone.parent_span_id, process.span_context.span_id());
    app.stop().await;
    assert_no_duplicate_attributes();
}

async fn parked_event_is_milestone_once_applied(database: Database) {
    let app = TestApp::start(database).await;
    app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
    let parked = stripe_event("customer.subscription.updated", app.clock_seconds(), |_| {});
    app.deliver(&parked).await.ok();
    assert_eq!(app.outcome_of(&parked).await.0, "parked");
    let linking = stripe_event("customer.subscription.created", app.clock_seconds() - 1, |object| {
        object["metadata"] = json!({ "tenant_id": "acme" });
    });
    app.deliver(&linking).await.ok();
    app.wait_for_outcome(&parked, "applied").await;

    let process =
        span_with("billing.stripe.event.id", linking["id"].as_str().expect("an id"), "process ").await;
    let journey = process.span_context.trace_id().to_string();
    let milestone = span(&journey, "journey: customer.subscription.updated").await;
    assert!(links_to(&milestone, &process), "it links to the event that linked the customer");
    assert_tenant_and_journey(&milestone, &journey);
    app.stop().await;
    assert_no_duplicate_attributes();
}

async fn late_event_names_journey_but_adds_no_milestone(database: Database) {
    let app = TestApp::start(database).await;
    let subscription = app.subscribe_to_pro("acme").await;
    let journey = journey_of(&app).await;
    app.clock.advance_seconds(73 * 3600);
    let late = stripe_event("customer.subscription.updated", app.clock_seconds(), |object| {
        object["id"] = json!(subscription);
        object["status"] = json!("past_due");
    });
    let late = app.for_customer_of("acme", late).await;
    app.deliver(&late).await.ok();
    app.open_portal(&app.token("acme"), &json!({})).await.ok();

    let process = span_with("billing.stripe.event.id", late["id"].as_str().expect("an id"), "process ").await;
    assert_tenant_and_journey(&process, &journey);
    assert!(links_to(&process, &span(&journey, "create checkout session").await));
    let names: Vec<_> = ended_spans()
        .into_iter()
        .filter(|span| span.span_context.trace_id().to_string() == journey)
        .map(|span| span.name)
        .collect();
    for name in ["journey: customer.subscription.updated", "journey: portal opened"] {
        assert!(!names.iter().any(|ended| ended == name), "{name} in {names:?}");
    }
    app.stop().await;
    assert_no_duplicate_attributes();
}

async fn statement_spans_contain_no_values(database: Database) {
    let app = TestApp::start(database).await;
    app.subscribe_to_pro("acme").await;
    app.open_portal(&app.token("acme"), &json!({})).await.ok();
    let inserted = eventually("the insert of a batch has ended", || async {
        let spans = ended_spans();
        let batches = spans.iter().filter(|span| span.name == "ingest batch");
        let batches: Vec<_> = batches.map(|span| span.span_context.span_id()).collect();
        let is_of_a_batch = |span: &SpanData| batches.contains(&span.parent_span_id);
        spans.into_iter().find(|span| span.name.contains("INSERT subscription") && is_of_a_batch(span))
    })
    .await;
    let batch = span_by_id(inserted.parent_span_id).await;
    assert_eq!(batch.name, "ingest batch", "the statement belongs to the batch, not to an event");
    assert_eq!(inserted.span_kind, SpanKind::Client);
    let system = if matches!(database, Database::Sqlite) { "sqlite" } else { "postgresql" };
    assert_eq!(attribute(&inserted, "db.system.name").as_deref(), Some(system));
    assert!(inserted.name.contains("INSERT event"), "a batch writes with one statement: {}", inserted.name);
    assert!(attribute(&inserted, "db.operation.name").is_some_and(|name| name.starts_with("BATCH")));
    let parts = inserted.name.matches("INSERT").count() + inserted.name.matches("SELECT").count();
    assert_eq!(attribute(&inserted, "db.operation.batch.size"), Some(parts.to_string()));
    let customers = ended_spans().into_iter().find(|span| span.name == "SELECT customer");
    let customers = customers.expect("customers are read by their own statement");
    for (name, value) in [("db.operation.name", "SELECT"), ("db.collection.name", "customer")] {
        assert_eq!(attribute(&customers, name).as_deref(), Some(value));
    }
    let address = attribute(&inserted, "server.address");
    assert_eq!(address.is_some(), matches!(database, Database::Postgres), "{address:?}");
    for span in ended_spans() {
        let Some(text) = attribute(&span, "db.query.text") else { continue };
        assert_ne!(span.parent_span_id, SpanId::INVALID, "a statement has a parent span: {text}");
        for value in ["acme", "cus_", "sub_", "evt_", "cs_test", "user-1"] {
            assert!(!text.contains(value), "{value} in {text}");
        }
    }
    app.stop().await;
    assert_no_duplicate_attributes();
}

/// A span keeps an attribute that is set twice, but a collector must receive each name once.
fn assert_no_duplicate_attributes() {
    for span in ended_spans() {
        let mut seen = HashSet::new();
        for attribute in &span.attributes {
            assert!(seen.insert(attribute.key.as_str()), "{} twice on {}", attribute.key, span.name);
        }
    }
}

/// Both attributes must be on one span, since a search by tags matches within a span.
fn assert_tenant_and_journey(span: &SpanData, journey: &str) {
    assert_eq!(attribute(span, "billing.tenant.id").as_deref(), Some("acme"), "{}", span.name);
    assert_eq!(attribute(span, "billing.journey.id").as_deref(), Some(journey), "{}", span.name);
}

async fn journey_of(app: &TestApp) -> String {
    let line = app.wait_for_line("billing", |line| line["event"] == "checkout.create.success").await;
    line["journey_id"].as_str().expect("a journey").to_owned()
}

/// The span with this attribute whose name has this prefix.
async fn span_with(name: &str, value: &str, prefix: &str) -> SpanData {
    eventually(value, || async {
        let is = |span: &SpanData| {
            span.name.starts_with(prefix) && attribute(span, name).as_deref() == Some(value)
        };
        ended_spans().into_iter().find(is)
    })
    .await
}

/// A milestone links to the span that processed the event. That span links to the origin, is a
/// child of the webhook's request in a separate trace, and is linked from the span of its batch.
async fn assert_webhook_spans(milestone: &SpanData, origin: &SpanData) {
    let process = linked_from(milestone).await;
    assert_eq!(process.span_kind, SpanKind::Consumer);
    assert!(process.name.starts_with("process "), "{}", process.name);
    assert!(links_to(&process, origin));
    let request = span_by_id(process.parent_span_id).await;
    assert_eq!(request.name, "POST /api/billing/webhook");
    assert_eq!(request.parent_span_id, SpanId::INVALID);
    for span in [&process, &request] {
        let journey = origin.span_context.trace_id().to_string();
        assert_eq!(attribute(span, "billing.journey.id"), Some(journey));
        assert_eq!(attribute(span, "billing.outcome").as_deref(), Some("applied"));
        for name in ["billing.tenant.id", "billing.stripe.customer.id", "billing.stripe.event.id"] {
            assert!(attribute(span, name).is_some(), "{name} on {}", span.name);
        }
    }
    eventually("the batch's span links to the event's", || async {
        ended_spans().into_iter().find(|span| span.name == "ingest batch" && links_to(span, &process))
    })
    .await;
}

async fn assert_every_line_has_a_trace(app: &TestApp) {
    for topic in ["billing", "webhook_signatures", "subscription_state"] {
        for line in app.lines(topic) {
            let trace = line["trace_id"].as_str().unwrap_or_else(|| panic!("no trace: {line}")).to_owned();
            eventually("the line's trace has a span", || async {
                let in_trace = |span: &SpanData| span.span_context.trace_id().to_string() == trace;
                ended_spans().into_iter().find(in_trace)
            })
            .await;
        }
    }
}

async fn span(trace: &str, name: &str) -> SpanData {
    eventually(name, || async {
        let is = |span: &SpanData| span.name == name && span.span_context.trace_id().to_string() == trace;
        ended_spans().into_iter().find(is)
    })
    .await
}

async fn span_by_id(id: SpanId) -> SpanData {
    eventually("the span has ended", || async {
        ended_spans().into_iter().find(|span| span.span_context.span_id() == id)
    })
    .await
}

async fn linked_from(span: &SpanData) -> SpanData {
    let link = span.links.iter().next().expect("a link");
    span_by_id(link.span_context.span_id()).await
}

/// The request's span, which the origin links to, in the caller's trace.
async fn request_span(origin: &SpanData) -> SpanData {
    let request = linked_from(origin).await;
    assert_eq!(request.span_context.trace_id().to_string(), SPA);
    request
}

fn links_to(span: &SpanData, other: &SpanData) -> bool {
    span.links.iter().any(|link| link.span_context.span_id() == other.span_context.span_id())
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.map(|attribute| attribute.value.as_str().into_owned())
}
