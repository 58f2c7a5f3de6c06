//! The Stripe double, and the verbs that make things happen in it.

use reqwest::{Method, StatusCode};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};

use crate::support::app::{STRIPE_KEY, WEBHOOK_SECRET};

/// The Stripe double, and the calls that make things happen in it.
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

    /// Takes Stripe off the network.
    pub async fn go_away(&mut self) {
        if let Some(double) = self.double.take() {
            double.stop().await;
        }
    }

    pub async fn deliver_to(&self, url: &str) {
        self.tell("POST", "/_sandbox/webhook_endpoints", &json!({ "url": url, "secret": WEBHOOK_SECRET }))
            .await;
    }

    /// Makes something go wrong.
    pub async fn fault(&self, fault: &Value) {
        self.tell("POST", "/_sandbox/faults", fault).await;
    }

    pub async fn all_is_well(&self) {
        self.tell("DELETE", "/_sandbox/faults", &Value::Null).await;
    }

    pub async fn pay(&self, session: &str) {
        self.pay_with(session, "ok").await;
    }

    /// A customer that has bought the team's plan, and not by a checkout of ours.
    pub async fn customer_who_bought_elsewhere(&self) -> String {
        let customer = self.api("POST", "/v1/customers", "").await["id"].clone();
        let customer = customer.as_str().expect("a customer").to_owned();
        self.buy_elsewhere(&customer).await;
        customer
    }

    /// A customer buys the team's plan, and not by a checkout of ours.
    pub async fn buy_elsewhere(&self, customer: &str) {
        self.buy_by(customer, "").await;
    }

    /// The same, and the subscription says for which tenant.
    pub async fn buy_elsewhere_for(&self, tenant: &str, customer: &str) {
        self.buy_by(customer, &format!("&subscription_data[metadata][tenant_id]={tenant}")).await;
    }

    /// So many customers buy the team's plan by no checkout of ours, for the tenants `tenant-0`, `tenant-1` and so on.
    pub async fn sell_elsewhere_to_tenants(&self, count: usize) {
        for number in 0..count {
            let customer = self.api("POST", "/v1/customers", "").await["id"].clone();
            let customer = customer.as_str().expect("a customer");
            self.buy_elsewhere_for(&format!("tenant-{number}"), customer).await;
        }
    }

    async fn buy_by(&self, customer: &str, more: &str) {
        let form = format!(
            "mode=subscription&customer={customer}&success_url=http://a.example&line_items[0][quantity]=1\
             &line_items[0][price]=price_team_monthly{more}"
        );
        let session = self.api("POST", "/v1/checkout/sessions", &form).await;
        self.pay(session["id"].as_str().expect("a session")).await;
    }

    pub async fn pay_with(&self, session: &str, card: &str) {
        self.tell("POST", &format!("/_sandbox/checkout/{session}/pay"), &json!({ "card": card })).await;
    }

    /// Presses the portal page's own button.
    pub async fn cancel_in_portal(&self, portal_url: &str, subscription: &str) {
        assert!(
            self.try_to_cancel_in_portal(portal_url, subscription).await,
            "the portal lets it be canceled"
        );
    }

    /// The same, where the portal may refuse. Whether it did not.
    pub async fn try_to_cancel_in_portal(&self, portal_url: &str, subscription: &str) -> bool {
        self.press(portal_url, &format!("action=cancel&subscription={subscription}")).await
    }

    /// Presses a button of a page. Whether it did something.
    pub async fn press(&self, page_url: &str, form: &str) -> bool {
        let request = self.http.post(page_url).header("Content-Type", "application/x-www-form-urlencoded");
        let response = request.body(form.to_owned()).send().await.expect("the page answers");
        response.status().is_success()
    }

    pub async fn settle(&self, session: &str, ok: bool) {
        self.tell("POST", &format!("/_sandbox/checkout/{session}/settle"), &json!({ "ok": ok })).await;
    }

    pub async fn change(&self, subscription: &str, change: &Value) {
        self.tell("POST", &format!("/_sandbox/subscriptions/{subscription}"), change).await;
    }

    /// Moves the double's own clock on, or stops it.
    pub async fn set_clock(&self, setting: &Value) {
        self.tell("POST", "/_sandbox/clock", setting).await;
    }

    /// The account never had it.
    pub async fn forget(&self, kind: &str, id: &str) {
        self.tell("DELETE", &format!("/_sandbox/{kind}/{id}"), &Value::Null).await;
    }

    /// All events so far, newest first.
    pub async fn events(&self) -> Vec<Value> {
        let told = self.api("GET", "/v1/events?limit=100", "").await;
        told["data"].as_array().expect("a list").clone()
    }

    /// The same, however many pages they are.
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

    /// Makes an event about nothing that exists.
    pub async fn tell_of(&self, kind: &str, created: i64) {
        let object = json!({ "id": "sub_of_nobody", "customer": "cus_of_nobody", "status": "paused" });
        self.tell("POST", "/_sandbox/events", &json!({ "type": kind, "object": object, "created": created }))
            .await;
    }

    /// The latest event of a type, sent again by hand.
    pub async fn resend(&self, kind: &str) {
        let events = self.events().await;
        let event = events.iter().find(|event| event["type"] == kind).expect("there is such an event");
        let id = event["id"].as_str().expect("an id");
        self.tell("POST", &format!("/_sandbox/events/{id}/deliver"), &Value::Null).await;
    }

    /// The operator raises a price: a new one takes over the lookup key, and subscribers stay on the old one. Returns the new
    /// price.
    pub async fn replace_price(&self, lookup_key: &str) -> String {
        let form = format!(
            "product=prod_pro&currency=usd&unit_amount=3900&recurring[interval]=month&lookup_key={lookup_key}\
             &transfer_lookup_key=true"
        );
        let price = self.api("POST", "/v1/prices", &form).await;
        price["id"].as_str().expect("a price").to_owned()
    }

    /// A monthly price that began as a plan, with an id of its owner's choosing.
    pub async fn create_old_price(&self, id: &str, lookup_key: Option<&str>) {
        let price = json!({ "id": id, "product": "prod_pro", "lookup_key": lookup_key, "unit_amount": 6900 });
        self.tell("POST", "/_sandbox/prices", &price).await;
    }

    /// A customer with an id of its owner's choosing.
    pub async fn create_old_customer(&self, id: &str) {
        self.tell("POST", "/_sandbox/customers", &json!({ "id": id })).await;
    }

    /// A monthly price whose usage is billed. Returns its id.
    pub async fn create_metered_price(&self, lookup_key: &str) -> String {
        let form = format!(
            "product=prod_pro&currency=usd&unit_amount=1&recurring[interval]=month&lookup_key={lookup_key}\
             &recurring[usage_type]=metered&recurring[meter]=mtr_1"
        );
        let price = self.api("POST", "/v1/prices", &form).await;
        price["id"].as_str().expect("a price").to_owned()
    }

    /// Adds an item to a subscription.
    pub async fn add_item(&self, subscription: &str, price: &str) {
        let form = format!("items[0][price]={price}");
        self.api("POST", &format!("/v1/subscriptions/{subscription}"), &form).await;
    }

    /// Changes the portal's default configuration: `features[subscription_cancel][enabled]=false`.
    pub async fn set_portal(&self, form: &str) {
        let listed = self.api("GET", "/v1/billing_portal/configurations?is_default=true", "").await;
        let id = listed["data"][0]["id"].as_str().expect("a configuration").to_owned();
        let changed = self.api("POST", &format!("/v1/billing_portal/configurations/{id}"), form).await;
        assert_eq!(changed["id"], id, "{changed}");
    }

    /// Another configuration of the portal, which only takes cards. Returns its id.
    pub async fn create_portal_configuration(&self) -> String {
        let form = "features[payment_method_update][enabled]=true";
        let made = self.api("POST", "/v1/billing_portal/configurations", form).await;
        made["id"].as_str().expect("a configuration").to_owned()
    }

    pub async fn forget_portal_configuration(&self) {
        self.tell("DELETE", "/_sandbox/portal_configuration", &Value::Null).await;
    }

    /// The requests that the service made, in order: `"POST /v1/customers"` and its parameters. Those of the backfill, and of
    /// the jobs that learn the account and look for the prices, are left out: they ask whenever it is time.
    pub async fn requests(&self) -> Vec<Value> {
        let mut requests = self.all_requests().await;
        requests.retain(is_of_a_caller);
        requests
    }

    pub async fn all_requests(&self) -> Vec<Value> {
        let told = self.tell("GET", "/_sandbox/requests", &Value::Null).await;
        told.as_array().expect("a list of requests").clone()
    }

    /// The requests to one path.
    pub async fn requests_to(&self, method: &str, path: &str) -> Vec<Value> {
        let mut requests = self.all_requests().await;
        requests.retain(|request| request["method"] == method && request["path"] == path);
        requests
    }

    /// The same, of those that have a parameter.
    pub async fn requests_with(&self, method: &str, path: &str, param: &str) -> Vec<Value> {
        let mut requests = self.requests_to(method, path).await;
        requests.retain(|request| !request["params"][param].is_null());
        requests
    }

    /// Asks the API, as an operator of the account would.
    pub async fn api(&self, method: &str, path: &str, form: &str) -> Value {
        let method = method.parse::<Method>().expect("a method");
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(STRIPE_KEY);
        let request =
            request.header("Content-Type", "application/x-www-form-urlencoded").body(form.to_owned());
        let response = request.send().await.expect("the double answers");
        serde_json::from_str(&response.text().await.expect("text")).expect("JSON")
    }

    pub async fn subscription_of_session(&self, session: &str) -> String {
        let session = self.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
        session["subscription"].as_str().expect("a subscription").to_owned()
    }

    async fn tell(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, text) = self.control(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Has something happen that may not be possible as things are. Whether it was.
    pub async fn attempt(&self, path: &str, body: &Value) -> bool {
        self.control("POST", path, body).await.0.is_success()
    }

    async fn control(&self, method: &str, path: &str, body: &Value) -> (StatusCode, String) {
        let method = method.parse::<Method>().expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !body.is_null() {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("the double answers");
        (response.status(), response.text().await.expect("text"))
    }
}

fn is_of_a_caller(request: &Value) -> bool {
    let is_of_a_job = ["/v1/events", "/v1/account"].iter().any(|path| request["path"] == *path);
    !is_of_a_job && !is_price_check(request)
}

/// A job and each checkout look for the configured prices, in the same way.
fn is_price_check(request: &Value) -> bool {
    request["method"] == "GET" && request["path"].as_str().is_some_and(|path| path.starts_with("/v1/prices"))
}
