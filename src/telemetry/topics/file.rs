//! A topic's log file. Each append is a single write of whole lines to its end.
//!
//! Other Billhook processes, logrotate and operators also write, move and truncate the file. So
//! each append first compares the open file with the one at the path.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::line::time_of;
use super::rotation;
use crate::domain::log_config::Rotation;

/// No access for other users, because the lines contain customer ids.
pub(super) const FILE_MODE: u32 = 0o640;

/// The pause after a failed rotation, because its cause rarely disappears between two lines.
const ROTATION_RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// Checks for a missing file before it is created. The program that moved it usually creates the
/// next within microseconds.
const MAX_MISSING_FILE_CHECKS: usize = 5;
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// A file that ends within a line must stop growing for this long before the line counts as torn.
/// Linux lets a writer pause for 200 ms within a write (`MAX_PAUSE` in mm/page-writeback.c).
const TORN_LINE_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest wait for an unfinished line.
const UNFINISHED_LINE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    #[error("cannot be written, lines are lost: {0}")]
    Write(#[source] io::Error),
    #[error("cannot be rotated and keeps growing: {0}")]
    Rotate(#[source] io::Error),
}

#[derive(Debug)]
pub(super) struct TopicFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<OpenFile>,
    next_rotation: Option<Instant>,
}

/// An open file and its last known state.
#[derive(Debug)]
struct OpenFile {
    file: File,
    identity: Identity,
    bytes: u64,
    /// The length at which it is known to end with a torn line.
    torn_at: Option<u64>,
    started_at_ms: Option<i64>,
}

/// Device and inode, which stay the same when the file is renamed.
type Identity = (u64, u64);

impl TopicFile {
    pub(super) fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { path, rotation, open: None, next_rotation: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file at the path. If that fails the previous file stays open, so that lines at
    /// least go to the moved file.
    pub(super) fn reopen(&mut self) -> Result<(), FileError> {
        self.open = Some(OpenFile::open(&self.path).map_err(FileError::Open)?);
        Ok(())
    }

    /// Appends whole lines. After a failed or short write it reopens the file and writes the
    /// remaining lines once more. It also returns an error if all lines are written but the
    /// rotation failed or the path cannot be opened.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        // Every line of ours has a time. Without one the file would not be rotated by its age.
        let ready = self.prepare(lines.len(), time_of(lines).unwrap_or_default());
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

    fn prepare(&mut self, more_bytes: usize, at_ms: i64) -> Result<(), FileError> {
        self.reopen_if_moved()?;
        let is_paused = self.next_rotation.is_some_and(|next| Instant::now() < next);
        if is_paused || !self.is_due(more_bytes, at_ms) {
            return Ok(());
        }
        let rotated = self.rotate(more_bytes, at_ms);
        self.next_rotation = rotated.is_err().then(|| Instant::now() + ROTATION_RETRY_INTERVAL);
        rotated
    }

    /// Reopens the path if the open file was moved or removed. Waits a moment for the program that
    /// moved it to create the next file, because logrotate fails if that file already exists.
    fn reopen_if_moved(&mut self) -> Result<(), FileError> {
        let Some(open) = &mut self.open else { return self.reopen() };
        for _ in 0..MAX_MISSING_FILE_CHECKS {
            match fs::metadata(&self.path) {
                Ok(found) if identity(&found) == open.identity => {
                    open.bytes = found.len();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => thread::sleep(CHECK_INTERVAL),
                _ => break,
            }
        }
        self.reopen()
    }

    /// Does nothing if another process holds the lock. Lines then go to the open file, which that
    /// process moves.
    fn rotate(&mut self, more_bytes: usize, at_ms: i64) -> Result<(), FileError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let Some(_lock) = rotation::try_lock(dir).map_err(FileError::Rotate)? else { return Ok(()) };
        // Another process may have rotated or truncated the file before we got the lock.
        self.reopen()?;
        if self.is_due(more_bytes, at_ms) {
            rotation::shift(&self.path, self.rotation.keep).map_err(FileError::Rotate)?;
            self.reopen()?;
        }
        Ok(())
    }

    fn is_due(&mut self, more_bytes: usize, at_ms: i64) -> bool {
        self.open.as_mut().is_some_and(|open| {
            let age = open.age(at_ms);
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
            started_at_ms: None,
        })
    }

    /// The time between the file's first line and the given time; zero if the file has no line with
    /// a time.
    fn age(&mut self, at_ms: i64) -> Duration {
        let file = &self.file;
        let started =
            self.started_at_ms.get_or_insert_with(|| rotation::started_at_ms(file).unwrap_or(at_ms));
        Duration::from_millis(u64::try_from(at_ms.saturating_sub(*started)).unwrap_or(0))
    }

    /// Writes once. Returns how many bytes were written as whole lines: 0 if the file was removed.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // The lock prevents that another Billhook process takes our unfinished write for a torn
        // line. Some file systems have no locks, so a failure is ignored.
        let _ = self.file.lock();
        let written = self.write_locked(lines);
        let _ = self.file.unlock();
        written
    }

    fn write_locked(&mut self, lines: &[u8]) -> io::Result<usize> {
        let is_torn = self.ends_with_torn_line()?;
        let written = write_lines(&mut self.file, is_torn, lines)?;
        let after = self.file.metadata()?;
        if after.is_file() && after.nlink() == 0 {
            return Ok(0);
        }
        self.bytes = after.len();
        self.torn_at = written.is_torn.then_some(self.bytes);
        Ok(written.whole)
    }

    /// Whether the last line was cut off by a full disk or a kill. Another program may still be
    /// writing it, and the kernel exposes its write page by page. So the line counts as torn only
    /// after the file stops growing for a while.
    fn ends_with_torn_line(&self) -> io::Result<bool> {
        let started = Instant::now();
        let (mut seen_bytes, mut seen_at) = (None, started);
        while started.elapsed() < UNFINISHED_LINE_TIMEOUT {
            let bytes = self.file.metadata()?.len();
            let mut last = [b'\n'];
            if bytes > 0 {
                self.file.read_exact_at(&mut last, bytes - 1)?;
            }
            if last == [b'\n'] {
                return Ok(false);
            }
            if seen_bytes != Some(bytes) {
                (seen_bytes, seen_at) = (Some(bytes), Instant::now());
            }
            if self.torn_at == Some(bytes) || seen_at.elapsed() >= TORN_LINE_TIMEOUT {
                return Ok(true);
            }
            thread::sleep(CHECK_INTERVAL);
        }
        Ok(false)
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// The result of a single write.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    /// How many of the given bytes were written as whole lines.
    whole: usize,
    /// Whether the file now ends with a torn line.
    is_torn: bool,
}

/// Writes once. Ends a torn line first, so that it does not corrupt the next.
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
    use crate::domain::log_config::LogConfig;

    const NOON: i64 = 1_767_268_800_123;

    const LINE: &[u8] = b"{\"time\":\"2026-01-01T12:00:00.123Z\",\"event\":\"throttled\"}\n";

    fn file_in(dir: &TempDir) -> TopicFile {
        TopicFile::new(dir.path().join("billing.log"), LogConfig::in_dir(dir.path()).rotation)
    }

    fn text_of(file: &TopicFile) -> String {
        fs::read_to_string(file.path()).expect("the topic's file")
    }

    #[test]
    fn file_mode_excludes_other_users() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        file.append(LINE).expect("written");
        let metadata = fs::metadata(file.path()).expect("created");
        assert_eq!(metadata.permissions().mode() & 0o137, 0, "nothing beyond 0640");
    }

    #[test]
    fn torn_line_of_an_earlier_process_corrupts_no_other() {
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
    fn torn_line_of_a_concurrent_process_corrupts_no_other() {
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
    fn truncated_file_starts_with_a_whole_line() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        fs::write(file.path(), "{torn").expect("written");
        file.reopen().expect("opened");
        fs::write(file.path(), "").expect("truncated");
        file.append(LINE).expect("written");
        assert_eq!(text_of(&file).as_bytes(), LINE);
    }

    #[test]
    fn line_written_to_a_removed_file_is_written_again() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        file.append(LINE).expect("written");
        file.prepare(LINE.len(), NOON).expect("the file exists");
        fs::remove_file(file.path()).expect("removed");
        assert_eq!(file.write(LINE).expect("the kernel accepts it"), 0, "the file has no name");
        file.append(LINE).expect("written");
        assert_eq!(text_of(&file).as_bytes(), LINE);
    }

    #[test]
    fn failed_reopen_keeps_writing_to_the_moved_file() {
        let dir = tempdir().expect("a directory");
        let mut file = file_in(&dir);
        file.append(LINE).expect("written");
        let moved = dir.path().join("billing.log.1");
        fs::rename(file.path(), &moved).expect("moved");
        fs::create_dir(file.path()).expect("a directory where the file should be");
        assert!(matches!(file.append(LINE), Err(FileError::Open(_))));
        assert_eq!(fs::read(&moved).expect("the old file"), [LINE, LINE].concat());

        fs::remove_dir(file.path()).expect("removed");
        file.append(LINE).expect("written");
        assert_eq!(text_of(&file).as_bytes(), LINE);
    }

    /// Accepts bytes up to its capacity.
    struct SmallDisk {
        capacity: usize,
        bytes: Vec<u8>,
    }

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let accepted = bytes.len().min(self.capacity - self.bytes.len());
            self.bytes.extend(&bytes[..accepted]);
            Ok(accepted)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_write_keeps_whole_lines_and_corrupts_no_other() {
        let mut disk = SmallDisk { capacity: 12, bytes: Vec::new() };
        let mut write = |capacity, was_torn, lines| {
            disk.capacity = capacity;
            let Written { whole, is_torn } = write_lines(&mut disk, was_torn, lines).expect("written");
            (whole, is_torn, String::from_utf8_lossy(&disk.bytes).into_owned())
        };
        let is = |whole, is_torn, text: &str| (whole, is_torn, text.to_owned());
        assert_eq!(write(12, false, b"{one}\n{two}\n{three}\n"), is(12, false, "{one}\n{two}\n"));
        assert_eq!(write(15, false, b"{three}\n"), is(0, true, "{one}\n{two}\n{th"));
        assert_eq!(write(15, true, b"{three}\n"), is(0, true, "{one}\n{two}\n{th"), "still full");
        assert_eq!(
            write(16, true, b"{three}\n"),
            is(0, false, "{one}\n{two}\n{th\n"),
            "room for the newline"
        );
        assert_eq!(write(99, false, b"{three}\n"), is(8, false, "{one}\n{two}\n{th\n{three}\n"));
    }
}
