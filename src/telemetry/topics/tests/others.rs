//! Somebody else's hands on the files: an operator's, logrotate's.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;

#[test]
fn reopening_follows_a_file_that_was_moved_away() {
    let dir = a_dir();
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
fn a_file_that_logrotate_moved_and_made_anew_is_found_without_a_signal() {
    let dir = a_dir();
    let logs = logs_in(dir.path());
    logs.append(&[line("portal.create.start", NOON)]);
    fs::rename(path_of(dir.path(), Topic::Billing), dir.path().join("billing.log.1")).expect("moved");
    fs::write(path_of(dir.path(), Topic::Billing), "").expect("made");

    logs.append(&[line("portal.create.success", NOON)]);
    assert_eq!(events_of(dir.path(), "billing.log.1"), ["portal.create.start"]);
    assert_eq!(events_of(dir.path(), "billing.log"), ["portal.create.success"]);
}

#[test]
fn a_file_that_logrotate_copied_and_truncated_goes_on_at_its_beginning() {
    let dir = a_dir();
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
    assert!(!dir.path().join("billing.log.1").exists(), "and its age begins anew");
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let dir = a_dir();
    let place = dir.path().join("logs");
    let logs = logs_in(&place);
    logs.append(&[line("portal.create.start", NOON)]);
    fs::remove_dir_all(&place).expect("removed");
    logs.append(&[line("portal.create.success", NOON)]);
    assert_eq!(events_of(&place, "billing.log"), ["portal.create.success"]);
    assert_eq!(logs.write_errors(Topic::Billing), 0);
}

/// What the documents tell whoever rotates with logrotate, for files in another directory.
fn documented_settings(dir: &Path) -> String {
    let operations = include_str!("../../../../docs/operations.md");
    let (_, settings) = operations.split_once("/var/log/billhook/*.log {").expect("there are settings");
    let (settings, _) = settings.split_once('}').expect("they end");
    format!("{}/*.log {{{settings}}}\n", dir.display())
}

/// How often logrotate runs in a test: often enough that it compresses, too.
const ROTATIONS: usize = 8;

/// Runs the real logrotate again and again while lines are written. Returns how many were; none where it is not
/// installed.
fn rotate_while_writing(dir: &Path, settings: &str) -> Option<usize> {
    Command::new("logrotate").arg("--version").output().ok()?;
    let away = a_dir();
    // logrotate reads no settings that others could write.
    let mut file = tempfile::NamedTempFile::new_in(&away).expect("a file");
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
            let run = logrotate.arg("--force").arg("--state").arg(away.path().join("state")).arg(file.path());
            let run = run.output().expect("it runs");
            assert!(run.status.success(), "{run:?}");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    Some(written.into_inner())
}

#[test]
fn logrotate_set_as_the_docs_say_rotates_and_needs_no_signal() {
    let dir = a_dir();
    // What is compressed cannot be read below.
    let readable = documented_settings(dir.path()).replace(" compress", " nocompress");
    let Some(lines) = rotate_while_writing(dir.path(), &readable) else { return };
    assert_each_once(dir.path(), (0..lines).map(|number| format!("writer {number}")));
    assert!(billing_files(dir.path()).len() >= ROTATIONS, "it did rotate");

    let dir = a_dir();
    rotate_while_writing(dir.path(), &documented_settings(dir.path()));
    assert!(billing_files(dir.path()).contains(&"billing.log.2.gz".to_owned()), "as it stands it compresses");
}

#[test]
fn logrotate_may_make_the_new_file_itself_or_copy_and_truncate() {
    for how in ["create", "copytruncate"] {
        let dir = a_dir();
        let settings = format!("{}/*.log {{\n rotate 14\n nocompress\n {how}\n}}\n", dir.path().display());
        let Some(lines) = rotate_while_writing(dir.path(), &settings) else { return };
        let found = reasons_in(dir.path());
        assert!(found.values().all(|times| *times == 1), "{how}: no line is there twice");
        // Between its copy and its truncation logrotate itself loses what is written, as its manual says.
        assert!(found.len() == lines || how == "copytruncate", "{how}: {} of {lines}", found.len());
        assert!(billing_files(dir.path()).len() >= ROTATIONS, "{how}: it did rotate");
    }
}

/// A script appends without a lock, and the kernel shows its write page by page: the file ends within a line while the
/// write is in progress.
#[test]
fn unfinished_write_of_another_program_leaves_no_empty_line() {
    let dir = a_dir();
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
