//! One topic's file: whole lines, each append a single write to its end.
//!
//! Others have their hands on it too: another process of ours that writes or rotates, logrotate, an operator. So
//! nothing that is remembered of the file is believed before it has been compared with what is at the path now.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::line::time_of;
use super::rotation;
use crate::domain::log_settings::Rotation;

/// Owner and group read, only the owner writes: the lines name customers.
pub(super) const FILE_MODE: u32 = 0o640;

/// How long a rotation that failed is left alone: what hinders it seldom goes away between two lines.
const REST: Duration = Duration::from_mins(1);

/// How often the file is looked for again when it is missing: whoever moved it creates the next within microseconds.
const MAX_LOOKS: usize = 5;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// How long a file that ends within a line must not grow until the line counts as torn. Linux lets a writer pause for
/// 200 ms within a write (`MAX_PAUSE` in mm/page-writeback.c).
const TORN_AFTER: Duration = Duration::from_millis(500);

/// How long, at most, an unfinished line is waited for.
const UNFINISHED_TIMEOUT: Duration = Duration::from_secs(5);

/// What went wrong with a topic's file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    #[error("cannot be written, lines are lost: {0}")]
    Write(#[source] io::Error),
    #[error("cannot be rotated, and grows: {0}")]
    Rotate(#[source] io::Error),
}

/// A topic's file, open or not.
#[derive(Debug)]
pub(super) struct TopicFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<OpenFile>,
    rests_until: Option<Instant>,
}

/// An open file, and what was seen of it last.
#[derive(Debug)]
struct OpenFile {
    file: File,
    identity: Identity,
    bytes: u64,
    /// The length at which it is known to end within a line.
    torn_at: Option<u64>,
    began_at_milliseconds: Option<i64>,
}

/// Device and inode: which file it is, whatever its name.
type Identity = (u64, u64);

impl TopicFile {
    pub(super) fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { path, rotation, open: None, rests_until: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what is at the path now. If that fails the file that was open stays so: a line in a file that has been
    /// moved is better than none.
    pub(super) fn reopen(&mut self) -> Result<(), FileError> {
        self.open = Some(OpenFile::open(&self.path).map_err(FileError::Open)?);
        Ok(())
    }

    /// Adds whole lines. What fails, or is left over by a short write, is tried once more on a file that is opened
    /// again. When all lines are written, an error reports a rotation that failed, or a file that is not where it
    /// should be.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        // Every line of ours has a time. Without one the file would not be rotated by its age.
        let ready = self.make_ready(lines.len(), time_of(lines).unwrap_or_default());
        let written = self.write(lines).unwrap_or(0);
        let rest = &lines[written..];
        if rest.is_empty() {
            return ready;
        }
        self.reopen()?;
        match self.write(rest) {
            Ok(written) if written == rest.len() => Ok(()),
            Ok(_) => Err(FileError::Write(io::ErrorKind::WriteZero.into())),
            Err(error) => Err(FileError::Write(error)),
        }
    }

    fn make_ready(&mut self, more_bytes: usize, at_milliseconds: i64) -> Result<(), FileError> {
        self.follow()?;
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        if rests || !self.is_due(more_bytes, at_milliseconds) {
            return Ok(());
        }
        let rotated = self.rotate(more_bytes, at_milliseconds);
        self.rests_until = rotated.is_err().then(|| Instant::now() + REST);
        rotated
    }

    /// Opens the file anew if somebody has moved or removed the one that is open. Who moves one mostly makes the next
    /// at once, and logrotate stumbles over one that is there before; so that is waited for.
    fn follow(&mut self) -> Result<(), FileError> {
        let Some(open) = &mut self.open else { return self.reopen() };
        for _ in 0..MAX_LOOKS {
            match fs::metadata(&self.path) {
                Ok(there) if identity(&there) == open.identity => {
                    open.bytes = there.len();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => thread::sleep(LOOK_INTERVAL),
                _ => break,
            }
        }
        self.reopen()
    }

    /// Whoever does not get the lock writes on where it is: the file that it has open is another's to move.
    fn rotate(&mut self, more_bytes: usize, at_milliseconds: i64) -> Result<(), FileError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let Some(_lock) = rotation::try_lock(dir).map_err(FileError::Rotate)? else { return Ok(()) };
        // Another process may have been here before us, and the file may have been emptied.
        self.reopen()?;
        if self.is_due(more_bytes, at_milliseconds) {
            rotation::shift(&self.path, self.rotation.keep).map_err(FileError::Rotate)?;
            self.reopen()?;
        }
        Ok(())
    }

    fn is_due(&mut self, more_bytes: usize, at_milliseconds: i64) -> bool {
        self.open.as_mut().is_some_and(|open| {
            let age = open.age(at_milliseconds);
            open.bytes > 0 && rotation::is_due(&self.rotation, open.bytes + more_bytes as u64, age)
        })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.open.as_mut().map_or(Ok(0), |open| open.write(lines))
    }
}

impl OpenFile {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            file,
            identity: identity(&metadata),
            bytes: metadata.len(),
            torn_at: None,
            began_at_milliseconds: None,
        })
    }

    /// How much older the file's first line is than one of the given time, which is the first if no other bears a time.
    fn age(&mut self, at_milliseconds: i64) -> Duration {
        let file = &self.file;
        let began = self
            .began_at_milliseconds
            .get_or_insert_with(|| rotation::began_at_milliseconds(file).unwrap_or(at_milliseconds));
        Duration::from_millis(u64::try_from(at_milliseconds.saturating_sub(*began)).unwrap_or(0))
    }

    /// Writes once, and returns how many of the bytes stand in the file as whole lines: none if it has been removed.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // So that no process of ours takes the unfinished write of another for a torn line. Where the file system has no
        // locks it goes without.
        let _ = self.file.lock();
        let written = self.write_locked(lines);
        let _ = self.file.unlock();
        written
    }

    fn write_locked(&mut self, lines: &[u8]) -> io::Result<usize> {
        let is_torn = self.ends_within_a_line()?;
        let written = write_lines(&mut self.file, is_torn, lines)?;
        let after = self.file.metadata()?;
        if after.is_file() && after.nlink() == 0 {
            return Ok(0);
        }
        self.bytes = after.len();
        self.torn_at = written.is_torn.then_some(self.bytes);
        Ok(written.whole)
    }

    /// Whether the file ends within a line that nothing will finish: a full disk cut it short, or a kill. Another program
    /// may be about to finish it, and the kernel shows its write page by page; so it must not grow for a while.
    fn ends_within_a_line(&self) -> io::Result<bool> {
        let began = Instant::now();
        let (mut seen_bytes, mut seen_at) = (None, began);
        while began.elapsed() < UNFINISHED_TIMEOUT {
            let bytes = self.file.metadata()?.len();
            if bytes == 0 || self.byte_before(bytes)? == b'\n' {
                return Ok(false);
            }
            if seen_bytes != Some(bytes) {
                (seen_bytes, seen_at) = (Some(bytes), Instant::now());
            }
            if self.torn_at == Some(bytes) || seen_at.elapsed() >= TORN_AFTER {
                return Ok(true);
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(false)
    }

    fn byte_before(&self, end: u64) -> io::Result<u8> {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, end - 1)?;
        Ok(byte[0])
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// What a single write came to.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    /// How many of the lines' bytes stand in it as whole lines.
    whole: usize,
    /// Whether it now ends within a line.
    is_torn: bool,
}

/// Writes once. A torn line is ended first, so that it spoils no other.
fn write_lines(file: &mut impl Write, was_torn: bool, lines: &[u8]) -> io::Result<Written> {
    let separated;
    let (separator, text) = if was_torn {
        separated = [b"\n", lines].concat();
        (1, separated.as_slice())
    } else {
        (0, lines)
    };
    let bytes = file.write(text)?;
    let whole = text[..bytes].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let is_torn = if bytes == 0 { was_torn } else { whole < bytes };
    Ok(Written { whole: whole.saturating_sub(separator), is_torn })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::Value;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::domain::log_settings::LogConfig;

    const NOON: i64 = 1_767_268_800_123;

    const LINE: &[u8] = b"{\"time\":\"2026-01-01T12:00:00.123Z\",\"event\":\"throttled\"}\n";

    fn file_in(dir: &TempDir) -> TopicFile {
        TopicFile::new(dir.path().join("billing.log"), LogConfig::in_dir(dir.path()).rotation)
    }

    fn text_of(file: &TopicFile) -> String {
        fs::read_to_string(file.path()).expect("the topic's file")
    }

    #[test]
    fn the_file_is_not_for_everybody() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        file.append(LINE).expect("written");
        let metadata = fs::metadata(file.path()).expect("made");
        assert_eq!(metadata.permissions().mode() & 0o137, 0, "nothing beyond 0640");
    }

    #[test]
    fn a_line_that_an_earlier_process_could_not_finish_spoils_no_other() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        fs::write(file.path(), r#"{"time":"20"#).expect("written");
        file.append(LINE).expect("written");
        let text = text_of(&file);
        let (torn, whole) = text.split_once('\n').expect("two lines");
        assert_eq!(torn, r#"{"time":"20"#);
        assert!(serde_json::from_str::<Value>(whole).is_ok());
    }

    #[test]
    fn a_line_that_another_process_could_not_finish_meanwhile_spoils_no_other() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        file.append(LINE).expect("written");
        let mut other = OpenOptions::new().append(true).open(file.path()).expect("opened");
        other.write_all(b"{torn").expect("written");
        file.append(LINE).expect("written");
        let lines: Vec<_> = text_of(&file).lines().map(str::len).collect();
        assert_eq!(lines, [LINE.len() - 1, "{torn".len(), LINE.len() - 1]);
    }

    #[test]
    fn a_file_that_was_emptied_begins_with_a_line() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        fs::write(file.path(), "{torn").expect("written");
        file.reopen().expect("opened");
        fs::write(file.path(), "").expect("emptied");
        file.append(LINE).expect("written");
        assert_eq!(text_of(&file).as_bytes(), LINE);
    }

    #[test]
    fn a_line_that_went_into_a_file_at_its_removal_is_written_again() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        file.append(LINE).expect("written");
        file.make_ready(LINE.len(), NOON).expect("it is there");
        fs::remove_file(file.path()).expect("removed");
        assert_eq!(file.write(LINE).expect("the kernel takes it"), 0, "but it stands nowhere");
        file.append(LINE).expect("written");
        assert_eq!(text_of(&file).as_bytes(), LINE);
    }

    #[test]
    fn while_the_file_cannot_be_opened_anew_lines_go_where_it_was_moved() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        file.append(LINE).expect("written");
        let moved = dir.path().join("billing.log.1");
        fs::rename(file.path(), &moved).expect("moved");
        fs::create_dir(file.path()).expect("a directory where the file should be");
        assert!(matches!(file.append(LINE), Err(FileError::Open(_))), "that is told");
        assert_eq!(fs::read(&moved).expect("the old file"), [LINE, LINE].concat());

        fs::remove_dir(file.path()).expect("removed");
        file.append(LINE).expect("written");
        assert_eq!(text_of(&file).as_bytes(), LINE);
    }

    /// A disk with room for so many bytes.
    struct Disk {
        room: usize,
        bytes: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_short_write_keeps_its_whole_lines_and_spoils_no_other() {
        let mut disk = Disk { room: 12, bytes: Vec::new() };
        let mut write = |room, was_torn, lines| {
            disk.room = room;
            let Written { whole, is_torn } = write_lines(&mut disk, was_torn, lines).expect("taken");
            (whole, is_torn, String::from_utf8_lossy(&disk.bytes).into_owned())
        };
        let is = |whole, is_torn, text: &str| (whole, is_torn, text.to_owned());
        assert_eq!(write(12, false, b"{one}\n{two}\n{three}\n"), is(12, false, "{one}\n{two}\n"));
        assert_eq!(write(15, false, b"{three}\n"), is(0, true, "{one}\n{two}\n{th"));
        assert_eq!(write(15, true, b"{three}\n"), is(0, true, "{one}\n{two}\n{th"), "while it is full");
        assert_eq!(write(16, true, b"{three}\n"), is(0, false, "{one}\n{two}\n{th\n"), "room for the end");
        assert_eq!(write(99, false, b"{three}\n"), is(8, false, "{one}\n{two}\n{th\n{three}\n"));
    }
}
