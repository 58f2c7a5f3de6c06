//! HTTP written to a socket byte by byte, for requests that no client sends.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api_response::ApiResponse;
use crate::support::app::TestApp;

/// How long a test waits for a response or for the end of the connection. Long, for slow machines.
/// No test waits it out.
const DEADLINE: Duration = Duration::from_mins(2);

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection to the service.
pub struct RawConnection {
    socket: Box<dyn Socket>,
    read: Vec<u8>,
}

impl RawConnection {
    pub async fn to(app: &TestApp) -> Self {
        Self::at(&app.url).await
    }

    pub async fn at(url: &str) -> Self {
        let address = url.trim_start_matches("http://");
        Self::over(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Uses an existing connection.
    pub fn over(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { socket: Box::new(socket), read: Vec::new() }
    }

    /// Returns false if the service has closed the connection.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Whether the service has responded or closed the connection.
    pub async fn has_ended(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(1), self.read_more()).await.is_ok()
    }

    /// The next response, or none if the connection closes first. It is checked by
    /// [`ApiResponse::assert_conforms`], unless hyper made it.
    pub async fn response(&mut self) -> Option<ApiResponse> {
        let response = self.unchecked_response().await?;
        if response.status.as_u16() >= 200 && !is_from_hyper(&response) {
            response.assert_conforms(&Method::GET);
        }
        Some(response)
    }

    pub async fn unchecked_response(&mut self) -> Option<ApiResponse> {
        let reading = tokio::time::timeout(DEADLINE, self.read_response());
        reading.await.expect("a response or the end in time")
    }

    /// All responses until the service closes the connection.
    pub async fn responses(mut self) -> Vec<ApiResponse> {
        let mut responses = Vec::new();
        while let Some(response) = self.response().await {
            responses.push(response);
        }
        responses
    }

    /// Asserts that the service closes the connection without a response.
    pub async fn assert_closed(mut self) {
        assert!(self.response().await.is_none(), "incomplete requests get no response");
    }

    async fn read_response(&mut self) -> Option<ApiResponse> {
        let head_length = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head = String::from_utf8(self.read.drain(..head_length).collect()).expect("the head is text");
        let (status, headers) = parse_head(&head);
        let length = headers.get("content-length").map_or(0, |length| {
            length.to_str().ok().and_then(|length| length.parse::<usize>().ok()).expect("a length")
        });
        while self.read.len() < length {
            self.read_more().await?;
        }
        let text = String::from_utf8(self.read.drain(..length).collect()).expect("the body is text");
        Some(ApiResponse { status, headers, text })
    }

    async fn read_more(&mut self) -> Option<()> {
        // A reset also counts as the end: the service may close before it has read everything.
        let read = self.socket.read_buf(&mut self.read).await.unwrap_or(0);
        (read > 0).then_some(())
    }
}

fn parse_head(head: &str) -> (StatusCode, HeaderMap) {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let fields = lines.filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    });
    (status.expect("a status"), fields.collect())
}

/// Whether hyper itself made the response: to invalid HTTP, which never reaches our code, it sends
/// a bare status.
pub fn is_from_hyper(response: &ApiResponse) -> bool {
    [400, 414, 431].contains(&response.status.as_u16())
        && response.text.is_empty()
        && response
            .headers
            .keys()
            .all(|name| ["connection", "content-length", "date"].contains(&name.as_str()))
        && response.header("connection") == Some("close")
}
