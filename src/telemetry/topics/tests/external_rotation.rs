//! Operators and logrotate move, truncate and remove the files.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;

#[test]
fn reopen_creates_a_new_file_after_a_move() {
    let dir = new_dir();
    let logs = logs_in(dir.path());
    logs.append(&[line("portal.create.start", NOON)]);
    fs::rename(path_of(dir.path(), Topic::Billing), dir.path().join("billing.log.1")).expect("moved");

    logs.reopen();
    assert!(path_of(dir.path(), Topic::Billing).exists(), "at once");
    logs.append(&[line("portal.create.success", NOON)]);
    assert_eq!(events_of(dir.path(), "billing.log.1"), ["portal.create.start"]);
    assert_eq!(events_of(dir.path(), "billing.log"), ["portal.create.success"]);
}

#[test]
fn file_moved_and_recreated_is_found_without_a_signal() {
    let dir = new_dir();
    let logs = logs_in(dir.path());
    logs.append(&[line("portal.create.start", NOON)]);
    fs::rename(path_of(dir.path(), Topic::Billing), dir.path().join("billing.log.1")).expect("moved");
    fs::write(path_of(dir.path(), Topic::Billing), "").expect("created");

    logs.append(&[line("portal.create.success", NOON)]);
    assert_eq!(events_of(dir.path(), "billing.log.1"), ["portal.create.start"]);
    assert_eq!(events_of(dir.path(), "billing.log"), ["portal.create.success"]);
}

#[test]
fn file_copied_and_truncated_is_written_from_its_start() {
    let dir = new_dir();
    let logs = logs_with(dir.path(), by_age(1));
    let path = path_of(dir.path(), Topic::Billing);
    for hour in 0..3 {
        let at = NOON + hour * HOUR;
        logs.append(&[line("portal.create.start", at), line("portal.create.success", at)]);
        let copy = format!("billing.log-{hour}");
        fs::copy(&path, dir.path().join(&copy)).expect("copied");
        fs::OpenOptions::new().write(true).open(&path).expect("opened").set_len(0).expect("truncated");
        assert_eq!(events_of(dir.path(), &copy), ["portal.create.start", "portal.create.success"]);
    }
    assert!(!dir.path().join("billing.log.1").exists(), "its age starts at the truncation");
}

#[test]
fn removed_directory_is_created_again() {
    let dir = new_dir();
    let log_dir = dir.path().join("logs");
    let logs = logs_in(&log_dir);
    logs.append(&[line("portal.create.start", NOON)]);
    fs::remove_dir_all(&log_dir).expect("removed");
    logs.append(&[line("portal.create.success", NOON)]);
    assert_eq!(events_of(&log_dir, "billing.log"), ["portal.create.success"]);
    assert_eq!(logs.write_errors(Topic::Billing), 0);
}

/// The logrotate settings of `docs/operations.md`, for another directory.
fn documented_settings(dir: &Path) -> String {
    let operations = include_str!("../../../../docs/operations.md");
    let (_, settings) = operations.split_once("/var/log/billhook/*.log {").expect("there are settings");
    let (settings, _) = settings.split_once('}').expect("they end");
    format!("{}/*.log {{{settings}}}\n", dir.display())
}

/// Runs of logrotate in a test: enough that it also compresses.
const ROTATIONS: usize = 8;

/// Runs logrotate repeatedly while lines are written. Returns the number of lines, or None if
/// logrotate is not installed.
fn rotate_while_writing(dir: &Path, settings: &str) -> Option<usize> {
    Command::new("logrotate").arg("--version").output().ok()?;
    let settings_dir = new_dir();
    // logrotate rejects settings that other users can write.
    let mut file = tempfile::NamedTempFile::new_in(&settings_dir).expect("a file");
    file.write_all(settings.as_bytes()).expect("written");
    let logs = logs_with(dir, Rotation::NEVER);
    let (written, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                logs.append(&[numbered_line("writer", written.fetch_add(1, Ordering::SeqCst))]);
                thread::sleep(Duration::from_micros(100));
            }
        });
        for _ in 0..ROTATIONS {
            let before = written.load(Ordering::SeqCst);
            // What was only just counted may not be written, but the one before it is.
            while written.load(Ordering::SeqCst) < before + 2 {
                thread::yield_now();
            }
            let mut logrotate = Command::new("logrotate");
            let run = logrotate
                .arg("--force")
                .arg("--state")
                .arg(settings_dir.path().join("state"))
                .arg(file.path());
            let run = run.output().expect("it runs");
            assert!(run.status.success(), "{run:?}");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    Some(written.into_inner())
}

#[test]
fn documented_logrotate_settings_lose_no_line() {
    let dir = new_dir();
    // The assertions below cannot read compressed files.
    let readable = documented_settings(dir.path()).replace(" compress", " nocompress");
    let Some(lines) = rotate_while_writing(dir.path(), &readable) else { return };
    assert_each_once(dir.path(), (0..lines).map(|number| format!("writer {number}")));
    assert!(billing_files(dir.path()).len() >= ROTATIONS, "it rotated");

    let dir = new_dir();
    rotate_while_writing(dir.path(), &documented_settings(dir.path()));
    assert!(billing_files(dir.path()).contains(&"billing.log.2.gz".to_owned()), "it compresses");
}

#[test]
fn logrotate_create_and_copytruncate_duplicate_no_line() {
    for how in ["create", "copytruncate"] {
        let dir = new_dir();
        let settings = format!("{}/*.log {{\n rotate 14\n nocompress\n {how}\n}}\n", dir.path().display());
        let Some(lines) = rotate_while_writing(dir.path(), &settings) else { return };
        let found = reasons_in(dir.path());
        assert!(found.values().all(|times| *times == 1), "{how}: a line is duplicated");
        // logrotate itself loses lines written between its copy and its truncation, as its manual
        // says.
        assert!(found.len() == lines || how == "copytruncate", "{how}: {} of {lines}", found.len());
        assert!(billing_files(dir.path()).len() >= ROTATIONS, "{how}: it rotated");
    }
}

/// Another program appends without the lock. The kernel exposes its write page by page, so that the
/// file ends within a line while the write is in progress.
#[test]
fn unfinished_write_of_another_program_leaves_no_empty_line() {
    let dir = new_dir();
    let logs = logs_with(dir.path(), Rotation::NEVER);
    let path = path_of(dir.path(), Topic::Billing);
    let block = "{\"written_by\":\"another program\"}\n".repeat(40_000);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                logs.append(&[line("throttled", NOON)]);
            }
        });
        for _ in 0..20 {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).expect("opened");
            file.write_all(block.as_bytes()).expect("written");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let text = fs::read_to_string(&path).expect("the topic's file");
    assert!(!text.starts_with('\n') && !text.contains("\n\n"), "an empty line");
}
