//! Rotation of topic files: `billing.log` becomes `billing.log.1`, that becomes `billing.log.2`,
//! and so on. Files beyond the number to keep are removed.
//!
//! Several processes may write to one directory. A lock lets one at a time move files, and the
//! others do not wait for it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::FILE_MODE;
use super::line::time_of;
use crate::domain::log_config::Rotation;

/// Hidden and not `*.log`, so that patterns for the topic files do not match it.
const LOCK_NAME: &str = ".rotation.lock";

/// How much of a file is searched for a line with a time: two lines of the maximum length, because
/// the first may be torn.
const HEAD_BYTES: usize = 8192;

/// `bytes` is the size after the next append.
pub(super) fn is_due(rotation: &Rotation, bytes: u64, age: Duration) -> bool {
    rotation.max_bytes.is_some_and(|max| bytes > max) || rotation.max_age.is_some_and(|max| age >= max)
}

/// The time of the first line that has one, in milliseconds of the Unix epoch. Read from the file,
/// so that it is the same for every process and after every restart.
pub(super) fn started_at_ms(file: &File) -> Option<i64> {
    let mut head = [0; HEAD_BYTES];
    let length = file.read_at(&mut head, 0).ok()?;
    head[..length].split(|byte| *byte == b'\n').find_map(time_of)
}

/// Unlocked on drop.
#[derive(Debug)]
pub(super) struct DirLock(File);

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing the file does not unlock it while a child process that is starting still has it
        // open. If the unlock fails, closing the file must do.
        let _ = self.0.unlock();
    }
}

/// None while another process holds the lock.
pub(super) fn try_lock(dir: &Path) -> io::Result<Option<DirLock>> {
    let path = dir.join(LOCK_NAME);
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(DirLock(lock))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Renames the file to number 1, increments the numbers of the rotated files, and removes those
/// beyond `keep`. A kill in between leaves a gap in the numbers, but loses no line.
pub(super) fn shift(path: &Path, keep: u32) -> io::Result<()> {
    for number in rotated(path)? {
        let file = numbered(path, number);
        if number >= keep {
            fs::remove_file(file)?;
        } else {
            fs::rename(file, numbered(path, number + 1))?;
        }
    }
    fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

/// The numbers of the rotated files, oldest first.
fn rotated(path: &Path) -> io::Result<Vec<u32>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let other = entry?.file_name();
        numbers.extend(other.to_str().and_then(|other| number_of(other, name)));
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

/// The number in `billing.log.7`. None for 0 and for leading zeros, which rotation never writes.
fn number_of(other: &str, name: &str) -> Option<u32> {
    let suffix = other.strip_prefix(name)?.strip_prefix('.')?;
    suffix.parse().ok().filter(|number: &u32| *number > 0 && number.to_string() == suffix)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn rotation_is_due_by_size_or_age() {
        let rotation = Rotation { max_bytes: Some(100), max_age: Some(Duration::from_secs(10)), keep: 1 };
        assert!(!is_due(&rotation, 100, Duration::from_secs(9)));
        assert!(is_due(&rotation, 101, Duration::ZERO));
        assert!(is_due(&rotation, 1, Duration::from_secs(10)));
        let never = Rotation { max_bytes: None, max_age: None, keep: 1 };
        assert!(!is_due(&never, u64::MAX, Duration::MAX));
    }

    #[test]
    fn shift_increments_numbers_and_removes_files_beyond_keep() {
        let dir = tempdir().expect("a directory");
        let path = dir.path().join("billing.log");
        let others = [
            "billing.log.07",
            "billing.log.1.gz",
            "billing.log.old",
            "billing.log.0",
            "webhook_signatures.log.1",
        ];
        for name in [
            "billing.log",
            "billing.log.1",
            "billing.log.2",
            "billing.log.4",
            "billing.log.9",
            "billing.log.10",
        ]
        .iter()
        .chain(&others)
        {
            fs::write(dir.path().join(name), name).expect("written");
        }
        shift(&path, 4).expect("moved");

        let now_holds = |number| fs::read_to_string(numbered(&path, number)).expect("a rotated file");
        assert_eq!(
            [now_holds(1), now_holds(2), now_holds(3)],
            ["billing.log", "billing.log.1", "billing.log.2"]
        );
        assert_eq!(rotated(&path).expect("listed"), [3, 2, 1], "4, 9 and 10 are removed");
        assert!(!path.exists());
        for name in others {
            assert_eq!(fs::read_to_string(dir.path().join(name)).expect("not ours"), name);
        }
    }

    #[test]
    fn shift_with_a_gap_in_the_numbers_loses_no_file() {
        let dir = tempdir().expect("a directory");
        let path = dir.path().join("billing.log");
        fs::write(&path, "new").expect("written");
        fs::write(numbered(&path, 2), "old").expect("written");
        shift(&path, 4).expect("moved");
        assert_eq!(fs::read_to_string(numbered(&path, 1)).expect("kept"), "new");
        assert_eq!(fs::read_to_string(numbered(&path, 3)).expect("kept"), "old");
    }

    #[test]
    fn started_at_is_the_time_of_the_first_line_with_a_time() {
        let started = |text: &str| {
            let mut file = tempfile::tempfile().expect("a file");
            io::Write::write_all(&mut file, text.as_bytes()).expect("written");
            started_at_ms(&file)
        };
        let whole = r#"{"time":"2026-01-01T12:00:00.123Z","level":"info"}"#;
        assert_eq!(started(&format!("{whole}\n")), Some(1_767_268_800_123));
        assert_eq!(
            started(&format!("{{\"time\":\"20\n\n{whole}\n")),
            Some(1_767_268_800_123),
            "the first line is torn"
        );
        assert_eq!(started(""), None);
        assert_eq!(started("other programs'\nlines\n"), None);
    }

    #[test]
    fn lock_is_exclusive_until_it_is_dropped() {
        let dir = tempdir().expect("a directory");
        let lock = try_lock(dir.path()).expect("no error").expect("locked");
        assert!(try_lock(dir.path()).expect("no error").is_none());
        drop(lock);
        assert!(try_lock(dir.path()).expect("no error").is_some());
    }
}
