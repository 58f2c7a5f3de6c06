//! A stream, as a page reads it.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::support::answer::Answer;

/// How long a story waits for the next message.
const DEADLINE: Duration = Duration::from_mins(2);

pub const STREAM: &str = "/api/billing/subscription/events/";

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Subscription { etag: String, data: Value },
    Heartbeat,
    End(String),
    Closed,
}

/// An open stream.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    text: String,
}

impl EventStream {
    /// Opens a stream, or says what came instead.
    pub async fn try_open(request: RequestBuilder) -> Result<Self, Answer> {
        let response = request.send().await.expect("the service answers");
        if response.status() != 200 {
            let answer = Answer::of(response).await.expect("text");
            answer.assert_well_made(&Method::GET);
            return Err(answer);
        }
        Ok(Self { response, text: String::new() })
    }

    pub async fn open(request: RequestBuilder) -> Self {
        Self::try_open(request).await.expect("the stream is open")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().expect("a header of text"))
    }

    /// Waits for what comes next.
    pub async fn next(&mut self) -> Heard {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("something comes in time")
    }

    /// The same, where it is to be a subscription.
    pub async fn next_subscription(&mut self) -> Value {
        match self.next().await {
            Heard::Subscription { data, .. } => data,
            other => panic!("not a subscription: {other:?}"),
        }
    }

    /// Reads until the subscription is as it should be.
    pub async fn until(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let subscription = self.next_subscription().await;
            if is(&subscription) {
                return subscription;
            }
        }
    }

    async fn read(&mut self) -> Heard {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let (heard, rest) = (understand(message), rest.to_owned());
                self.text = rest;
                return heard;
            }
            match self.response.chunk().await.expect("the stream does not break") {
                Some(bytes) => self.text.push_str(std::str::from_utf8(&bytes).expect("text")),
                None => return Heard::Closed,
            }
        }
    }
}

fn understand(message: &str) -> Heard {
    let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = || serde_json::from_str::<Value>(field("data").expect("data")).expect("JSON");
    match field("event") {
        Some("subscription") => {
            Heard::Subscription { etag: field("id").expect("an id").to_owned(), data: data() }
        }
        Some("end") => Heard::End(data()["reason"].as_str().expect("a reason").to_owned()),
        Some(other) => panic!("an unknown event: {other}"),
        None if message == "retry: 3000" => Heard::Heartbeat,
        None => panic!("not a message: {message:?}"),
    }
}
