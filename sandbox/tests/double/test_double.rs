//! A double for one test, with helpers for API calls, control calls and pages.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};

/// The limit of [`eventually`].
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) struct TestDouble {
    sandbox: Sandbox,
    http: Client,
}

#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl HttpResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON body")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text header"))
    }

    /// Asserts a 200 and returns the body.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// Asserts the status and returns the error.
    pub(crate) fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()["error"].clone()
    }

    /// Asserts a 303 and returns its target.
    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{}", self.text);
        self.header("location").expect("location header")
    }
}

pub(crate) fn id(object: &Value) -> String {
    object["id"].as_str().expect("object id").to_owned()
}

pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("event type")).collect()
}

impl TestDouble {
    pub(crate) async fn start() -> TestDouble {
        let options = Options { retry_delay: Duration::from_millis(10), ..Options::default() };
        let sandbox = Sandbox::start(options).await.expect("start the double");
        let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        TestDouble { sandbox, http: http.expect("HTTP client") }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    /// The path of one of the double's URLs.
    pub(crate) fn path_of(&self, url: &Value) -> String {
        let url = url.as_str().expect("page URL");
        url.strip_prefix(&self.url("")).expect("URL of the double").to_owned()
    }

    pub(crate) async fn stop(self) -> Client {
        self.sandbox.stop().await;
        self.http
    }

    /// A request without an API key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// An API call with the key, for `send`.
    pub(crate) fn call(&self, method: Method, path: &str, params: &[(&str, &str)]) -> RequestBuilder {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let call = if method == Method::POST {
            self.request(method, path).header("Content-Type", "application/x-www-form-urlencoded").body(form)
        } else {
            self.request(method, &format!("{path}?{form}"))
        };
        call.bearer_auth("sk_test_sandbox")
    }

    pub(crate) async fn get(&self, path: &str, params: &[(&str, &str)]) -> HttpResponse {
        send(self.call(Method::GET, path, params)).await
    }

    pub(crate) async fn post(&self, path: &str, params: &[(&str, &str)]) -> HttpResponse {
        send(self.call(Method::POST, path, params)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> HttpResponse {
        send(self.call(Method::DELETE, path, &[])).await
    }

    pub(crate) async fn control(&self, path: &str, body: Value) -> Value {
        send(self.request(Method::POST, &format!("/_sandbox{path}")).body(body.to_string())).await.ok()
    }

    /// The recorded `requests` or `deliveries`.
    pub(crate) async fn records(&self, kind: &str) -> Vec<Value> {
        let records = send(self.request(Method::GET, &format!("/_sandbox/{kind}"))).await.ok();
        records.as_array().expect("list of records").clone()
    }

    /// Asserts that a control call is rejected with this status.
    pub(crate) async fn control_fails(&self, path: &str, body: Value, status: u16) {
        let request = self.request(Method::POST, &format!("/_sandbox{path}")).body(body.to_string());
        assert!(send(request).await.error(status).is_string());
    }

    /// Removes an object without an event.
    pub(crate) async fn forget(&self, path: &str) {
        send(self.request(Method::DELETE, &format!("/_sandbox{path}"))).await.ok();
    }

    /// The time of the double's clock.
    pub(crate) async fn now(&self) -> i64 {
        let clock = self.view("/_sandbox/clock").await.ok();
        clock["now"].as_i64().expect("clock time")
    }

    pub(crate) async fn stop_clock_and_advance(&self, seconds: i64) {
        self.control("/clock", json!({"stopped": true, "advance_seconds": seconds})).await;
    }

    pub(crate) async fn clear_faults(&self) {
        send(self.request(Method::DELETE, "/_sandbox/faults")).await.ok();
    }

    /// Submits a form of a hosted page.
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> HttpResponse {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.request(Method::POST, path);
        send(request.header("Content-Type", "application/x-www-form-urlencoded").body(form)).await
    }

    pub(crate) async fn view(&self, path: &str) -> HttpResponse {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn create_customer(&self) -> String {
        id(&self.post("/v1/customers", &[]).await.ok())
    }

    /// Creates an open checkout session for the monthly Pro plan.
    pub(crate) async fn create_checkout(&self, customer: &str, more: &[(&str, &str)]) -> Value {
        let mut params = vec![
            ("mode", "subscription"),
            ("customer", customer),
            ("line_items[0][price]", "price_pro_monthly"),
            ("line_items[0][quantity]", "1"),
            ("success_url", "https://shop.example/done?session={CHECKOUT_SESSION_ID}"),
            ("cancel_url", "https://shop.example/back"),
        ];
        params.extend_from_slice(more);
        self.post("/v1/checkout/sessions", &params).await.ok()
    }

    /// Creates a paid subscription and returns its id.
    pub(crate) async fn create_subscription(&self, customer: &str) -> String {
        let session = id(&self.create_checkout(customer, &[]).await);
        self.control(&format!("/checkout/{session}/pay"), json!({"card": "ok"})).await;
        let session = self.get(&format!("/v1/checkout/sessions/{session}"), &[]).await.ok();
        session["subscription"].as_str().expect("subscription of paid session").to_owned()
    }

    /// All events, oldest first.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let list = self.get("/v1/events", &[("limit", "100")]).await.ok();
        let mut events = list["data"].as_array().expect("list data").clone();
        events.reverse();
        events
    }
}

pub(crate) async fn send(request: RequestBuilder) -> HttpResponse {
    try_send(request).await.expect("response")
}

pub(crate) async fn try_send(request: RequestBuilder) -> reqwest::Result<HttpResponse> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(HttpResponse { status, headers, text: response.text().await? })
}

/// Polls until the condition holds.
pub(crate) async fn eventually(condition: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(WAIT_TIMEOUT, polling).await.is_ok(), "timeout: {condition}");
}
