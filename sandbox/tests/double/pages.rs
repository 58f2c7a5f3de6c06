//! The hosted pages.

use reqwest::Method;
use serde_json::{Value, json};

use crate::test_double::{HttpResponse, TestDouble, id, send, types};

fn page(response: &HttpResponse) -> &str {
    page_with_status(response, 200)
}

/// Asserts what all pages have in common and returns the HTML.
fn page_with_status(response: &HttpResponse, status: u16) -> &str {
    assert_eq!(response.status, status, "{}", response.text);
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = response.header("content-security-policy").expect("content security policy");
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
        assert_eq!(response.text.matches(once).count(), 1, "should contain {once} once: {}", response.text);
    }
    &response.text
}

async fn portal(double: &TestDouble, customer: &str, more: &[(&str, &str)]) -> String {
    let mut params = vec![("customer", customer), ("return_url", "https://shop.example/billing?a=1&b=2")];
    params.extend_from_slice(more);
    let session = double.post("/v1/billing_portal/sessions", &params).await.ok();
    double.path_of(&session["url"])
}

async fn last_event(double: &TestDouble) -> Value {
    double.events().await.pop().expect("event")
}

#[tokio::test]
async fn payment_creates_subscription_and_redirects() {
    let double = TestDouble::start().await;
    let customer = id(&double.post("/v1/customers", &[("name", "<script>alert(1)</script>")]).await.ok());
    let more = [
        ("client_reference_id", "tenant"),
        ("metadata[journey_id]", "j"),
        ("subscription_data[metadata][tenant_id]", "t"),
    ];
    let session = double.create_checkout(&customer, &more).await;
    let checkout = double.path_of(&session["url"]);
    let shown = double.view(&checkout).await;
    assert!(page(&shown).contains("Pro, $29.00 a month"));
    assert!(page(&shown).contains("&lt;script&gt;") && !shown.text.contains("<script>"));

    let paid = double.submit(&checkout, &[("action", "pay")]).await;
    assert_eq!(paid.location(), format!("https://shop.example/done?session={}", id(&session)));
    let events = double.events().await;
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
    assert_eq!(double.get(&format!("/v1/checkout/sessions/{}", id(&session)), &[]).await.ok(), *completed);

    assert!(page(&double.view(&checkout).await).contains("complete"));
    let again = double.submit(&checkout, &[("action", "pay")]).await;
    assert!(page(&again).contains("complete"));
    assert_eq!(double.events().await.len(), 4, "a double click pays once");
}

#[tokio::test]
async fn declined_card_leaves_session_open() {
    let double = TestDouble::start().await;
    let session = double.create_checkout(&double.create_customer().await, &[]).await;
    let checkout = double.path_of(&session["url"]);
    let declined = double.submit(&checkout, &[("action", "decline")]).await;
    assert!(page(&declined).contains("role=\"alert\"") && declined.text.contains("autofocus"));
    assert!(declined.text.contains("<title>The card was declined · Checkout"));
    assert_eq!(double.events().await.len(), 1, "only the customer was created");
    double.submit(&checkout, &[("action", "pay")]).await.location();
}

#[tokio::test]
async fn cancel_button_redirects_and_leaves_session_open() {
    let double = TestDouble::start().await;
    let session = double.create_checkout(&double.create_customer().await, &[]).await;
    let checkout = double.path_of(&session["url"]);
    assert_eq!(
        double.submit(&checkout, &[("action", "cancel")]).await.location(),
        "https://shop.example/back"
    );
    let session = format!("/v1/checkout/sessions/{}", id(&session));
    assert_eq!(double.get(&session, &[]).await.ok()["status"], "open");
    double.post(&format!("{session}/expire"), &[]).await.ok();
    let expired = double.view(&checkout).await;
    assert!(
        page(&expired).contains("has expired") && expired.text.contains("href=\"https://shop.example/back\"")
    );
}

#[tokio::test]
async fn checkout_expires_after_24_hours() {
    let double = TestDouble::start().await;
    double.stop_clock_and_advance(0).await;
    let session = double.create_checkout(&double.create_customer().await, &[]).await;
    let checkout = double.path_of(&session["url"]);
    double.stop_clock_and_advance(24 * 60 * 60 - 1).await;
    assert!(page(&double.view(&checkout).await).contains("value=\"pay\""));
    double.stop_clock_and_advance(1).await;
    assert!(page(&double.view(&checkout).await).contains("has expired"));
    assert!(page(&double.submit(&checkout, &[("action", "pay")]).await).contains("has expired"));
}

#[tokio::test]
async fn unknown_paths_and_actions_show_error_pages() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let session = double.create_checkout(&customer, &[]).await;
    let (checkout, portal) = (double.path_of(&session["url"]), portal(&double, &customer, &[]).await);
    for path in ["/", "/c/pay", "/c/pay/cs_none", "/p/session/test_none", "/v2/none"] {
        page_with_status(&double.view(path).await, 404);
    }
    for unknown in ["/c/pay/cs_none", "/p/session/test_none"] {
        page_with_status(&double.submit(unknown, &[("action", "explode")]).await, 404);
    }
    for known in [&checkout, &portal] {
        let wrong = double.submit(known, &[("action", "explode")]).await;
        assert!(page_with_status(&wrong, 400).contains(&format!("href=\"{known}\"")), "should link back");
        page_with_status(&double.submit(known, &[]).await, 400);
        page_with_status(&double.submit(known, &[("action", &"a".repeat(5000))]).await, 413);
        page_with_status(&send(double.request(Method::POST, known).body("{}")).await, 415);
        page_with_status(&send(double.request(Method::DELETE, known)).await, 405);
    }
}

#[tokio::test]
async fn portal_cancels_with_cancel_at_and_resumes() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let subscription = double.create_subscription(&customer).await;
    let portal = portal(&double, &customer, &[]).await;
    assert_eq!(last_event(&double).await["type"], "billing_portal.session.created");
    let shown = double.view(&portal).await;
    assert!(page(&shown).contains("href=\"https://shop.example/billing?a=1&amp;b=2\""));

    let canceled = double.submit(&portal, &[("action", "cancel"), ("subscription", &subscription)]).await;
    let shown = double.view(canceled.location()).await;
    assert!(page(&shown).contains("role=\"status\"") && shown.text.contains("Ends on"));
    let event = last_event(&double).await;
    let object = &event["data"]["object"];
    assert_eq!(object["cancel_at"], object["items"]["data"][0]["current_period_end"]);
    assert_eq!([&object["cancel_at_period_end"], &object["status"]], [&json!(false), &json!("active")]);
    assert!(object["canceled_at"].is_i64());
    let previous = &event["data"]["previous_attributes"];
    assert_eq!([&previous["cancel_at"], &previous["canceled_at"]], [&Value::Null, &Value::Null]);

    let resumed = double.submit(&portal, &[("action", "resume"), ("subscription", &subscription)]).await;
    assert!(page(&double.view(resumed.location()).await).contains("Renews on"));
    let event = last_event(&double).await;
    assert!(event["data"]["object"]["cancel_at"].is_null());
    assert!(event["data"]["previous_attributes"]["cancel_at"].is_i64());
}

#[tokio::test]
async fn portal_changes_plan_and_card() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let subscription = double.create_subscription(&customer).await;
    let portal = portal(&double, &customer, &[]).await;
    let change =
        [("action", "change_plan"), ("subscription", subscription.as_str()), ("price", "price_team_monthly")];
    let shown = double.view(&portal).await;
    assert!(page(&shown).contains("value=\"price_team_monthly\""));
    assert!(!shown.text.contains("value=\"price_pro_monthly\""), "the current plan is not offered");
    double.submit(&portal, &change).await.location();
    let event = last_event(&double).await;
    assert_eq!(event["type"], "customer.subscription.updated");
    assert_eq!(event["data"]["object"]["items"]["data"][0]["price"]["lookup_key"], "team_monthly");
    let previous = &event["data"]["previous_attributes"]["items"]["data"][0];
    assert_eq!(previous["price"]["lookup_key"], "pro_monthly");
    double.submit(&portal, &change).await.location();
    assert_eq!(last_event(&double).await, event, "a double click changes it once");

    double.submit(&portal, &[("action", "update_card")]).await.location();
    assert_eq!(last_event(&double).await["type"], "customer.updated");
}

#[tokio::test]
async fn portal_rejects_subscription_of_other_customer() {
    let double = TestDouble::start().await;
    let subscription = double.create_subscription(&double.create_customer().await).await;
    let stranger = double.create_customer().await;
    let portal = portal(&double, &stranger, &[]).await;
    let pressed = double.submit(&portal, &[("action", "cancel"), ("subscription", &subscription)]).await;
    page_with_status(&pressed, 400);
    let status = double.get(&format!("/v1/subscriptions/{subscription}"), &[]).await.ok();
    assert!(status["cancel_at"].is_null());
}

#[tokio::test]
async fn portal_of_deleted_customer_returns_404() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let portal = portal(&double, &customer, &[]).await;
    double.delete(&format!("/v1/customers/{customer}")).await.ok();
    page_with_status(&double.view(&portal).await, 404);
    page_with_status(&double.submit(&portal, &[("action", "update_card")]).await, 404);
}

#[tokio::test]
async fn immediate_cancellation_ends_subscription_at_once() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let subscription = double.create_subscription(&customer).await;
    let immediately = [
        ("features[subscription_cancel][enabled]", "true"),
        ("features[subscription_cancel][mode]", "immediately"),
    ];
    let created = double.post("/v1/billing_portal/configurations", &immediately).await.ok();
    let portal = portal(&double, &customer, &[("configuration", &id(&created))]).await;
    assert!(page(&double.view(&portal).await).contains("If you cancel, it ends immediately."));
    let cancel = [("action", "cancel"), ("subscription", subscription.as_str())];
    let canceled = double.submit(&portal, &cancel).await;
    let shown = double.view(canceled.location()).await;
    assert!(page(&shown).contains("Ended on") && !shown.text.contains("<form"));
    page_with_status(&double.submit(&portal, &cancel).await, 400);
}

#[tokio::test]
async fn flow_offers_one_action_and_redirects_afterwards() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let subscription = double.create_subscription(&customer).await;
    let flow = [
        ("flow_data[type]", "subscription_cancel"),
        ("flow_data[subscription_cancel][subscription]", subscription.as_str()),
        ("flow_data[after_completion][type]", "redirect"),
        ("flow_data[after_completion][redirect][return_url]", "https://shop.example/bye"),
    ];
    let portal = portal(&double, &customer, &flow).await;
    let shown = double.view(&portal).await;
    assert!(page(&shown).contains("value=\"cancel\"") && !shown.text.contains("value=\"change_plan\""));
    let done = double.submit(&portal, &[("action", "cancel"), ("subscription", &subscription)]).await;
    assert_eq!(done.location(), "https://shop.example/bye");
    assert!(page(&double.view(&portal).await).contains("<h1>Resume your subscription</h1>"));
    double.forget(&format!("/subscriptions/{subscription}")).await;
    assert!(page(&double.view(&portal).await).contains("There is no subscription."));
}

#[tokio::test]
async fn portal_without_configuration_is_rejected() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    send(double.request(Method::DELETE, "/_sandbox/portal_configuration")).await.ok();
    let error = double.post("/v1/billing_portal/sessions", &[("customer", &customer)]).await.error(400);
    assert!(
        error["message"].as_str().is_some_and(|message| message.starts_with("No configuration provided"))
    );
    assert_eq!(error["code"], Value::Null);

    let only_card = [("features[payment_method_update][enabled]", "true")];
    let created = double.post("/v1/billing_portal/configurations", &only_card).await.ok();
    let portal = portal(&double, &customer, &[("configuration", &id(&created))]).await;
    let shown = double.view(&portal).await;
    assert!(page(&shown).contains("value=\"update_card\""));
}

#[tokio::test]
async fn portal_flow_is_rejected_where_stripe_rejects_it() {
    let double = TestDouble::start().await;
    let customer = double.create_customer().await;
    let subscription = double.create_subscription(&customer).await;
    let rejected = async |flow: &str, more: &[(&str, &str)]| {
        let subscription_param = format!("flow_data[{flow}][subscription]");
        let mut params = vec![("customer", customer.as_str()), ("flow_data[type]", flow)];
        params.push((subscription_param.as_str(), subscription.as_str()));
        params.extend_from_slice(more);
        let error = double.post("/v1/billing_portal/sessions", &params).await.error(400);
        assert_eq!([&error["code"], &error["param"]], [&Value::Null, &Value::Null]);
        error["message"].as_str().expect("message").to_owned()
    };
    let only_card = [("features[payment_method_update][enabled]", "true")];
    let configuration = id(&double.post("/v1/billing_portal/configurations", &only_card).await.ok());
    let named = [("configuration", configuration.as_str())];
    let disabled = rejected("subscription_update", &named).await;
    assert!(disabled.ends_with("the subscription update feature in the portal configuration is disabled."));
    assert!(rejected("subscription_cancel", &named).await.ends_with("is disabled."));

    let path = format!("/v1/billing_portal/configurations/{configuration}");
    let updated = double.post(&path, &[("features[subscription_update][enabled]", "true")]).await.ok();
    assert_eq!(updated["features"]["subscription_update"]["enabled"], true);
    assert_eq!(updated["features"]["payment_method_update"]["enabled"], true, "other features do not change");
    assert_eq!(double.get(&path, &[]).await.ok(), updated);

    let item = [("items[0][price]", "price_team_monthly")];
    let subscription_path = format!("/v1/subscriptions/{subscription}");
    double.post(&subscription_path, &item).await.ok();
    assert!(rejected("subscription_update", &named).await.contains("multiple items"));
    double.post(&subscription_path, &[("cancel_at_period_end", "true")]).await.ok();
    let again = rejected("subscription_cancel", &[]).await;
    assert_eq!(
        again,
        format!("The subscription {subscription} is already set to be canceled at period end.")
    );
    double.delete(&subscription_path).await.ok();
    assert!(rejected("subscription_cancel", &[]).await.ends_with("already canceled."));

    double.post(&path, &[("active", "false")]).await.ok();
    let inactive = [("customer", customer.as_str()), named[0]];
    let error = double.post("/v1/billing_portal/sessions", &inactive).await.error(400);
    assert_eq!(error["param"], "configuration");
}
