//! Reads a stream in the background and keeps everything it receives.

use std::sync::{Arc, Mutex};

use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::task::JoinHandle;

pub struct StreamReader {
    received: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
    /// The `Last-Event-ID` it was opened with.
    known: Option<String>,
}

impl StreamReader {
    /// Opens a stream. The error is the response, if it is not a stream.
    pub async fn open(request: RequestBuilder, known: Option<String>) -> Result<Self, String> {
        let request = match &known {
            Some(known) => request.header("Last-Event-ID", known),
            None => request,
        };
        let mut response = request.send().await.expect("the service responds");
        let opening = format!("{} {:?}\n", response.status(), response.headers());
        if response.status() != 200 {
            return Err(format!("{opening}{}", response.text().await.expect("text")));
        }
        let received = Arc::new(Mutex::new(opening));
        let shared = received.clone();
        let reader = tokio::spawn(async move {
            // Ends with the stream or the service.
            while let Ok(Some(bytes)) = response.chunk().await {
                shared.lock().expect("not poisoned").push_str(std::str::from_utf8(&bytes).expect("text"));
            }
        });
        Ok(Self { received, reader, known })
    }

    /// The response's head and its body so far.
    pub fn text(&self) -> String {
        self.received.lock().expect("not poisoned").clone()
    }

    /// The subscriptions received so far, oldest first: ETag and data.
    pub fn subscriptions(&self) -> Vec<(String, Value)> {
        let text = self.text();
        let (_, body) = text.split_once('\n').expect("a head");
        let whole = body.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let message = |message: &str| {
            let fields = message.strip_prefix("id: ")?;
            let (etag, data) = fields.split_once("\nevent: subscription\ndata: ")?;
            Some((etag.to_owned(), serde_json::from_str(data).expect("JSON")))
        };
        whole.split("\n\n").filter_map(message).collect()
    }

    /// The ETag of the reader's current state.
    pub fn etag(&self) -> Option<String> {
        self.subscriptions().pop().map(|(etag, _)| etag).or_else(|| self.known.clone())
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
