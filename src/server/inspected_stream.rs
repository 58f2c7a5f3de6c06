//! Protects against request smuggling: rejects HTTP/1 requests that two servers could split
//! differently (<https://www.rfc-editor.org/rfc/rfc9112#name-request-smuggling>).
//!
//! hyper accepts lines that end without a carriage return and two equal `Content-Length` fields. If
//! a request has both a length and a transfer encoding, hyper drops the length. RFC 9112 permits
//! this, but a proxy in front may read such a request differently, and hyper's request does not
//! show it. So the bytes are inspected before hyper reads them. In an ambiguous head, one byte is
//! replaced by one that no head may contain: hyper responds 400 and closes the connection. At an
//! ambiguous chunk, the stream ends for hyper.
//!
//! All requests of a connection are inspected, pipelined ones too. The inspector follows each body
//! by its length or its chunks to find the next head.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest head that is read: twice the size of the longest token and a browser's cookies.
/// hyper enforces it with 431.
pub(super) const MAX_HEAD_BYTES: usize = 32 * 1024;

/// The longest head that is inspected. hyper rejects a head above [`MAX_HEAD_BYTES`] only if it
/// arrives incomplete.
const MAX_INSPECTED_BYTES: usize = 4 * MAX_HEAD_BYTES;

/// The longest line with a chunk's length or a trailer field: hyper's own limit for chunk
/// extensions and trailers.
const MAX_CHUNK_LINE_BYTES: usize = 16 * 1024;

/// Hexadecimal digits of a chunk's length, for up to 2^60 bytes. hyper's own limit is 2^64.
const MAX_CHUNK_LENGTH_DIGITS: usize = 15;

/// The part of HTTP/2's connection preface (RFC 9113, section 3.4) that looks like a head.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Replaces the byte at which a request becomes ambiguous. No head may contain it.
const INVALID_BYTE: u8 = 0;

/// A connection's byte stream (after TLS decryption) from which hyper cannot read an ambiguous
/// request.
#[derive(Debug)]
pub(super) struct InspectedStream<Io> {
    io: Io,
    inspector: RequestInspector,
}

impl<Io> InspectedStream<Io> {
    pub(super) fn new(io: Io) -> Self {
        Self { io, inspector: RequestInspector::new() }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for InspectedStream<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.inspector.has_rejected() {
            // hyper sees the end of the stream.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        let visible = self.inspector.inspect(&mut buffer.filled_mut()[before..]);
        buffer.set_filled(before + visible);
        read
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for InspectedStream<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Follows the requests of one connection and invalidates the first ambiguous one.
#[derive(Debug)]
struct RequestInspector {
    state: State,
    /// The incomplete head or line. Empty between requests and in bodies.
    partial: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body {
        bytes_left: u64,
    },
    ChunkLength,
    ChunkData {
        bytes_left: u64,
    },
    /// At the line end after a chunk's data.
    ChunkEnd,
    /// In the fields after the last chunk.
    Trailers,
    /// No more inspection: HTTP/2, whose frames state their length, or a request after which the
    /// connection is closed.
    Done,
    /// A request was ambiguous. Nothing more may be read.
    Rejected,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    /// A transfer encoding that [`crate::http`] rejects, closing the connection.
    Unsupported,
    Ambiguous,
}

impl RequestInspector {
    fn new() -> Self {
        Self { state: State::Head, partial: Vec::new() }
    }

    fn has_rejected(&self) -> bool {
        self.state == State::Rejected
    }

    /// Inspects newly read bytes. Returns how many of them hyper may read.
    fn inspect(&mut self, bytes: &mut [u8]) -> usize {
        let mut inspected = 0;
        while inspected < bytes.len() && self.state != State::Done {
            let (consumed, is_valid) = self.step(&bytes[inspected..]);
            inspected += consumed;
            if !is_valid {
                bytes[inspected - 1] = INVALID_BYTE;
                // hyper rejects a head with this byte, but could accept it in a chunk extension.
                let is_head = self.state == State::Head;
                let state = if is_head { State::Done } else { State::Rejected };
                *self = Self { state, partial: Vec::new() };
                return if is_head { bytes.len() } else { inspected };
            }
        }
        bytes.len()
    }

    /// Consumes at least one byte. Returns how many, and whether they are valid.
    fn step(&mut self, bytes: &[u8]) -> (usize, bool) {
        match self.state {
            State::Body { bytes_left } => {
                let (consumed, left) = skip(bytes, bytes_left);
                self.state = if left == 0 { State::Head } else { State::Body { bytes_left: left } };
                (consumed, true)
            }
            State::ChunkData { bytes_left } => {
                let (consumed, left) = skip(bytes, bytes_left);
                self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData { bytes_left: left } };
                (consumed, true)
            }
            State::Done => (bytes.len(), true),
            State::Rejected => (bytes.len(), false),
            State::Head | State::ChunkLength | State::ChunkEnd | State::Trailers => self.read_line(bytes),
        }
    }

    /// Reads up to and including the next line feed.
    fn read_line(&mut self, bytes: &[u8]) -> (usize, bool) {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.partial.extend_from_slice(bytes);
            return (bytes.len(), self.is_short_enough());
        };
        self.partial.extend_from_slice(&bytes[..=end]);
        let is_valid = self.is_short_enough() && self.partial.ends_with(b"\r\n") && self.end_line();
        (end + 1, is_valid)
    }

    fn is_short_enough(&self) -> bool {
        let limit = if self.state == State::Head { MAX_INSPECTED_BYTES } else { MAX_CHUNK_LINE_BYTES };
        self.partial.len() <= limit
    }

    /// Handles a complete line, which ends in CRLF. Returns whether it is valid.
    fn end_line(&mut self) -> bool {
        match self.state {
            State::Head => return self.end_head_line(),
            State::ChunkLength => match chunk_length(&self.partial) {
                Some(0) => self.state = State::Trailers,
                Some(length) => self.state = State::ChunkData { bytes_left: length },
                None => return false,
            },
            State::ChunkEnd if self.partial == b"\r\n" => self.state = State::ChunkLength,
            State::Trailers if self.partial == b"\r\n" => self.state = State::Head,
            State::Trailers => {}
            State::ChunkEnd
            | State::Body { .. }
            | State::ChunkData { .. }
            | State::Done
            | State::Rejected => return false,
        }
        self.partial.clear();
        true
    }

    fn end_head_line(&mut self) -> bool {
        if self.partial == b"\r\n" {
            // RFC 9112, section 2.2: empty lines before a request are skipped.
            self.partial.clear();
            return true;
        }
        if self.partial == HTTP2_PREFACE {
            *self = Self { state: State::Done, partial: Vec::new() };
            return true;
        }
        if !self.partial.ends_with(b"\r\n\r\n") {
            return true;
        }
        // Taken, so that an idle connection holds no buffer.
        let head = std::mem::take(&mut self.partial);
        self.state = match framing(&head) {
            Framing::Length(0) => State::Head,
            Framing::Length(length) => State::Body { bytes_left: length },
            Framing::Chunked => State::ChunkLength,
            Framing::Unsupported => State::Done,
            Framing::Ambiguous => return false,
        };
        true
    }
}

/// Skips bytes of a body. Returns how many were skipped and how many are left to skip.
fn skip(bytes: &[u8], bytes_left: u64) -> (usize, u64) {
    let skipped = usize::try_from(bytes_left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (skipped, bytes_left - skipped as u64)
}

fn framing(head: &[u8]) -> Framing {
    let mut framing = None;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let stated = if name.eq_ignore_ascii_case(b"content-length") {
            decimal(value).map_or(Framing::Ambiguous, Framing::Length)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_chunked = value.eq_ignore_ascii_case(b"chunked");
            if is_chunked { Framing::Chunked } else { Framing::Unsupported }
        } else {
            continue;
        };
        if framing.replace(stated).is_some() {
            return Framing::Ambiguous;
        }
    }
    framing.unwrap_or(Framing::Length(0))
}

/// Accepts only digits: no sign, no list of equal lengths.
fn decimal(value: &[u8]) -> Option<u64> {
    let is_digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_digits.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}

/// The hexadecimal length in a chunk's first line. An extension may follow it (RFC 9112, section
/// 7.1).
fn chunk_length(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_ended = matches!(line.get(digits), Some(b'\r' | b';' | b' ' | b'\t'));
    if digits == 0 || digits > MAX_CHUNK_LENGTH_DIGITS || !is_ended {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const AMBIGUOUS: &str = "GET / HTTP/1.1\nHost: a\r\n\r\n";

    /// The bytes that hyper reads if they arrive in pieces of this size.
    fn inspected(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut inspector = RequestInspector::new();
        let mut seen = Vec::new();
        for piece in bytes.to_vec().chunks_mut(piece) {
            let visible = inspector.inspect(piece);
            seen.extend_from_slice(&piece[..visible]);
            if inspector.has_rejected() {
                break;
            }
        }
        seen
    }

    /// The index of the first invalid byte, if there is one.
    fn invalid_at(text: &str) -> Option<usize> {
        let invalid = [1, 3, text.len()].map(|piece| {
            let inspected = inspected(text.as_bytes(), piece);
            inspected.iter().zip(text.as_bytes()).position(|(inspected, sent)| inspected != sent)
        });
        assert_eq!(invalid, [invalid[0]; 3], "depends on the piece size: {text:?}");
        invalid[0]
    }

    #[test]
    fn plain_requests_pass_unchanged() {
        for plain in [
            GET,
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n{\n}\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\n}\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nContent-Length: 1\r\n\r\nabc\nabc\n.",
            "POST / HTTP/1.1\r\nX: content-length: 1\r\nContent-Length: 0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\n\n",
        ] {
            assert_eq!(invalid_at(plain), None, "{plain:?}");
            if !plain.starts_with("PRI") {
                assert_eq!(invalid_at(&plain.repeat(3)), None, "pipelined: {plain:?}");
            }
        }
    }

    #[test]
    fn ambiguous_heads_become_invalid() {
        for ambiguous in [
            AMBIGUOUS,
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            "PRI * HTTP/2.0\r\nHost: a\n\r\n\r\n",
        ] {
            assert!(invalid_at(ambiguous).is_some(), "{ambiguous:?}");
        }
    }

    #[test]
    fn pipelined_ambiguous_heads_become_invalid() {
        for first in [
            GET,
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n{\n}\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\n}\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\n.\r\n0\r\nX: y\r\n\r\n",
        ] {
            let invalid = invalid_at(&format!("{first}{AMBIGUOUS}"));
            assert!(invalid.is_some_and(|at| at >= first.len()), "{first:?}: {invalid:?}");
        }
    }

    #[test]
    fn ambiguous_chunks_become_invalid() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for chunks in [
            "5\nhello\r\n0\r\n\r\n",
            "5;x\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "5\r\nhello\r\n0\n\n",
            "5\r\nhello\r\n0\r\nX: y\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            // hyper would read this as one chunk with an extension.
            "2;x\nab\r\n2a\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let request = format!("{head}{chunks}");
            let invalid = invalid_at(&request).expect("it is ambiguous");
            let seen = inspected(request.as_bytes(), request.len());
            assert_eq!(seen.len(), invalid + 1, "hyper reads past the invalid byte: {chunks:?}");
        }
    }

    #[test]
    fn endless_chunk_lines_are_rejected() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for line in ["0".repeat(33_000) + "1", "1".to_owned() + &" ".repeat(33_000)] {
            let mut inspector = RequestInspector::new();
            inspector.inspect(format!("{head}{line}\r\nx\r\n0\r\n\r\n").into_bytes().as_mut_slice());
            assert!(inspector.has_rejected());
        }
    }

    #[test]
    fn long_head_is_inspected_to_its_end() {
        let field = format!("X: {}\r\n", "y".repeat(MAX_HEAD_BYTES));
        let head =
            format!("POST / HTTP/1.1\r\n{field}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(invalid_at(&head), Some(head.len() - 1));
    }

    #[test]
    fn endless_head_is_not_buffered() {
        let mut inspector = RequestInspector::new();
        inspector.inspect(&mut vec![b'a'; MAX_INSPECTED_BYTES + 1]);
        assert_eq!((inspector.state, inspector.partial.capacity()), (State::Done, 0));
    }
}
