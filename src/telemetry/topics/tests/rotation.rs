//! Rotation by size and age, and its bound on the disk space.

use std::fs;

use super::super::rotation::try_lock;
use super::*;

#[test]
fn rotation_bounds_the_number_and_size_of_files() {
    let dir = new_dir();
    let logs = logs_with(dir.path(), Rotation { keep: 3, ..tiny() });
    for number in 0..1000 {
        logs.append(&[numbered_line("writer", number)]);
    }
    assert_eq!(billing_files(dir.path()), ["billing.log", "billing.log.1", "billing.log.2", "billing.log.3"]);
    for name in billing_files(dir.path()) {
        let bytes = fs::metadata(dir.path().join(&name)).expect("it exists").len();
        assert!(bytes <= 1000, "{name} has {bytes} bytes");
    }
    let kept = reasons_in(dir.path()).len();
    assert_each_once(dir.path(), (1000 - kept..1000).map(|number| format!("writer {number}")));
    assert_eq!(logs.write_errors(Topic::Billing), 0);
}

#[test]
fn file_age_is_that_of_its_first_line_after_a_restart() {
    let dir = new_dir();
    let write = |event, at| logs_with(dir.path(), by_age(24)).append(&[line(event, at)]);
    write("portal.create.start", NOON);
    write("portal.create.success", NOON + 24 * HOUR - 1);
    assert_eq!(billing_files(dir.path()), ["billing.log"]);
    write("throttled", NOON + 24 * HOUR);
    assert_eq!(events_of(dir.path(), "billing.log.1"), ["portal.create.start", "portal.create.success"]);
    assert_eq!(events_of(dir.path(), "billing.log"), ["throttled"]);
}

#[test]
fn one_process_rotates_by_age_repeatedly() {
    let dir = new_dir();
    let logs = logs_with(dir.path(), by_age(1));
    for half_hour in 0..6 {
        logs.append(&[line("throttled", NOON + half_hour * HOUR / 2)]);
    }
    for name in ["billing.log", "billing.log.1", "billing.log.2"] {
        assert_eq!(events_of(dir.path(), name).len(), 2, "{name}");
    }
}

#[test]
fn clock_set_back_rotates_no_file() {
    let dir = new_dir();
    let logs = logs_with(dir.path(), by_age(1));
    logs.append(&[line("portal.create.start", NOON)]);
    logs.append(&[line("portal.create.success", NOON - 1000 * HOUR)]);
    assert_eq!(billing_files(dir.path()), ["billing.log"]);
}

#[test]
fn rotation_off_keeps_one_file() {
    let dir = new_dir();
    let logs = logs_with(dir.path(), Rotation::NEVER);
    for day in 0..1000 {
        logs.append(&[line("throttled", NOON + day * 24 * HOUR)]);
    }
    assert_eq!(billing_files(dir.path()), ["billing.log"]);
    assert!(!dir.path().join(".rotation.lock").exists());
}

#[test]
fn lines_go_to_the_open_file_while_another_process_rotates() {
    let dir = new_dir();
    let logs = logs_with(dir.path(), tiny());
    let lock = try_lock(dir.path()).expect("no error").expect("locked");
    for number in 0..30 {
        logs.append(&[numbered_line("writer", number)]);
    }
    assert_eq!(billing_files(dir.path()), ["billing.log"]);
    drop(lock);
    logs.append(&[numbered_line("writer", 30)]);
    assert_eq!(billing_files(dir.path()), ["billing.log", "billing.log.1"]);
    assert_eq!(logs.write_errors(Topic::Billing), 0);
}

#[test]
fn failed_rotation_loses_no_line_and_is_retried_after_a_pause() {
    let dir = new_dir();
    // Rotation has to remove number 5, and cannot, because it is a directory.
    fs::create_dir_all(dir.path().join("billing.log.5/full")).expect("created");
    let logs = logs_with(dir.path(), Rotation { keep: 5, ..tiny() });
    for number in 0..30 {
        logs.append(&[numbered_line("writer", number)]);
    }
    assert_eq!(lines_of(dir.path(), Topic::Billing).len(), 30);
    assert_eq!(logs.write_errors(Topic::Billing), 1);
}
