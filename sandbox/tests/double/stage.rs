//! A double of one test's own, and the ways to talk to it.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};

/// Nothing in a test takes this long unless it never happens.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) struct Stage {
    sandbox: Sandbox,
    http: Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the answer should be JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers should be text"))
    }

    /// The object that was asked for.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// The error, after checking its status.
    pub(crate) fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()["error"].clone()
    }

    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{}", self.text);
        self.header("location").expect("a redirect should say where")
    }
}

pub(crate) fn id(object: &Value) -> String {
    object["id"].as_str().expect("an object should have an id").to_owned()
}

pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("an event should have a type")).collect()
}

impl Stage {
    pub(crate) async fn set() -> Stage {
        let options = Options { retry_delay: Duration::from_millis(10), ..Options::default() };
        let sandbox = Sandbox::start(options).await.expect("the double should start");
        let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        Stage { sandbox, http: http.expect("a client should be made") }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    pub(crate) async fn strike(self) -> Client {
        self.sandbox.stop().await;
        self.http
    }

    /// A request without a key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(crate) fn call(&self, method: Method, path: &str, params: &[(&str, &str)]) -> RequestBuilder {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let call = if method == Method::POST {
            self.request(method, path).header("Content-Type", "application/x-www-form-urlencoded").body(form)
        } else {
            self.request(method, &format!("{path}?{form}"))
        };
        call.bearer_auth("sk_test_sandbox")
    }

    pub(crate) async fn get(&self, path: &str, params: &[(&str, &str)]) -> Reply {
        send(self.call(Method::GET, path, params)).await
    }

    pub(crate) async fn post(&self, path: &str, params: &[(&str, &str)]) -> Reply {
        send(self.call(Method::POST, path, params)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        send(self.call(Method::DELETE, path, &[])).await
    }

    /// A control call.
    pub(crate) async fn tell(&self, path: &str, what: Value) -> Value {
        send(self.request(Method::POST, &format!("/_sandbox{path}")).body(what.to_string())).await.ok()
    }

    pub(crate) async fn read_back(&self, what: &str) -> Vec<Value> {
        let read = send(self.request(Method::GET, &format!("/_sandbox/{what}"))).await.ok();
        read.as_array().expect("records should be a list").clone()
    }

    /// A control call that is refused.
    pub(crate) async fn tell_in_vain(&self, path: &str, what: Value, status: u16) {
        let request = self.request(Method::POST, &format!("/_sandbox{path}")).body(what.to_string());
        assert!(send(request).await.error(status).is_string());
    }

    /// Makes the double forget what stands at this path.
    pub(crate) async fn forget(&self, path: &str) {
        send(self.request(Method::DELETE, &format!("/_sandbox{path}"))).await.ok();
    }

    /// What time it is in the double.
    pub(crate) async fn now(&self) -> i64 {
        let clock = self.look("/_sandbox/clock").await.ok();
        clock["now"].as_i64().expect("a clock should show a time")
    }

    /// From now on time passes only by this.
    pub(crate) async fn stop_clock_and_advance(&self, seconds: i64) {
        self.tell("/clock", json!({"stopped": true, "advance_seconds": seconds})).await;
    }

    pub(crate) async fn clear_faults(&self) {
        send(self.request(Method::DELETE, "/_sandbox/faults")).await.ok();
    }

    /// Presses a button on a hosted page.
    pub(crate) async fn press(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.request(Method::POST, path);
        send(request.header("Content-Type", "application/x-www-form-urlencoded").body(form)).await
    }

    pub(crate) async fn look(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn customer(&self) -> String {
        id(&self.post("/v1/customers", &[]).await.ok())
    }

    /// An open checkout of the monthly Pro plan.
    pub(crate) async fn checkout(&self, customer: &str, more: &[(&str, &str)]) -> Value {
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

    /// The id of a paid subscription of this customer.
    pub(crate) async fn subscription(&self, customer: &str) -> String {
        let session = id(&self.checkout(customer, &[]).await);
        self.tell(&format!("/checkout/{session}/pay"), json!({"card": "ok"})).await;
        let session = self.get(&format!("/v1/checkout/sessions/{session}"), &[]).await.ok();
        session["subscription"].as_str().expect("a paid session should have a subscription").to_owned()
    }

    /// All events, oldest first.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let list = self.get("/v1/events", &[("limit", "100")]).await.ok();
        let mut events = list["data"].as_array().expect("a list should have data").clone();
        events.reverse();
        events
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Reply {
    try_send(request).await.expect("there should be an answer")
}

pub(crate) async fn try_send(request: RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Reply { status, headers, text: response.text().await? })
}

/// Asks until the answer is yes.
pub(crate) async fn eventually(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !asked().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, asking).await.is_ok(), "never happened: {what}");
}
