//! Several threads and processes write into one directory, and rotate it under each other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use super::*;

#[test]
fn appends_from_many_threads_and_handles_keep_whole_lines_through_every_rotation() {
    const THREADS: usize = 8;
    const APPENDS: usize = 200;
    let dir = a_dir();
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
fn several_processes_write_and_rotate_and_every_line_is_there_once() {
    const PROCESSES: usize = 4;
    const LINES: usize = 2000;
    let dir = a_dir();
    let writers = (0..PROCESSES).map(|number| Writer::start(dir.path(), &number.to_string(), LINES));
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        assert_eq!(writer.told_until_the_end().len(), LINES);
    }
    assert_each_once(
        dir.path(),
        (0..PROCESSES).flat_map(|process| (0..LINES).map(move |n| format!("{process} {n}"))),
    );
    assert_rotated_when_full(dir.path());
}

#[test]
fn a_kill_at_any_moment_loses_no_line_that_was_written() {
    const LIVES: usize = 20;
    let dir = a_dir();
    let mut told = Vec::new();
    for life in 0..LIVES {
        let mut writer = Writer::start(dir.path(), &life.to_string(), usize::MAX);
        for _ in 0..=life * 3 {
            told.push(writer.next_told().expect("it writes on"));
        }
        writer.process.kill().expect("killed");
        told.extend(writer.told_until_the_end());
    }
    let (found, torn) = reasons_and_torn_in(dir.path());
    for reason in &told {
        assert_eq!(found.get(reason), Some(&1), "{reason}");
    }
    // A kill in the midst of a write may leave the beginning of a line of which nobody was told; it spoils no other.
    assert!(torn <= LIVES, "{torn} lines are torn");
    assert_rotated_when_full(dir.path());
}

/// So many lines an append has that many a one lies across the end of a page, where the kernel may show a part of it.
const BATCH: usize = 10;

/// Another process that writes lines, rotates, and tells on a pipe of each that is written.
struct Writer {
    process: Child,
    told: std::io::Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(dir: &Path, name: &str, lines: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "telemetry::topics::tests::writers::a_writer_of_its_own",
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
        let told = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { process, told }
    }

    fn next_told(&mut self) -> Option<String> {
        self.told.find_map(|line| line.ok()?.strip_prefix("written: ").map(str::to_owned))
    }

    fn told_until_the_end(mut self) -> Vec<String> {
        let told = std::iter::from_fn(|| self.next_told()).collect();
        self.process.wait().expect("it ends");
        told
    }
}

#[test]
#[ignore = "is run by other tests, in a process of its own"]
fn a_writer_of_its_own() {
    let variable = |name| std::env::var(name).ok();
    // Where somebody runs all ignored tests, there is nothing to write to.
    let Some(dir) = variable("TEST_LOG_DIR") else { return };
    let writer = variable("TEST_WRITER").expect("a name");
    let lines: usize = variable("TEST_LINES").and_then(|lines| lines.parse().ok()).expect("a number");
    let logs = logs_with(dir.as_ref(), Rotation { max_bytes: Some(20_000), ..tiny() });
    for first in (0..lines).step_by(BATCH) {
        let numbers = first..first + BATCH;
        let batch: Vec<_> = numbers.clone().map(|number| numbered_line(&writer, number)).collect();
        logs.append(&batch);
        // In one write, so that a kill cuts none in two.
        let told: Vec<_> = numbers.map(|number| format!("written: {writer} {number}\n")).collect();
        io::stdout().write_all(told.concat().as_bytes()).expect("somebody reads");
    }
}
