//! A stream that is read for as long as it is open, and of which nothing is lost.

use std::sync::{Arc, Mutex};

use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::task::JoinHandle;

pub struct Follower {
    heard: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
    /// What it said that it has, when it was opened.
    known: Option<String>,
}

impl Follower {
    /// Opens a stream. What came in its place is the error.
    pub async fn open(request: RequestBuilder, known: Option<String>) -> Result<Self, String> {
        let request = match &known {
            Some(known) => request.header("Last-Event-ID", known),
            None => request,
        };
        let mut response = request.send().await.expect("the service answers");
        let opening = format!("{} {:?}\n", response.status(), response.headers());
        if response.status() != 200 {
            return Err(format!("{opening}{}", response.text().await.expect("text")));
        }
        let heard = Arc::new(Mutex::new(opening));
        let so_far = heard.clone();
        let reader = tokio::spawn(async move {
            // It ends with the stream, or with the service.
            while let Ok(Some(bytes)) = response.chunk().await {
                so_far.lock().expect("not poisoned").push_str(std::str::from_utf8(&bytes).expect("text"));
            }
        });
        Ok(Self { heard, reader, known })
    }

    /// All that came, head and body.
    pub fn heard(&self) -> String {
        self.heard.lock().expect("not poisoned").clone()
    }

    /// What came of subscriptions so far, oldest first: ETag and object.
    pub fn told(&self) -> Vec<(String, Value)> {
        let heard = self.heard();
        let (_, body) = heard.split_once('\n').expect("a head");
        let whole = body.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let message = |message: &str| {
            let fields = message.strip_prefix("id: ")?;
            let (etag, data) = fields.split_once("\nevent: subscription\ndata: ")?;
            Some((etag.to_owned(), serde_json::from_str(data).expect("JSON")))
        };
        whole.split("\n\n").filter_map(message).collect()
    }

    /// The ETag of what the reader has by now.
    pub fn etag(&self) -> Option<String> {
        self.told().pop().map(|(etag, _)| etag).or_else(|| self.known.clone())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
