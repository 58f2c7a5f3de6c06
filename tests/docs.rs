//! Checks the documents: the tests, codes and outcomes that they name exist, and their links
//! resolve.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use billhook::domain::outcome::Outcome;
use serde_json::Value;

const API: &str = include_str!("../docs/api.md");
const LOGS: &str = include_str!("../docs/logs.md");
const README: &str = include_str!("../README.md");
const RELIABILITY: &str = include_str!("../docs/reliability.md");
const SECURITY: &str = include_str!("../docs/security.md");
const TROUBLESHOOTING: &str = include_str!("../docs/troubleshooting.md");
const CONTRACT: &str = include_str!("../openapi/billhook.json");

#[test]
fn every_promise_names_existing_tests() {
    assert_items_name_existing_tests(RELIABILITY);
}

#[test]
fn every_threat_names_existing_tests() {
    let (_, threats) = SECURITY.split_once("\n## Threats\n").expect("the section");
    let (threats, _) = threats.split_once("\n## ").expect("a section after it");
    assert_items_name_existing_tests(threats);
}

/// For a list whose items end with `Tests: ` and the names of tests.
fn assert_items_name_existing_tests(list: &str) {
    let sources = sources(&root().join("tests")) + &sources(&root().join("src"));
    let items: Vec<&str> = list.split("\n- **").skip(1).collect();
    assert!(items.len() > 10, "the list is found");
    for item in items {
        let item = item.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, tests) = item.split_once(" Tests: ").unwrap_or_else(|| panic!("no tests: {item}"));
        let (tests, _) = tests.split_once('.').expect("a full stop after the tests");
        for name in tests.split('`').skip(1).step_by(2) {
            assert!(sources.contains(&format!("fn {name}(")), "there is no test `{name}`: {item}");
        }
    }
}

#[test]
fn tests_named_in_documents_exist() {
    let sources = sources(&root().join("tests")) + &sources(&root().join("src"));
    for (path, text) in documents() {
        let words = prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2));
        for name in words.filter(|word| looks_like_test_name(word)) {
            assert!(sources.contains(&format!("fn {name}(")), "{}: no test `{name}`", path.display());
        }
    }
}

fn looks_like_test_name(word: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    word.chars().all(is_plain) && !word.starts_with("billhook_") && word.matches('_').count() >= 4
}

#[test]
fn documents_list_every_code_and_outcome() {
    let contract: Value = serde_json::from_str(CONTRACT).expect("the contract is JSON");
    let codes = contract["components"]["schemas"]["Code"]["enum"].as_array().expect("the codes");
    for code in codes {
        assert!(API.contains(&format!("\n| `{}` |", code.as_str().expect("a word"))), "{code}");
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
fn documents_list_every_log_event_and_reason() {
    let sources = sources(&root().join("src"));
    let effects = sources.split(".with_reason(\"").skip(1).filter_map(|rest| rest.split('"').next());
    // The names and values are the only strings in these blocks.
    let blocks = [
        "\nimpl EntryKind {",
        "\nimpl StaleReason {",
        "\nimpl RefreshReason {",
        "\nimpl RejectionReason {",
        "\npub mod cause {",
        "\nmod note {",
    ];
    let strings = blocks.iter().flat_map(|start| {
        let (_, block) = sources.split_once(start).unwrap_or_else(|| panic!("no block {start:?}"));
        let (block, _) = block.split_once("\n}\n").expect("the block ends");
        block.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(quoted)
    });
    let words: Vec<&str> = effects.chain(strings).collect();
    assert!(words.len() > 50, "they are found: {words:?}");
    for word in words {
        assert!(LOGS.contains(&format!("`{word}`")), "{word}");
    }
}

/// The string literals in a line without escaped quotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// Longer ones are not read.
#[test]
fn readme_has_at_most_150_lines() {
    assert!(README.lines().count() <= 150);
}

#[test]
fn every_relative_link_resolves() {
    let documents = documents();
    assert!(documents.len() > 10, "the documents are found");
    for (path, text) in &documents {
        for link in links(text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { resolve(path, file) };
            assert!(root().join(&target).exists(), "{}: there is no {link}", path.display());
            if !anchor.is_empty() {
                let text = documents.get(&target).expect("only documents have anchors");
                assert!(anchors(text).contains(&anchor.to_owned()), "{}: there is no {link}", path.display());
            }
        }
    }
}

#[test]
fn anchors_are_those_of_github() {
    let text = "# One: `two`, three\n```sh\n# no heading\n```\n## A\n## A\n### What's *that*?\n";
    assert_eq!(anchors(text), ["one-two-three", "a", "a-1", "whats-that"]);
}

/// The targets of a document's relative links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = prose(text).flat_map(|line| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains("://"))
}

/// The anchors of the document's headings.
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

/// The lines outside code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        is_code ^= line.starts_with("```");
        !is_code
    })
}

/// The link's target, relative to the repository's root.
fn resolve(document: &Path, link: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in document.with_file_name(link).components() {
        if part == Component::ParentDir { _ = path.pop() } else { path.push(part) }
    }
    path
}

/// All Markdown files outside generated directories, by their path from the root.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut documents = BTreeMap::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root().join(&dir)).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            let path = dir.join(&name);
            let is_hidden = name.to_string_lossy().starts_with('.');
            let is_generated = ["node_modules", "target", "dist"].iter().any(|generated| name == *generated);
            if root().join(&path).is_dir() && !is_hidden && !is_generated {
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

/// The text of all Rust files in a directory.
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
