//! What the head of an HTTP/1 request may not have, because others on the way read it otherwise: request smuggling
//! (<https://www.rfc-editor.org/rfc/rfc9112#name-request-smuggling>).
//!
//! hyper takes a line that ends without a carriage return, two equal lengths, and a length beside a transfer encoding, of
//! which it drops the length: RFC 9112 permits all that. It leaves nothing of it to see, so the bytes are looked at before
//! it reads them. Where they are not as they should be, one of them becomes a byte that no head may have, and hyper answers
//! 400 and closes the connection, as it does for what it does not take itself.
//!
//! Looked at is what is read while no request is being answered, which is where a proxy sends the next one. Who sends
//! several at once has them read with the first, from a connection of its own: the others are only ever its own.

use std::sync::Arc;

use super::connections::Work;

/// The longest head that is read: twice what the longest token and a browser's cookies take. hyper counts too; beyond it
/// the answer is 431.
pub(super) const HEAD_BYTES: usize = 32 * 1024;

/// What HTTP/2 begins with (RFC 9113, section 3.4), as far as it looks like a head.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Not to be in any head.
const POISON: u8 = 0;

/// Looks at the heads that come over a connection, so that no ambiguous one is read.
#[derive(Debug)]
pub(super) struct StrictHead {
    work: Arc<Work>,
    looking: Looking,
}

#[derive(Debug)]
enum Looking {
    /// At a head, of which so much has been read.
    At(Vec<u8>),
    /// At nothing, until the next head is due.
    Away,
    /// At nothing any more: HTTP/2 has frames, whose lengths leave nothing open.
    Done,
}

impl StrictHead {
    pub(super) fn new(work: Arc<Work>) -> Self {
        Self { work, looking: Looking::Away }
    }

    /// Looks at what has been read, before anybody else does.
    pub(super) fn look(&mut self, bytes: &mut [u8]) {
        if matches!(self.looking, Looking::Away) && self.work.takes_head() {
            self.looking = Looking::At(Vec::new());
        }
        let Looking::At(head) = &mut self.looking else { return };
        for byte in bytes {
            head.push(*byte);
            match progress(head) {
                Progress::Partial => {}
                // Empty lines before a request are passed over.
                Progress::Empty => head.clear(),
                Progress::Good | Progress::TooLong => return self.looking = Looking::Away,
                Progress::Http2 => return self.looking = Looking::Done,
                Progress::Ambiguous => {
                    *byte = POISON;
                    return self.looking = Looking::Away;
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Partial,
    Empty,
    Good,
    Ambiguous,
    TooLong,
    Http2,
}

/// What a head is, as far as it has come. To be asked at every byte.
fn progress(head: &[u8]) -> Progress {
    match head {
        b"\r\n" => Progress::Empty,
        [.., b'\r', b'\n', b'\r', b'\n'] if head == PREFACE => Progress::Http2,
        [.., b'\r', b'\n', b'\r', b'\n'] if is_ambiguous(head) => Progress::Ambiguous,
        [.., b'\r', b'\n', b'\r', b'\n'] => Progress::Good,
        [.., b'\r', b'\n'] => Progress::Partial,
        [.., b'\n'] => Progress::Ambiguous,
        _ if head.len() > HEAD_BYTES => Progress::TooLong,
        _ => Progress::Partial,
    }
}

/// Whether a whole head says twice how long its body is.
fn is_ambiguous(head: &[u8]) -> bool {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let names = lines.filter_map(|line| line.split(|byte| *byte == b':').next());
    let framing = names.filter(|name| {
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
    });
    framing.count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hyper is given to read, when the bytes come in pieces of this size.
    fn given(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut strict = StrictHead::new(Arc::default());
        let mut bytes = bytes.to_vec();
        for piece in bytes.chunks_mut(piece) {
            strict.look(piece);
        }
        bytes
    }

    fn is_poisoned(text: &str) -> bool {
        let poisoned = [1, 3, text.len()].map(|piece| given(text.as_bytes(), piece) != text.as_bytes());
        assert_eq!(poisoned, [poisoned[0]; 3], "however it comes: {text:?}");
        poisoned[0]
    }

    #[test]
    fn a_plain_head_is_left_as_it_is_and_so_is_its_body() {
        for plain in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n{\n}\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\n}\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nContent-Length: 1\r\n\r\nabc\nabc\n.",
            "POST / HTTP/1.1\r\nX: content-length: 1\r\nContent-Length: 0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\n\n",
        ] {
            assert!(!is_poisoned(plain), "{plain:?}");
        }
    }

    #[test]
    fn what_others_may_read_otherwise_is_poisoned() {
        for ambiguous in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            "PRI * HTTP/2.0\r\nHost: a\n\r\n\r\n",
        ] {
            assert!(is_poisoned(ambiguous), "{ambiguous:?}");
        }
    }

    #[test]
    fn the_next_head_is_looked_at_once_the_answer_is_out() {
        let work = Arc::<Work>::default();
        let mut strict = StrictHead::new(work.clone());
        let (mut good, mut bad) = (*b"GET / HTTP/1.1\r\n\r\n", *b"GET / HTTP/1.1\n\r\n");
        strict.look(&mut good);
        let answering = work.answer();
        strict.look(&mut b"a body\n".to_vec());
        drop(answering);
        strict.look(&mut bad);
        assert_eq!(bad[14], POISON);
    }

    #[test]
    fn a_head_without_end_is_not_kept() {
        let mut strict = StrictHead::new(Arc::default());
        strict.look(&mut vec![b'a'; HEAD_BYTES + 1]);
        assert!(matches!(strict.looking, Looking::Away));
    }
}
