//! The Stripe double and calls of its API and its control interface.

use reqwest::{Method, StatusCode};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};

use crate::support::app::{STRIPE_KEY, WEBHOOK_SECRET};

pub struct Stripe {
    double: Option<Sandbox>,
    pub url: String,
    http: reqwest::Client,
}

impl Stripe {
    pub async fn start() -> Self {
        let options = Options { api_key: STRIPE_KEY.to_owned(), ..Options::default() };
        let double = Sandbox::start(options).await.expect("the double starts");
        Self { url: double.url(), double: Some(double), http: reqwest::Client::new() }
    }

    /// Stripe becomes unreachable.
    pub async fn stop(&mut self) {
        if let Some(double) = self.double.take() {
            double.stop().await;
        }
    }

    pub async fn add_webhook_endpoint(&self, url: &str) {
        self.control("POST", "/_sandbox/webhook_endpoints", &json!({ "url": url, "secret": WEBHOOK_SECRET }))
            .await;
    }

    pub async fn inject_fault(&self, fault: &Value) {
        self.control("POST", "/_sandbox/faults", fault).await;
    }

    pub async fn clear_faults(&self) {
        self.control("DELETE", "/_sandbox/faults", &Value::Null).await;
    }

    pub async fn pay(&self, session: &str) {
        self.pay_with(session, "ok").await;
    }

    /// A new customer with a team subscription that no checkout of Billhook made.
    pub async fn create_subscribed_customer(&self) -> String {
        let customer = self.api("POST", "/v1/customers", "").await["id"].clone();
        let customer = customer.as_str().expect("a customer").to_owned();
        self.subscribe_customer(&customer).await;
        customer
    }

    /// Gives a customer a team subscription without a checkout of Billhook.
    pub async fn subscribe_customer(&self, customer: &str) {
        self.subscribe_with(customer, "").await;
    }

    /// The subscription's metadata names the tenant.
    pub async fn subscribe_customer_for(&self, tenant: &str, customer: &str) {
        self.subscribe_with(customer, &format!("&subscription_data[metadata][tenant_id]={tenant}")).await;
    }

    /// Gives each of the tenants `tenant-0`, `tenant-1` and so on a new customer with a team
    /// subscription.
    pub async fn subscribe_customers_of_tenants(&self, count: usize) {
        for number in 0..count {
            let customer = self.api("POST", "/v1/customers", "").await["id"].clone();
            let customer = customer.as_str().expect("a customer");
            self.subscribe_customer_for(&format!("tenant-{number}"), customer).await;
        }
    }

    async fn subscribe_with(&self, customer: &str, more_fields: &str) {
        let form = format!(
            "mode=subscription&customer={customer}&success_url=http://a.example&line_items[0][quantity]=1\
             &line_items[0][price]=price_team_monthly{more_fields}"
        );
        let session = self.api("POST", "/v1/checkout/sessions", &form).await;
        self.pay(session["id"].as_str().expect("a session")).await;
    }

    pub async fn pay_with(&self, session: &str, card: &str) {
        self.control("POST", &format!("/_sandbox/checkout/{session}/pay"), &json!({ "card": card })).await;
    }

    /// Cancels on the portal page.
    pub async fn cancel_in_portal(&self, portal_url: &str, subscription: &str) {
        assert!(
            self.try_to_cancel_in_portal(portal_url, subscription).await,
            "the portal allows the cancellation"
        );
    }

    /// Returns whether the portal allowed it.
    pub async fn try_to_cancel_in_portal(&self, portal_url: &str, subscription: &str) -> bool {
        self.submit_form(portal_url, &format!("action=cancel&subscription={subscription}")).await
    }

    /// Submits a page's form. Returns whether it succeeded.
    pub async fn submit_form(&self, page_url: &str, form: &str) -> bool {
        let request = self.http.post(page_url).header("Content-Type", "application/x-www-form-urlencoded");
        let response = request.body(form.to_owned()).send().await.expect("the page responds");
        response.status().is_success()
    }

    pub async fn settle(&self, session: &str, ok: bool) {
        self.control("POST", &format!("/_sandbox/checkout/{session}/settle"), &json!({ "ok": ok })).await;
    }

    pub async fn update_subscription(&self, subscription: &str, change: &Value) {
        self.control("POST", &format!("/_sandbox/subscriptions/{subscription}"), change).await;
    }

    /// Advances or stops the double's clock.
    pub async fn set_clock(&self, setting: &Value) {
        self.control("POST", "/_sandbox/clock", setting).await;
    }

    /// Removes an object without an event, as if it had never existed.
    pub async fn remove(&self, kind: &str, id: &str) {
        self.control("DELETE", &format!("/_sandbox/{kind}/{id}"), &Value::Null).await;
    }

    /// All events so far, newest first.
    pub async fn events(&self) -> Vec<Value> {
        let list = self.api("GET", "/v1/events?limit=100", "").await;
        list["data"].as_array().expect("a list").clone()
    }

    /// The same from all pages.
    pub async fn all_events(&self) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let last = all.last().and_then(|event| event["id"].as_str());
            let after = last.map(|id| format!("&starting_after={id}")).unwrap_or_default();
            let page = self.api("GET", &format!("/v1/events?limit=100{after}"), "").await;
            all.extend(page["data"].as_array().expect("a list").iter().cloned());
            if page["has_more"] != true {
                return all;
            }
        }
    }

    /// Creates an event about a subscription that does not exist.
    pub async fn create_unrelated_event(&self, kind: &str, created: i64) {
        let object = json!({ "id": "sub_unknown", "customer": "cus_unknown", "status": "paused" });
        self.control(
            "POST",
            "/_sandbox/events",
            &json!({ "type": kind, "object": object, "created": created }),
        )
        .await;
    }

    /// Delivers the latest event of a type again.
    pub async fn resend(&self, kind: &str) {
        let events = self.events().await;
        let event = events.iter().find(|event| event["type"] == kind).expect("there is such an event");
        let id = event["id"].as_str().expect("an id");
        self.control("POST", &format!("/_sandbox/events/{id}/deliver"), &Value::Null).await;
    }

    /// Creates a higher price that takes over the lookup key. Subscribers stay on the old one.
    /// Returns the new id.
    pub async fn replace_price(&self, lookup_key: &str) -> String {
        let form = format!(
            "product=prod_pro&currency=usd&unit_amount=3900&recurring[interval]=month&lookup_key={lookup_key}\
             &transfer_lookup_key=true"
        );
        let price = self.api("POST", "/v1/prices", &form).await;
        price["id"].as_str().expect("a price").to_owned()
    }

    /// Creates a monthly price with a chosen id, as one that was made from a legacy plan has.
    pub async fn create_price_with_id(&self, id: &str, lookup_key: Option<&str>) {
        let price = json!({ "id": id, "product": "prod_pro", "lookup_key": lookup_key, "unit_amount": 6900 });
        self.control("POST", "/_sandbox/prices", &price).await;
    }

    pub async fn create_customer_with_id(&self, id: &str) {
        self.control("POST", "/_sandbox/customers", &json!({ "id": id })).await;
    }

    /// Creates a monthly metered price. Returns its id.
    pub async fn create_metered_price(&self, lookup_key: &str) -> String {
        let form = format!(
            "product=prod_pro&currency=usd&unit_amount=1&recurring[interval]=month&lookup_key={lookup_key}\
             &recurring[usage_type]=metered&recurring[meter]=mtr_1"
        );
        let price = self.api("POST", "/v1/prices", &form).await;
        price["id"].as_str().expect("a price").to_owned()
    }

    pub async fn add_item(&self, subscription: &str, price: &str) {
        let form = format!("items[0][price]={price}");
        self.api("POST", &format!("/v1/subscriptions/{subscription}"), &form).await;
    }

    /// Changes the default configuration of the portal, for example
    /// `features[subscription_cancel][enabled]=false`.
    pub async fn configure_portal(&self, form: &str) {
        let listed = self.api("GET", "/v1/billing_portal/configurations?is_default=true", "").await;
        let id = listed["data"][0]["id"].as_str().expect("a configuration").to_owned();
        let changed = self.api("POST", &format!("/v1/billing_portal/configurations/{id}"), form).await;
        assert_eq!(changed["id"], id, "{changed}");
    }

    /// Creates a portal configuration that only allows changing the payment method. Returns its id.
    pub async fn create_portal_configuration(&self) -> String {
        let form = "features[payment_method_update][enabled]=true";
        let created = self.api("POST", "/v1/billing_portal/configurations", form).await;
        created["id"].as_str().expect("a configuration").to_owned()
    }

    pub async fn remove_portal_configuration(&self) {
        self.control("DELETE", "/_sandbox/portal_configuration", &Value::Null).await;
    }

    /// The service's requests, in order. Requests of background jobs (backfill, account, price
    /// check) are left out, since they can come at any time.
    pub async fn requests(&self) -> Vec<Value> {
        let mut requests = self.all_requests().await;
        requests.retain(is_not_from_a_job);
        requests
    }

    pub async fn all_requests(&self) -> Vec<Value> {
        let list = self.control("GET", "/_sandbox/requests", &Value::Null).await;
        list.as_array().expect("a list of requests").clone()
    }

    pub async fn requests_to(&self, method: &str, path: &str) -> Vec<Value> {
        let mut requests = self.all_requests().await;
        requests.retain(|request| request["method"] == method && request["path"] == path);
        requests
    }

    /// Those that have a parameter.
    pub async fn requests_with(&self, method: &str, path: &str, param: &str) -> Vec<Value> {
        let mut requests = self.requests_to(method, path).await;
        requests.retain(|request| !request["params"][param].is_null());
        requests
    }

    /// Calls Stripe's API with the account's key.
    pub async fn api(&self, method: &str, path: &str, form: &str) -> Value {
        let method = method.parse::<Method>().expect("a method");
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(STRIPE_KEY);
        let request =
            request.header("Content-Type", "application/x-www-form-urlencoded").body(form.to_owned());
        let response = request.send().await.expect("the double responds");
        serde_json::from_str(&response.text().await.expect("text")).expect("JSON")
    }

    pub async fn subscription_of_session(&self, session: &str) -> String {
        let session = self.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
        session["subscription"].as_str().expect("a subscription").to_owned()
    }

    async fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, text) = self.send_control(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Posts to the control interface. Returns whether the change was possible.
    pub async fn try_control(&self, path: &str, body: &Value) -> bool {
        self.send_control("POST", path, body).await.0.is_success()
    }

    async fn send_control(&self, method: &str, path: &str, body: &Value) -> (StatusCode, String) {
        let method = method.parse::<Method>().expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !body.is_null() {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("the double responds");
        (response.status(), response.text().await.expect("text"))
    }
}

fn is_not_from_a_job(request: &Value) -> bool {
    let is_from_a_job = ["/v1/events", "/v1/account"].iter().any(|path| request["path"] == *path);
    !is_from_a_job && !is_price_check(request)
}

/// A background job and each checkout send this request.
fn is_price_check(request: &Value) -> bool {
    request["method"] == "GET" && request["path"].as_str().is_some_and(|path| path.starts_with("/v1/prices"))
}
