//! Several threads and processes write to one directory and rotate its files concurrently.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use super::*;

#[test]
fn concurrent_threads_keep_lines_whole_through_rotations() {
    const THREADS: usize = 8;
    const APPENDS: usize = 200;
    let dir = new_dir();
    let handles = [0; 4].map(|_| logs_with(dir.path(), tiny()));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let logs = &handles[number % handles.len()];
            scope.spawn(move || {
                for append in 0..APPENDS {
                    let writer = format!("thread-{number}");
                    logs.append(&[
                        numbered_line(&writer, 2 * append),
                        numbered_line(&writer, 2 * append + 1),
                    ]);
                }
            });
        }
    });
    assert_each_once(
        dir.path(),
        (0..THREADS).flat_map(|thread| (0..2 * APPENDS).map(move |n| format!("thread-{thread} {n}"))),
    );
    assert_rotated_when_full(dir.path());
    assert!(handles.iter().all(|logs| logs.write_errors(Topic::Billing) == 0));
}

#[test]
fn concurrent_processes_write_every_line_once() {
    const PROCESSES: usize = 4;
    const LINES: usize = 2000;
    let dir = new_dir();
    let writers = (0..PROCESSES).map(|number| Writer::start(dir.path(), &number.to_string(), LINES));
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        assert_eq!(writer.reports_until_exit().len(), LINES);
    }
    assert_each_once(
        dir.path(),
        (0..PROCESSES).flat_map(|process| (0..LINES).map(move |n| format!("{process} {n}"))),
    );
    assert_rotated_when_full(dir.path());
}

#[test]
fn sigkill_loses_no_written_line() {
    const PROCESSES: usize = 20;
    let dir = new_dir();
    let mut reported = Vec::new();
    for number in 0..PROCESSES {
        let mut writer = Writer::start(dir.path(), &number.to_string(), usize::MAX);
        for _ in 0..=number * 3 {
            reported.push(writer.next_report().expect("it keeps writing"));
        }
        writer.process.kill().expect("killed");
        reported.extend(writer.reports_until_exit());
    }
    let (found, torn) = reasons_and_torn_in(dir.path());
    for reason in &reported {
        assert_eq!(found.get(reason), Some(&1), "{reason}");
    }
    // A kill during a write may leave a torn line that was not reported. It must not corrupt
    // another.
    assert!(torn <= PROCESSES, "{torn} lines are torn");
    assert_rotated_when_full(dir.path());
}

/// Lines an append: enough that many lines cross the end of a page, where the kernel may expose a
/// part of them.
const BATCH: usize = 10;

/// A child process that writes lines, rotates, and reports each written line on a pipe.
struct Writer {
    process: Child,
    reports: std::io::Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(dir: &Path, name: &str, lines: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "telemetry::topics::tests::concurrent_writers::writer_child_process",
                "--ignored",
                "--nocapture",
            ])
            .env("TEST_LOG_DIR", dir)
            .env("TEST_WRITER", name)
            .env("TEST_LINES", lines.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let reports = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { process, reports }
    }

    fn next_report(&mut self) -> Option<String> {
        self.reports.find_map(|line| line.ok()?.strip_prefix("written: ").map(str::to_owned))
    }

    fn reports_until_exit(mut self) -> Vec<String> {
        let reports = std::iter::from_fn(|| self.next_report()).collect();
        self.process.wait().expect("it ends");
        reports
    }
}

#[test]
#[ignore = "other tests run it in a child process"]
fn writer_child_process() {
    let variable = |name| std::env::var(name).ok();
    // Unset when all ignored tests are run.
    let Some(dir) = variable("TEST_LOG_DIR") else { return };
    let writer = variable("TEST_WRITER").expect("a name");
    let lines: usize = variable("TEST_LINES").and_then(|lines| lines.parse().ok()).expect("a number");
    let logs = logs_with(dir.as_ref(), Rotation { max_bytes: Some(20_000), ..tiny() });
    for first in (0..lines).step_by(BATCH) {
        let numbers = first..first + BATCH;
        let batch: Vec<_> = numbers.clone().map(|number| numbered_line(&writer, number)).collect();
        logs.append(&batch);
        // In one write, so that a kill cuts no report.
        let reports: Vec<_> = numbers.map(|number| format!("written: {writer} {number}\n")).collect();
        io::stdout().write_all(reports.concat().as_bytes()).expect("the test reads it");
    }
}
