//! What the documents promise and list is what there is, and where they lead there is something.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

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
    let sources = sources(&root().join("tests")) + &sources(&root().join("src"));
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

/// Whatever is written like a test's name, in any document, is one.
#[test]
fn every_test_that_a_document_names_exists() {
    let sources = sources(&root().join("tests")) + &sources(&root().join("src"));
    for (path, text) in documents() {
        let words = prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2));
        for name in words.filter(|word| is_like_a_tests_name(word)) {
            assert!(sources.contains(&format!("fn {name}(")), "{}: no test `{name}`", path.display());
        }
    }
}

fn is_like_a_tests_name(word: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    word.chars().all(is_plain) && !word.starts_with("billhook_") && word.matches('_').count() >= 4
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

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "the documents are found");
    for (path, text) in &documents {
        for link in links(text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { beside(path, file) };
            assert!(root().join(&target).exists(), "{}: there is no {link}", path.display());
            if !anchor.is_empty() {
                let text = documents.get(&target).expect("only a document has headings");
                assert!(anchors(text).contains(&anchor.to_owned()), "{}: there is no {link}", path.display());
            }
        }
    }
}

#[test]
fn a_heading_is_linked_to_as_github_names_it() {
    let text = "# One: `two`, three\n```sh\n# no heading\n```\n## A\n## A\n### What's *that*?\n";
    assert_eq!(anchors(text), ["one-two-three", "a", "a-1", "whats-that"]);
}

/// The targets of a document's links within the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = prose(text).flat_map(|line| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains("://"))
}

/// What its headings can be linked to by.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for heading in prose(text).filter(|line| line.starts_with('#')) {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = |letter: &char| letter.is_alphanumeric() || "-_ ".contains(*letter);
        let anchor = words.chars().filter(kept).collect::<String>().replace(' ', "-");
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(numbered).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// The lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        is_code ^= line.starts_with("```");
        !is_code
    })
}

/// Where a link in a document leads, from the root.
fn beside(document: &Path, link: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in document.with_file_name(link).components() {
        if part == Component::ParentDir { _ = path.pop() } else { path.push(part) }
    }
    path
}

/// Every document of the repository's own, by its path from the root.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut documents = BTreeMap::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root().join(&dir)).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            let path = dir.join(&name);
            let is_hidden = name.to_string_lossy().starts_with('.');
            let is_others = ["node_modules", "target", "dist"].iter().any(|others| name == *others);
            if root().join(&path).is_dir() && !is_hidden && !is_others {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(root().join(&path)).expect("a file of text");
                documents.insert(path, text);
            }
        }
    }
    documents
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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
