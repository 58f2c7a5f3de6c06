//! An event stream, read as a browser reads it.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::support::api_response::ApiResponse;

/// How long a test waits for the next message.
const DEADLINE: Duration = Duration::from_mins(2);

pub const STREAM: &str = "/api/billing/subscription/events/";

#[derive(Debug, Clone, PartialEq)]
pub enum StreamMessage {
    Subscription { etag: String, data: Value },
    Heartbeat,
    End(String),
    Closed,
}

#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    text: String,
}

impl EventStream {
    /// Opens a stream. The error is a response other than 200.
    pub async fn try_open(request: RequestBuilder) -> Result<Self, ApiResponse> {
        let response = request.send().await.expect("the service responds");
        if response.status() != 200 {
            let response = ApiResponse::read(response).await.expect("the body is text");
            response.assert_conforms(&Method::GET);
            return Err(response);
        }
        Ok(Self { response, text: String::new() })
    }

    pub async fn open(request: RequestBuilder) -> Self {
        Self::try_open(request).await.expect("the stream is open")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().expect("a header of text"))
    }

    pub async fn next(&mut self) -> StreamMessage {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("a message in time")
    }

    /// The next message, which must be a subscription.
    pub async fn next_subscription(&mut self) -> Value {
        match self.next().await {
            StreamMessage::Subscription { data, .. } => data,
            other => panic!("not a subscription: {other:?}"),
        }
    }

    /// Reads messages, which must be subscriptions, until one is as expected.
    pub async fn wait_for(&mut self, is_expected: impl Fn(&Value) -> bool) -> Value {
        loop {
            let subscription = self.next_subscription().await;
            if is_expected(&subscription) {
                return subscription;
            }
        }
    }

    async fn read(&mut self) -> StreamMessage {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (parse_message(message), rest.to_owned());
                self.text = rest;
                return message;
            }
            match self.response.chunk().await.expect("the stream is intact") {
                Some(bytes) => self.text.push_str(std::str::from_utf8(&bytes).expect("text")),
                None => return StreamMessage::Closed,
            }
        }
    }
}

fn parse_message(message: &str) -> StreamMessage {
    let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = || serde_json::from_str::<Value>(field("data").expect("data")).expect("JSON");
    match field("event") {
        Some("subscription") => {
            StreamMessage::Subscription { etag: field("id").expect("an id").to_owned(), data: data() }
        }
        Some("end") => StreamMessage::End(data()["reason"].as_str().expect("a reason").to_owned()),
        Some(other) => panic!("unknown event: {other}"),
        None if message == "retry: 3000" => StreamMessage::Heartbeat,
        None => panic!("not a message: {message:?}"),
    }
}
