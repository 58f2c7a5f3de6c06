//! stdout as a place for topic lines. Its reader may be slow, stalled or gone; the service must not care.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::pipe::PIPE_BUF;

/// How long an append waits for a reader: enough to get over a hiccup, and less than anybody notices.
const PATIENCE: Duration = Duration::from_millis(20);

/// What is known of the one who reads the lines.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    has_stalled: bool,
    is_torn: bool,
}

impl LineReader {
    /// Writes whole lines, in pieces that a pipe takes at once or not at all. When the reader has stalled the rest is
    /// lost, and nobody waits for it again until it reads.
    pub(super) fn write(&mut self, to: impl AsFd, lines: &[u8]) -> io::Result<()> {
        let patience = if self.has_stalled { Duration::ZERO } else { PATIENCE };
        let deadline = Instant::now() + patience;
        if self.is_torn {
            self.write_piece(to.as_fd(), b"\n", deadline)?;
        }
        for piece in pieces(lines) {
            self.write_piece(to.as_fd(), piece, deadline)?;
        }
        Ok(())
    }

    /// Only what is not a pipe may take less than the whole piece.
    fn write_piece(&mut self, to: BorrowedFd<'_>, mut piece: &[u8], deadline: Instant) -> io::Result<()> {
        while !piece.is_empty() {
            self.has_stalled = !is_writable(to, deadline)?;
            if self.has_stalled {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its reader has stalled"));
            }
            let written = retry_on_intr(|| rustix::io::write(to, piece))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.is_torn = piece[written - 1] != b'\n';
            piece = &piece[written..];
        }
        Ok(())
    }
}

/// Whether a piece can be written without waiting, now or until then. It can too where it will fail: to nobody.
pub(super) fn is_writable(to: impl AsFd, until: Instant) -> io::Result<bool> {
    let ready = retry_on_intr(|| {
        let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        poll(&mut [PollFd::new(&to, PollFlags::OUT)], Some(&timeout.unwrap_or_default()))
    })?;
    Ok(ready > 0)
}

/// The lines in pieces of at most `PIPE_BUF` bytes: that much a pipe takes without waiting once it can be written to,
/// and nobody else's lines come between.
fn pieces(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let longest = &lines[..lines.len().min(PIPE_BUF)];
        let end = longest.iter().rposition(|byte| *byte == b'\n').map_or(longest.len(), |end| end + 1);
        let (piece, rest) = lines.split_at(end);
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, pipe};

    use super::*;

    /// A line of some length, as ours are.
    fn line(number: usize) -> String {
        format!("{{\"number\":{number},\"filling\":\"{}\"}}\n", "x".repeat(number % 700))
    }

    fn lines(numbers: std::ops::Range<usize>) -> String {
        numbers.map(line).collect()
    }

    fn a_pipe() -> (PipeReader, PipeWriter) {
        pipe().expect("a pipe")
    }

    #[test]
    fn pieces_are_whole_lines_that_a_pipe_takes_at_once() {
        let text = lines(0..200);
        let all: Vec<_> = pieces(text.as_bytes()).collect();
        assert!(all.len() > 1 && all.iter().all(|piece| piece.len() <= PIPE_BUF && piece.ends_with(b"\n")));
        assert_eq!(all.concat(), text.as_bytes());
        assert_eq!(pieces(b"").count(), 0);
        assert_eq!(pieces(&[b'x'; PIPE_BUF + 1]).map(<[u8]>::len).collect::<Vec<_>>(), [PIPE_BUF, 1]);
    }

    #[test]
    fn a_reader_gets_every_line() {
        let (reader, writer) = a_pipe();
        let text = lines(0..1000);
        let read = std::thread::spawn(move || io::read_to_string(reader).expect("read"));
        let mut stdout = LineReader::default();
        for piece in text.as_bytes().chunk_by(|a, _| *a != b'\n') {
            // A slow reader is waited for here, and not in the service.
            while stdout.write(&writer, piece).is_err() {}
        }
        drop(writer);
        assert_eq!(read.join().expect("it ends"), text);
    }

    #[test]
    fn a_reader_that_has_stalled_is_waited_for_once_and_gets_whole_lines_when_it_reads_again() {
        let (reader, writer) = a_pipe();
        let mut stdout = LineReader::default();
        let mut written = 0;
        while stdout.write(&writer, line(written).as_bytes()).is_ok() {
            written += 1;
        }
        let begun = Instant::now();
        for lost in 0..1000 {
            let error = stdout.write(&writer, line(lost).as_bytes()).expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert!(begun.elapsed() < 500 * PATIENCE, "it took {:?}", begun.elapsed());

        let mut reader = BufReader::with_capacity(PIPE_BUF, reader);
        for number in 0..written {
            let mut read = String::new();
            reader.read_line(&mut read).expect("a line");
            assert_eq!(read, line(number));
        }
        stdout.write(&writer, b"{\"again\":true}\n").expect("somebody reads");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("read");
        assert_eq!(rest, "{\"again\":true}\n");
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_no_signal() {
        let (reader, writer) = a_pipe();
        drop(reader);
        let error = LineReader::default().write(&writer, b"{}\n").expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    /// A socket takes a part where a pipe would take nothing.
    #[test]
    fn a_line_that_was_taken_in_part_is_ended_before_the_next() {
        let (mut reader, writer) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        writer.set_nonblocking(true).expect("set");
        let mut stdout = LineReader { has_stalled: false, is_torn: true };
        stdout.write(&writer, b"{}\n").expect("taken");
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("read");
        assert_eq!(read, "\n{}\n");
        assert!(!stdout.is_torn);
    }
}
