//! What the documents promise and list is what there is.

use std::fs;
use std::path::Path;

use billhook::domain::outcome::Outcome;
use serde_json::Value;

const README: &str = include_str!("../README.md");
const SECURITY: &str = include_str!("../docs/security.md");
const TROUBLESHOOTING: &str = include_str!("../docs/troubleshooting.md");
const CONTRACT: &str = include_str!("../openapi/billhook.json");

#[test]
fn every_promise_names_tests_that_exist() {
    names_tests_that_exist(README, "## Reliability");
}

#[test]
fn every_threat_has_tests_that_exist() {
    names_tests_that_exist(SECURITY, "## Threats");
}

/// Holds a table whose last column names tests.
fn names_tests_that_exist(document: &str, section: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("tests")) + &sources(&root.join("src"));
    let (_, section) = document.split_once(section).expect("the section");
    let (section, _) = section.split_once("\n## ").expect("a section after it");
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "the table is found");
    for row in rows {
        let (_, tests) = row.trim_end_matches(" |").rsplit_once(" | ").expect("two columns");
        for test in tests.split(", ") {
            let name = test.trim_matches('`');
            assert!(sources.contains(&format!("fn {name}(")), "there is no test `{name}`: {row}");
        }
    }
}

#[test]
fn every_code_and_every_outcome_can_be_looked_up() {
    let contract: Value = serde_json::from_str(CONTRACT).expect("the contract is JSON");
    let codes = contract["components"]["schemas"]["Code"]["enum"].as_array().expect("the codes");
    for code in codes {
        assert!(TROUBLESHOOTING.contains(&format!("\n| `{}` |", code.as_str().expect("a word"))), "{code}");
    }
    for outcome in [
        Outcome::Applied,
        Outcome::Stale,
        Outcome::Ignored,
        Outcome::Parked,
        Outcome::Quarantined,
        Outcome::Failed,
        Outcome::Dead,
        Outcome::Duplicate,
    ] {
        assert!(TROUBLESHOOTING.contains(&format!("\n| `{outcome}` |")), "{outcome}");
    }
}

/// All Rust under a directory.
fn sources(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).expect("a file of text");
        }
    }
    text
}
