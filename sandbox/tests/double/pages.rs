//! The hosted pages, as a customer uses them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Reply, Stage, id, send, types};

fn page(reply: &Reply) -> &str {
    page_of(reply, 200)
}

/// What every page is, whatever is on it.
fn page_of(reply: &Reply, status: u16) -> &str {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = reply.header("content-security-policy").expect("a page should have a policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("script-src"));
    for once in [
        "<html lang=\"en\">",
        "Billhook's sandbox, not Stripe</title>",
        "<header>",
        "This is Billhook's sandbox, not Stripe.</strong> No money moves.",
        "<main>",
        "<h1>",
        "<footer>",
    ] {
        assert_eq!(reply.text.matches(once).count(), 1, "{once} should be in it once: {}", reply.text);
    }
    &reply.text
}

fn path(stage: &Stage, url: &Value) -> String {
    let url = url.as_str().expect("a page should have an address");
    url.strip_prefix(&stage.url("")).expect("the address should be the double's").to_owned()
}

async fn portal(stage: &Stage, customer: &str, more: &[(&str, &str)]) -> String {
    let mut params = vec![("customer", customer), ("return_url", "https://shop.example/billing?a=1&b=2")];
    params.extend_from_slice(more);
    let session = stage.post("/v1/billing_portal/sessions", &params).await.ok();
    path(stage, &session["url"])
}

async fn last_event(stage: &Stage) -> Value {
    stage.events().await.pop().expect("there should be an event")
}

#[tokio::test]
async fn paying_makes_a_subscription_and_leads_back_to_the_shop() {
    let stage = Stage::set().await;
    let customer = id(&stage.post("/v1/customers", &[("name", "<script>alert(1)</script>")]).await.ok());
    let more = [
        ("client_reference_id", "tenant"),
        ("metadata[journey_id]", "j"),
        ("subscription_data[metadata][tenant_id]", "t"),
    ];
    let session = stage.checkout(&customer, &more).await;
    let checkout = path(&stage, &session["url"]);
    let shown = stage.look(&checkout).await;
    assert!(page(&shown).contains("Pro, $29.00 a month"));
    assert!(page(&shown).contains("&lt;script&gt;") && !shown.text.contains("<script>"));

    let paid = stage.press(&checkout, &[("action", "pay")]).await;
    assert_eq!(paid.location(), format!("https://shop.example/done?session={}", id(&session)));
    let events = stage.events().await;
    assert_eq!(
        types(&events[1..]),
        ["customer.subscription.created", "checkout.session.completed", "invoice.paid"]
    );
    let (subscription, completed) = (&events[1]["data"]["object"], &events[2]["data"]["object"]);
    let invoice = &events[3]["data"]["object"];
    assert_eq!([&subscription["status"], &subscription["customer"]], ["active", customer.as_str()]);
    assert_eq!(subscription["metadata"], json!({"tenant_id": "t"}));
    assert_eq!(subscription["latest_invoice"], invoice["id"]);
    assert_eq!([&completed["status"], &completed["payment_status"]], ["complete", "paid"]);
    assert_eq!(
        [&completed["subscription"], &completed["client_reference_id"]],
        [&subscription["id"], &json!("tenant")]
    );
    assert_eq!(completed["metadata"], json!({"journey_id": "j"}));
    assert_eq!(invoice["parent"]["subscription_details"]["subscription"], subscription["id"]);
    assert_eq!(stage.get(&format!("/v1/checkout/sessions/{}", id(&session)), &[]).await.ok(), *completed);

    assert!(page(&stage.look(&checkout).await).contains("complete"));
    let again = stage.press(&checkout, &[("action", "pay")]).await;
    assert!(page(&again).contains("complete"));
    assert_eq!(stage.events().await.len(), 4, "a double click pays once");
}

#[tokio::test]
async fn a_declined_card_leaves_the_session_open() {
    let stage = Stage::set().await;
    let session = stage.checkout(&stage.customer().await, &[]).await;
    let checkout = path(&stage, &session["url"]);
    let declined = stage.press(&checkout, &[("action", "decline")]).await;
    assert!(page(&declined).contains("role=\"alert\"") && declined.text.contains("autofocus"));
    assert!(declined.text.contains("<title>The card was declined · Checkout"));
    assert_eq!(stage.events().await.len(), 1, "only the customer was made");
    stage.press(&checkout, &[("action", "pay")]).await.location();
}

#[tokio::test]
async fn turning_back_leads_to_the_cancel_page() {
    let stage = Stage::set().await;
    let session = stage.checkout(&stage.customer().await, &[]).await;
    let checkout = path(&stage, &session["url"]);
    assert_eq!(stage.press(&checkout, &[("action", "cancel")]).await.location(), "https://shop.example/back");
    let session = format!("/v1/checkout/sessions/{}", id(&session));
    assert_eq!(stage.get(&session, &[]).await.ok()["status"], "open");
    stage.post(&format!("{session}/expire"), &[]).await.ok();
    let expired = stage.look(&checkout).await;
    assert!(
        page(&expired).contains("has expired") && expired.text.contains("href=\"https://shop.example/back\"")
    );
}

#[tokio::test]
async fn a_checkout_that_was_open_for_too_long_has_expired() {
    let stage = Stage::set().await;
    let session = stage.checkout(&stage.customer().await, &[]).await;
    let checkout = path(&stage, &session["url"]);
    stage.stop_clock_and_advance(24 * 60 * 60 - 1).await;
    assert!(page(&stage.look(&checkout).await).contains("value=\"pay\""));
    stage.stop_clock_and_advance(1).await;
    assert!(page(&stage.look(&checkout).await).contains("has expired"));
    assert!(page(&stage.press(&checkout, &[("action", "pay")]).await).contains("has expired"));
}

#[tokio::test]
async fn what_is_no_page_and_no_button_is_told_on_a_page() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let session = stage.checkout(&customer, &[]).await;
    let (checkout, portal) = (path(&stage, &session["url"]), portal(&stage, &customer, &[]).await);
    for path in ["/", "/c/pay", "/c/pay/cs_none", "/p/session/test_none", "/v2/none"] {
        page_of(&stage.look(path).await, 404);
    }
    for unknown in ["/c/pay/cs_none", "/p/session/test_none"] {
        page_of(&stage.press(unknown, &[("action", "explode")]).await, 404);
    }
    for known in [&checkout, &portal] {
        let wrong = stage.press(known, &[("action", "explode")]).await;
        assert!(page_of(&wrong, 400).contains(&format!("href=\"{known}\"")), "there should be a way back");
        page_of(&stage.press(known, &[]).await, 400);
        page_of(&stage.press(known, &[("action", &"a".repeat(5000))]).await, 413);
        page_of(&send(stage.request(Method::POST, known).body("{}")).await, 415);
        page_of(&send(stage.request(Method::DELETE, known)).await, 405);
    }
}

#[tokio::test]
async fn the_portal_cancels_as_flexible_billing_does_and_resumes() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let subscription = stage.subscription(&customer).await;
    let portal = portal(&stage, &customer, &[]).await;
    assert_eq!(last_event(&stage).await["type"], "billing_portal.session.created");
    let shown = stage.look(&portal).await;
    assert!(page(&shown).contains("href=\"https://shop.example/billing?a=1&amp;b=2\""));

    let canceled = stage.press(&portal, &[("action", "cancel"), ("subscription", &subscription)]).await;
    let shown = stage.look(canceled.location()).await;
    assert!(page(&shown).contains("role=\"status\"") && shown.text.contains("Ends on"));
    let event = last_event(&stage).await;
    let object = &event["data"]["object"];
    assert_eq!(object["cancel_at"], object["items"]["data"][0]["current_period_end"]);
    assert_eq!([&object["cancel_at_period_end"], &object["status"]], [&json!(false), &json!("active")]);
    assert!(object["canceled_at"].is_i64());
    let previous = &event["data"]["previous_attributes"];
    assert_eq!([&previous["cancel_at"], &previous["canceled_at"]], [&Value::Null, &Value::Null]);

    let resumed = stage.press(&portal, &[("action", "resume"), ("subscription", &subscription)]).await;
    assert!(page(&stage.look(resumed.location()).await).contains("Renews on"));
    let event = last_event(&stage).await;
    assert!(event["data"]["object"]["cancel_at"].is_null());
    assert!(event["data"]["previous_attributes"]["cancel_at"].is_i64());
}

#[tokio::test]
async fn the_portal_changes_the_plan_and_the_card() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let subscription = stage.subscription(&customer).await;
    let portal = portal(&stage, &customer, &[]).await;
    let change =
        [("action", "change_plan"), ("subscription", subscription.as_str()), ("price", "price_team_monthly")];
    let shown = stage.look(&portal).await;
    assert!(page(&shown).contains("value=\"price_team_monthly\""));
    assert!(!shown.text.contains("value=\"price_pro_monthly\""), "it has that plan already");
    stage.press(&portal, &change).await.location();
    let event = last_event(&stage).await;
    assert_eq!(event["type"], "customer.subscription.updated");
    assert_eq!(event["data"]["object"]["items"]["data"][0]["price"]["lookup_key"], "team_monthly");
    let previous = &event["data"]["previous_attributes"]["items"]["data"][0];
    assert_eq!(previous["price"]["lookup_key"], "pro_monthly");
    stage.press(&portal, &change).await.location();
    assert_eq!(last_event(&stage).await, event, "a double click changes it once");

    stage.press(&portal, &[("action", "update_card")]).await.location();
    assert_eq!(last_event(&stage).await["type"], "customer.updated");
}

#[tokio::test]
async fn nobody_touches_what_is_not_theirs() {
    let stage = Stage::set().await;
    let subscription = stage.subscription(&stage.customer().await).await;
    let stranger = stage.customer().await;
    let portal = portal(&stage, &stranger, &[]).await;
    let pressed = stage.press(&portal, &[("action", "cancel"), ("subscription", &subscription)]).await;
    page_of(&pressed, 400);
    let status = stage.get(&format!("/v1/subscriptions/{subscription}"), &[]).await.ok();
    assert!(status["cancel_at"].is_null());
}

#[tokio::test]
async fn a_portal_is_over_with_its_customer() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let portal = portal(&stage, &customer, &[]).await;
    stage.delete(&format!("/v1/customers/{customer}")).await.ok();
    page_of(&stage.look(&portal).await, 404);
    page_of(&stage.press(&portal, &[("action", "update_card")]).await, 404);
}

#[tokio::test]
async fn what_is_canceled_at_once_is_over_and_nothing_more_can_be_done_about_it() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let subscription = stage.subscription(&customer).await;
    let at_once = [
        ("features[subscription_cancel][enabled]", "true"),
        ("features[subscription_cancel][mode]", "immediately"),
    ];
    let made = stage.post("/v1/billing_portal/configurations", &at_once).await.ok();
    let portal = portal(&stage, &customer, &[("configuration", &id(&made))]).await;
    assert!(page(&stage.look(&portal).await).contains("If canceled, it ends at once."));
    let cancel = [("action", "cancel"), ("subscription", subscription.as_str())];
    let canceled = stage.press(&portal, &cancel).await;
    let shown = stage.look(canceled.location()).await;
    assert!(page(&shown).contains("Ended on") && !shown.text.contains("<form"));
    page_of(&stage.press(&portal, &cancel).await, 400);
}

#[tokio::test]
async fn a_flow_shows_one_thing_and_leads_back_when_it_is_done() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let subscription = stage.subscription(&customer).await;
    let flow = [
        ("flow_data[type]", "subscription_cancel"),
        ("flow_data[subscription_cancel][subscription]", subscription.as_str()),
        ("flow_data[after_completion][type]", "redirect"),
        ("flow_data[after_completion][redirect][return_url]", "https://shop.example/bye"),
    ];
    let portal = portal(&stage, &customer, &flow).await;
    let shown = stage.look(&portal).await;
    assert!(page(&shown).contains("value=\"cancel\"") && !shown.text.contains("value=\"change_plan\""));
    let done = stage.press(&portal, &[("action", "cancel"), ("subscription", &subscription)]).await;
    assert_eq!(done.location(), "https://shop.example/bye");
    assert!(page(&stage.look(&portal).await).contains("<h1>Resume your subscription</h1>"));
    stage.forget(&format!("/subscriptions/{subscription}")).await;
    assert!(page(&stage.look(&portal).await).contains("There is no subscription."));
}

#[tokio::test]
async fn without_a_configuration_there_is_no_portal() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    send(stage.request(Method::DELETE, "/_sandbox/portal_configuration")).await.ok();
    let error = stage.post("/v1/billing_portal/sessions", &[("customer", &customer)]).await.error(400);
    assert!(
        error["message"].as_str().is_some_and(|message| message.starts_with("No configuration provided"))
    );
    assert_eq!(error["code"], Value::Null);

    let only_card = [("features[payment_method_update][enabled]", "true")];
    let made = stage.post("/v1/billing_portal/configurations", &only_card).await.ok();
    let portal = portal(&stage, &customer, &[("configuration", &id(&made))]).await;
    let shown = stage.look(&portal).await;
    assert!(page(&shown).contains("value=\"update_card\""));
}

#[tokio::test]
async fn portal_flow_is_refused_where_stripe_refuses_it() {
    let stage = Stage::set().await;
    let customer = stage.customer().await;
    let subscription = stage.subscription(&customer).await;
    let refused = async |flow: &str, more: &[(&str, &str)]| {
        let about = format!("flow_data[{flow}][subscription]");
        let mut params = vec![("customer", customer.as_str()), ("flow_data[type]", flow)];
        params.push((about.as_str(), subscription.as_str()));
        params.extend_from_slice(more);
        let error = stage.post("/v1/billing_portal/sessions", &params).await.error(400);
        assert_eq!([&error["code"], &error["param"]], [&Value::Null, &Value::Null]);
        error["message"].as_str().expect("a message").to_owned()
    };
    let only_card = [("features[payment_method_update][enabled]", "true")];
    let configuration = id(&stage.post("/v1/billing_portal/configurations", &only_card).await.ok());
    let named = [("configuration", configuration.as_str())];
    let disabled = refused("subscription_update", &named).await;
    assert!(disabled.ends_with("the subscription update feature in the portal configuration is disabled."));
    assert!(refused("subscription_cancel", &named).await.ends_with("is disabled."));

    let path = format!("/v1/billing_portal/configurations/{configuration}");
    let updated = stage.post(&path, &[("features[subscription_update][enabled]", "true")]).await.ok();
    assert_eq!(updated["features"]["subscription_update"]["enabled"], true);
    assert_eq!(updated["features"]["payment_method_update"]["enabled"], true, "what is not named stays");
    assert_eq!(stage.get(&path, &[]).await.ok(), updated);

    let item = [("items[0][price]", "price_team_monthly")];
    let subscription_path = format!("/v1/subscriptions/{subscription}");
    stage.post(&subscription_path, &item).await.ok();
    assert!(refused("subscription_update", &named).await.contains("multiple items"));
    stage.post(&subscription_path, &[("cancel_at_period_end", "true")]).await.ok();
    let again = refused("subscription_cancel", &[]).await;
    assert_eq!(
        again,
        format!("The subscription {subscription} is already set to be canceled at period end.")
    );
    stage.delete(&subscription_path).await.ok();
    assert!(refused("subscription_cancel", &[]).await.ends_with("already canceled."));

    stage.post(&path, &[("active", "false")]).await.ok();
    let inactive = [("customer", customer.as_str()), named[0]];
    let error = stage.post("/v1/billing_portal/sessions", &inactive).await.error(400);
    assert_eq!(error["param"], "configuration");
}
