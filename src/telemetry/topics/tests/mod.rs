//! The topic files while other processes, logrotate and operators work on them.

mod concurrent_writers;
mod external_rotation;
mod queued;
mod rotation;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::domain::log_config::Rotation;

const NOON: i64 = 1_767_268_800_123;

const HOUR: i64 = 3_600_000;

fn new_dir() -> TempDir {
    tempdir().expect("a directory")
}

fn logs_in(dir: &Path) -> TopicLogs {
    TopicLogs::open(&LogConfig::in_dir(dir))
}

fn logs_with(dir: &Path, rotation: Rotation) -> TopicLogs {
    TopicLogs::open(&LogConfig { rotation, ..LogConfig::in_dir(dir) })
}

/// About ten lines a file, and as many files as a test fills.
fn tiny() -> Rotation {
    Rotation { max_bytes: Some(1000), max_age: None, keep: 100_000 }
}

fn by_age(hours: u64) -> Rotation {
    Rotation { max_bytes: None, max_age: Some(Duration::from_hours(hours)), keep: 14 }
}

fn line(event: &'static str, at_ms: i64) -> Line {
    Line::new(Topic::Billing, Level::Info, event, at_ms)
}

fn numbered_line(writer: &str, number: usize) -> Line {
    line("throttled", NOON).reason(format!("{writer} {number}").as_str())
}

fn path_of(dir: &Path, topic: Topic) -> PathBuf {
    dir.join(format!("{}.log", topic.as_str()))
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("every line is whole")).collect()
}

fn lines_of(dir: &Path, topic: Topic) -> Vec<Value> {
    parsed(&fs::read_to_string(path_of(dir, topic)).expect("the topic's file"))
}

fn events_of(dir: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join(name)).expect("the file");
    parsed(&text).iter().map(|line| line["event"].as_str().expect("text").to_owned()).collect()
}

fn billing_files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("text")).collect();
    names.retain(|name| name.starts_with("billing.log"));
    names.sort();
    names
}

/// How often each reason occurs in the topic's files, and how many lines are torn.
fn reasons_and_torn_in(dir: &Path) -> (BTreeMap<String, usize>, usize) {
    let (mut reasons, mut torn) = (BTreeMap::new(), 0);
    for name in billing_files(dir) {
        for line in fs::read_to_string(dir.join(name)).expect("text").lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(line) => {
                    *reasons.entry(line["reason"].as_str().expect("a reason").to_owned()).or_default() += 1;
                }
                Err(_) => torn += 1,
            }
        }
    }
    (reasons, torn)
}

fn reasons_in(dir: &Path) -> BTreeMap<String, usize> {
    let (reasons, torn) = reasons_and_torn_in(dir);
    assert_eq!(torn, 0, "every line is whole");
    reasons
}

/// Every rotated file was nearly full: no process rotated a file that another had just rotated.
fn assert_rotated_when_full(dir: &Path) {
    let files = billing_files(dir);
    assert!(files.len() > 2, "there are {} files", files.len());
    for name in files.iter().filter(|name| *name != "billing.log") {
        let bytes = fs::metadata(dir.join(name)).expect("it exists").len();
        assert!(bytes > 500, "{name} has {bytes} bytes");
    }
}

fn assert_each_once(dir: &Path, expected: impl Iterator<Item = String>) {
    assert_eq!(reasons_in(dir), expected.map(|reason| (reason, 1)).collect());
}

#[test]
fn append_writes_each_line_to_the_file_of_its_topic() {
    let dir = new_dir();
    let logs = logs_in(dir.path());
    logs.append(&[
        Line::new(Topic::SubscriptionState, Level::Info, "event.applied", NOON),
        Line::new(Topic::WebhookSignatures, Level::Info, "signature.accepted", NOON),
        Line::new(Topic::SubscriptionState, Level::Info, "subscription.transition", NOON),
        line("portal.create.start", NOON),
    ]);
    assert_eq!(events_of(dir.path(), "billing.log"), ["portal.create.start"]);
    assert_eq!(events_of(dir.path(), "webhook_signatures.log"), ["signature.accepted"]);
    assert_eq!(events_of(dir.path(), "subscription_state.log"), ["event.applied", "subscription.transition"]);
    assert_eq!(Topic::ALL.map(|topic| logs.write_errors(topic)), [0; 3]);
}

#[test]
fn newline_or_quote_in_a_value_breaks_no_line() {
    let dir = new_dir();
    let malicious = "x\"}\n{\"event\":\"forged\u{2028}\r\0";
    logs_in(dir.path()).append(&[line("portal.create.failure", NOON)
        .reason(malicious)
        .stripe_event_type(malicious)
        .stripe_request(malicious)
        .transition(malicious, malicious)]);
    let lines = lines_of(dir.path(), Topic::Billing);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["reason"], malicious);
    for name in ["stripe_event_type", "stripe_request_id", "from", "to"] {
        assert_eq!(lines[0][name], "x?????event???forged???", "{name}");
    }
}

#[test]
fn unwritable_directory_is_counted_and_used_once_it_is_writable() {
    let dir = new_dir();
    let log_dir = dir.path().join("logs");
    fs::write(&log_dir, "a file where the directory should be").expect("written");

    let logs = logs_in(&log_dir);
    assert_eq!(Topic::ALL.map(|topic| logs.write_errors(topic)), [1; 3], "each of the three files");
    logs.append(&[line("portal.create.start", NOON)]);
    assert_eq!(logs.write_errors(Topic::Billing), 2);

    fs::remove_file(&log_dir).expect("removed");
    logs.append(&[line("portal.create.success", NOON)]);
    assert_eq!(Topic::ALL.map(|topic| logs.write_errors(topic)), [2, 1, 1]);
    assert_eq!(events_of(&log_dir, "billing.log"), ["portal.create.success"]);
}

#[test]
fn full_disk_is_counted_and_writing_resumes() {
    let dir = new_dir();
    let path = path_of(dir.path(), Topic::Billing);
    std::os::unix::fs::symlink("/dev/full", &path).expect("a disk that is always full");
    let logs = logs_in(dir.path());
    logs.append(&[line("portal.create.start", NOON)]);
    assert_eq!(logs.write_errors(Topic::Billing), 1);

    fs::remove_file(&path).expect("removed");
    logs.append(&[line("portal.create.success", NOON)]);
    assert_eq!(logs.write_errors(Topic::Billing), 1);
    assert_eq!(events_of(dir.path(), "billing.log"), ["portal.create.success"]);
}
