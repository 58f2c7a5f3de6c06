//! The corpus of each fuzz target, as it is and as chance changes it.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::properties::TARGETS;

/// The longest input that chance makes: some times as long as what the corpus has.
const LENGTH: usize = 8192;

/// Makes the tests of each target, with that many inputs of chance, so that they run side by side and each has a name.
macro_rules! targets {
    ($($target:ident: $cases:expr),* $(,)?) => {
        const TESTED: &[&str] = &[$(stringify!($target)),*];

        $(mod $target {
            use super::*;

            #[test]
            fn holds_of_all_that_was_found() {
                holds_of_corpus(stringify!($target));
            }

            proptest! {
                #![proptest_config(ProptestConfig { cases: $cases, failure_persistence: None, ..ProptestConfig::default() })]

                #[test]
                fn holds_of_what_chance_makes_of_it(input in changed(corpus(stringify!($target)))) {
                    property(stringify!($target))(&input);
                }
            }
        })*
    };
}

targets!(
    app_url: 512,
    event: 512,
    event_large: 32,
    event_tree: 512,
    origin: 512,
    plans: 512,
    return_path: 512,
    signature: 512,
    signature_header: 512,
    token: 512,
    token_claims: 512,
    token_keys: 512,
    webhook_secrets: 512,
);

#[test]
fn every_target_has_its_tests_a_corpus_and_a_program() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(TESTED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), known);
    let names = |dir: &str| -> BTreeSet<String> {
        let files = files(&fuzz().join(dir)).into_iter();
        files.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("corpus"), known);
    assert_eq!(names("fuzz_targets"), known);
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn property(target: &str) -> fn(&[u8]) {
    let (_, property) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    *property
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = files(&fuzz().join("corpus").join(target));
    files.iter().map(|path| fs::read(path).expect("a file")).collect()
}

fn holds_of_corpus(target: &str) {
    let property = property(target);
    for path in files(&fuzz().join("corpus").join(target)) {
        let input = fs::read(&path).expect("a file");
        assert!(catch_unwind(|| property(&input)).is_ok(), "{} does not hold of {}", target, path.display());
    }
}

/// What a fuzzer does to an input, without its eyes for which of it leads somewhere.
#[derive(Debug, Clone)]
enum Change {
    Put(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, usize),
    /// Goes on as another input does from there.
    Follow(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let bytes = || prop_oneof![any::<u8>(), select(&br#"{}[]:,;="\/.%@# t01v-_"#[..])];
    prop_oneof![
        (any::<Index>(), bytes()).prop_map(|(at, byte)| Change::Put(at, byte)),
        (any::<Index>(), vec(bytes(), 1..16)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), 1_usize..16).prop_map(|(at, length)| Change::Cut(at, length)),
        any::<(Index, Index, Index)>().prop_map(|(at, other, from)| Change::Follow(at, other, from)),
    ]
}

/// One of these inputs, changed here and there, or bytes out of nowhere.
fn changed(inputs: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let one = (any::<Index>(), vec(change(), 0..6)).prop_map(move |(index, changes)| {
        let mut input = index.get(&inputs).clone();
        for change in &changes {
            change.apply(&mut input, &inputs);
        }
        input.truncate(LENGTH);
        input
    });
    prop_oneof![9 => one, 1 => vec(any::<u8>(), 0..256)]
}

impl Change {
    fn apply(&self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let place = |at: &Index, length: usize| at.index(length + 1);
        match self {
            Self::Put(at, byte) => {
                let at = place(at, input.len());
                input.splice(at..(at + 1).min(input.len()), [*byte]);
            }
            Self::Insert(at, bytes) => {
                let at = place(at, input.len());
                input.splice(at..at, bytes.iter().copied());
            }
            Self::Cut(at, length) => {
                let at = place(at, input.len());
                input.drain(at..(at + length).min(input.len()));
            }
            Self::Follow(at, other, from) => {
                let other = other.get(inputs);
                input.truncate(place(at, input.len()));
                input.extend_from_slice(&other[place(from, other.len())..]);
            }
        }
    }
}
