//! HTTP as no client writes it: over a socket, byte for byte.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::answer::Answer;
use crate::support::app::TestApp;

/// How long a story waits for an answer, or for the connection's end. Long, for slow machines; nothing waits for it to
/// pass.
const DEADLINE: Duration = Duration::from_mins(2);

/// What bytes go over.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection to the service.
pub struct Raw {
    wire: Box<dyn Wire>,
    read: Vec<u8>,
}

impl Raw {
    pub async fn to(app: &TestApp) -> Self {
        Self::at(&app.url).await
    }

    pub async fn at(url: &str) -> Self {
        let address = url.trim_start_matches("http://");
        Self::over(TcpStream::connect(address).await.expect("a connection"))
    }

    /// One that is there already.
    pub fn over(wire: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { wire: Box::new(wire), read: Vec::new() }
    }

    /// Sends bytes, unless the service has had enough already.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Whether the service has answered already, or closed the connection.
    pub async fn has_ended(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(1), self.read_more()).await.is_ok()
    }

    /// The next answer, or none if the connection is closed first. It is held to the house's rules, but where hyper makes
    /// it, which never asks us: of what is not HTTP.
    pub async fn answer(&mut self) -> Option<Answer> {
        let answer = self.unruly_answer().await?;
        if answer.status.as_u16() >= 200 && !is_of_hyper(&answer) {
            answer.assert_well_made(&Method::GET);
        }
        Some(answer)
    }

    /// The same, held to no rule.
    pub async fn unruly_answer(&mut self) -> Option<Answer> {
        let reading = tokio::time::timeout(DEADLINE, self.read_answer());
        reading.await.expect("an answer or the end in time")
    }

    /// All answers until the service closes the connection.
    pub async fn answers(mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        answers
    }

    /// Waits until the service closes the connection without a word.
    pub async fn closed(mut self) {
        assert!(self.answer().await.is_none(), "there is no answer to what was no request");
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        let head_ends = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head = String::from_utf8(self.read.drain(..head_ends).collect()).expect("a head is text");
        let (status, headers) = parsed(&head);
        let length = headers.get("content-length").map_or(0, |length| {
            length.to_str().ok().and_then(|length| length.parse::<usize>().ok()).expect("a length")
        });
        while self.read.len() < length {
            self.read_more().await?;
        }
        let text = String::from_utf8(self.read.drain(..length).collect()).expect("a body is text");
        Some(Answer { status, headers, text })
    }

    async fn read_more(&mut self) -> Option<()> {
        // A reset is an end too: the service may close before it has read all.
        let read = self.wire.read_buf(&mut self.read).await.unwrap_or(0);
        (read > 0).then_some(())
    }
}

fn parsed(head: &str) -> (StatusCode, HeaderMap) {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let fields = lines.filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    });
    (status.expect("a status"), fields.collect())
}

/// What is no HTTP is answered by hyper, with a status and nothing else, and never comes to us.
pub fn is_of_hyper(answer: &Answer) -> bool {
    [400, 414, 431].contains(&answer.status.as_u16())
        && answer.text.is_empty()
        && answer.headers.keys().all(|name| ["connection", "content-length", "date"].contains(&name.as_str()))
        && answer.header("connection") == Some("close")
}
