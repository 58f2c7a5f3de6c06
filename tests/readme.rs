//! The README's promises are held by tests that exist.

use std::fs;
use std::path::Path;

const README: &str = include_str!("../README.md");

#[test]
fn every_promise_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("tests")) + &sources(&root.join("src"));
    let (_, section) = README.split_once("## Reliability").expect("a section on reliability");
    let (section, _) = section.split_once("\n## ").expect("a section after it");
    let promises: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(promises.len() > 10, "the table is found");
    for promise in promises {
        let (_, tests) = promise.trim_end_matches(" |").rsplit_once(" | ").expect("two columns");
        for test in tests.split(", ") {
            let name = test.trim_matches('`');
            assert!(sources.contains(&format!("fn {name}(")), "there is no test `{name}`: {promise}");
        }
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
