//! Writes whole lines to stdout and stderr, even when several processes write to the same pipe.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::PIPE_BUF;

/// Blocks until the reader has accepted the lines.
#[derive(Debug, Default)]
pub(super) struct StreamWriter {
    is_torn: bool,
}

impl StreamWriter {
    /// Bypasses the buffer of the standard library, whose content a kill would lose.
    pub(super) fn write(&mut self, to: impl AsFd, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_piece(to.as_fd(), b"\n")?;
        }
        // A pipe writes PIPE_BUF bytes atomically: a kill cuts no line, and other writers' lines do
        // not interleave.
        pieces(lines, PIPE_BUF).try_for_each(|piece| self.write_piece(to.as_fd(), piece))
    }

    fn write_piece(&mut self, to: BorrowedFd<'_>, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            match retry_on_intr(|| rustix::io::write(to, piece)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.is_torn = piece[written - 1] != b'\n';
                    piece = &piece[written..];
                }
                // Another program that shares the terminal or socket made it non-blocking.
                Err(Errno::AGAIN) => {
                    retry_on_intr(|| poll(&mut [PollFd::new(&to, PollFlags::OUT)], None))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Splits the text after whole lines into pieces of at most `max_bytes`. Cuts only lines that are
/// longer.
pub(super) fn pieces(mut lines: &[u8], max_bytes: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let longest = &lines[..lines.len().min(max_bytes)];
        let end = longest.iter().rposition(|byte| *byte == b'\n').map_or(longest.len(), |end| end + 1);
        let (piece, rest) = lines.split_at(end);
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// Lines of typical lengths.
    fn lines(count: usize) -> String {
        let line = |number| format!("{{\"number\":{number},\"filling\":\"{}\"}}\n", "x".repeat(number % 700));
        (0..count).map(line).collect()
    }

    #[test]
    fn pieces_are_whole_lines_within_the_limit() {
        let text = lines(200);
        let all: Vec<_> = pieces(text.as_bytes(), PIPE_BUF).collect();
        assert!(all.len() > 1 && all.iter().all(|piece| piece.len() <= PIPE_BUF && piece.ends_with(b"\n")));
        assert_eq!(all.concat(), text.as_bytes());
        assert_eq!(pieces(b"", PIPE_BUF).count(), 0);
        let long = [b'x'; PIPE_BUF + 1];
        assert_eq!(pieces(&long, PIPE_BUF).map(<[u8]>::len).collect::<Vec<_>>(), [PIPE_BUF, 1]);
    }

    #[test]
    fn two_writers_of_one_pipe_keep_lines_whole() {
        let (reader, writer) = pipe().expect("a pipe");
        let other = writer.try_clone().expect("the other end again");
        let text = lines(1000);
        let (ours, theirs) = (text.clone(), text.to_uppercase());
        let writers = [
            thread::spawn(move || StreamWriter::default().write(&writer, ours.as_bytes())),
            thread::spawn(move || StreamWriter::default().write(&other, theirs.as_bytes())),
        ];
        let read = io::read_to_string(reader).expect("text");
        for writer in writers {
            writer.join().expect("no panic").expect("written");
        }
        let (ours, theirs): (Vec<_>, Vec<_>) = read.lines().partition(|line| line.contains("number"));
        assert_eq!(ours, text.lines().collect::<Vec<_>>());
        assert_eq!(theirs, text.to_uppercase().lines().collect::<Vec<_>>());
    }

    #[test]
    fn closed_pipe_is_an_error_and_no_signal() {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let error = StreamWriter::default().write(&writer, b"{}\n").expect_err("nothing reads it");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    /// A socket accepts partial writes, where a pipe would accept nothing.
    #[test]
    fn non_blocking_socket_gets_every_line() {
        let (mut reader, writer) = UnixStream::pair().expect("a pair of sockets");
        writer.set_nonblocking(true).expect("set");
        let text = lines(5000);
        let expected = text.clone();
        let writing = thread::spawn(move || StreamWriter::default().write(&writer, text.as_bytes()));
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("text");
        writing.join().expect("no panic").expect("written");
        assert_eq!(read, expected);
    }

    #[test]
    fn torn_line_is_ended_before_the_next() {
        let (reader, writer) = pipe().expect("a pipe");
        let mut stream = StreamWriter { is_torn: true };
        stream.write(&writer, b"{}\n").expect("written");
        stream.write(&writer, b"{}\n").expect("written");
        drop(writer);
        assert_eq!(io::read_to_string(reader).expect("text"), "\n{}\n{}\n");
    }
}
