//! The service's mode: a thread per topic writes the lines.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Instant;

use super::*;

/// Far longer than any step here takes.
const TIMEOUT: Duration = Duration::from_mins(1);

fn start_in(dir: &Path) -> TopicLogs {
    TopicLogs::start(&LogConfig::in_dir(dir)).expect("threads")
}

fn flush(logs: &TopicLogs) {
    logs.flush(Instant::now() + TIMEOUT);
}

/// Creates a pipe in place of the topic's file. It accepts 64 KB, and then blocks until it is read.
fn stalled_pipe(dir: &Path, topic: Topic) -> File {
    let path = path_of(dir, topic);
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    OpenOptions::new().read(true).write(true).open(path).expect("opened")
}

#[test]
fn flush_writes_every_queued_line() {
    let dir = new_dir();
    let logs = start_in(dir.path());
    for number in 0..1000 {
        logs.append(&[
            numbered_line("writer", number),
            Line::new(Topic::SubscriptionState, Level::Info, "event.applied", NOON),
        ]);
    }
    flush(&logs);
    assert_each_once(dir.path(), (0..1000).map(|number| format!("writer {number}")));
    assert_eq!(lines_of(dir.path(), Topic::SubscriptionState).len(), 1000);
    assert_eq!(lines_of(dir.path(), Topic::WebhookSignatures).len(), 0, "the third file exists");
    assert_eq!(Topic::ALL.map(|topic| logs.write_errors(topic) + logs.dropped_lines(topic)), [0; 3]);
}

#[test]
fn stalled_file_drops_lines_of_its_topic_only_and_recovers() {
    const LINES: usize = 20_000;
    let dir = new_dir();
    let pipe = stalled_pipe(dir.path(), Topic::WebhookSignatures);
    let logs = start_in(dir.path());
    for number in 0..LINES {
        let signature = Line::new(Topic::WebhookSignatures, Level::Warn, "signature.rejected", NOON);
        logs.append(&[signature.reason(number.to_string().as_str())]);
    }
    logs.append(&[line("portal.create.start", NOON)]);
    let dropped = usize::try_from(logs.dropped_lines(Topic::WebhookSignatures)).expect("a count");
    assert!(dropped > 0 && dropped < LINES, "{dropped} of {LINES}");
    assert_eq!(logs.dropped_lines(Topic::Billing), 0);

    let read: Vec<Value> = BufReader::new(pipe)
        .lines()
        .take(LINES - dropped)
        .map(|line| serde_json::from_str(&line.expect("text")).expect("every line is whole"))
        .collect();
    for (number, line) in read.iter().enumerate() {
        assert_eq!(line["reason"], number.to_string(), "the first lines, in order");
    }
    flush(&logs);
    assert_eq!(events_of(dir.path(), "billing.log"), ["portal.create.start"]);
    logs.append(&[Line::new(Topic::WebhookSignatures, Level::Info, "signature.accepted", NOON)]);
    flush(&logs);
    assert_eq!(logs.dropped_lines(Topic::WebhookSignatures), dropped as u64, "the queue has room again");
}

#[test]
fn reopen_creates_a_new_file_before_the_next_line() {
    let dir = new_dir();
    let logs = start_in(dir.path());
    logs.append(&[line("portal.create.start", NOON)]);
    flush(&logs);
    let path = path_of(dir.path(), Topic::Billing);
    fs::rename(&path, dir.path().join("billing.log.1")).expect("moved");
    logs.reopen();
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < TIMEOUT, "there is no new file");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(events_of(dir.path(), "billing.log.1"), ["portal.create.start"]);
}
