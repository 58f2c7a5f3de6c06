//! The corpus of each fuzz target, unchanged and randomly mutated.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::properties::TARGETS;

/// Several times the length of the corpus' inputs.
const MAX_MUTATED_BYTES: usize = 8192;

/// Defines a module of tests for each target, with the given number of mutated inputs, so that
/// targets run in parallel.
macro_rules! targets {
    ($($target:ident: $cases:expr),* $(,)?) => {
        const TESTED: &[&str] = &[$(stringify!($target)),*];

        $(mod $target {
            use super::*;

            #[test]
            fn property_holds_for_corpus() {
                assert_holds_for_corpus(stringify!($target));
            }

            proptest! {
                #![proptest_config(ProptestConfig { cases: $cases, failure_persistence: None, ..ProptestConfig::default() })]

                #[test]
                fn property_holds_for_mutated_corpus(input in mutated(corpus(stringify!($target)))) {
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
fn every_target_has_tests_a_corpus_and_a_program() {
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

fn assert_holds_for_corpus(target: &str) {
    let property = property(target);
    for path in files(&fuzz().join("corpus").join(target)) {
        let input = fs::read(&path).expect("a file");
        assert!(catch_unwind(|| property(&input)).is_ok(), "{} does not hold for {}", target, path.display());
    }
}

/// A fuzzer's mutations, without its feedback from code coverage.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// Position, other input, position there: replaces the rest with the rest of the other input.
    Splice(Index, Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bytes = || prop_oneof![any::<u8>(), select(&br#"{}[]:,;="\/.%@# t01v-_"#[..])];
    prop_oneof![
        (any::<Index>(), bytes()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), vec(bytes(), 1..16)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<Index>(), 1_usize..16).prop_map(|(at, length)| Mutation::Remove(at, length)),
        any::<(Index, Index, Index)>().prop_map(|(at, other, from)| Mutation::Splice(at, other, from)),
    ]
}

/// A mutated input, or sometimes random bytes.
fn mutated(inputs: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let mutated = (any::<Index>(), vec(mutation(), 0..6)).prop_map(move |(index, mutations)| {
        let mut input = index.get(&inputs).clone();
        for mutation in &mutations {
            mutation.apply(&mut input, &inputs);
        }
        input.truncate(MAX_MUTATED_BYTES);
        input
    });
    prop_oneof![9 => mutated, 1 => vec(any::<u8>(), 0..256)]
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let position = |at: &Index, length: usize| at.index(length + 1);
        match self {
            Self::Replace(at, byte) => {
                let at = position(at, input.len());
                input.splice(at..(at + 1).min(input.len()), [*byte]);
            }
            Self::Insert(at, bytes) => {
                let at = position(at, input.len());
                input.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(at, length) => {
                let at = position(at, input.len());
                input.drain(at..(at + length).min(input.len()));
            }
            Self::Splice(at, other, from) => {
                let other = other.get(inputs);
                input.truncate(position(at, input.len()));
                input.extend_from_slice(&other[position(from, other.len())..]);
            }
        }
    }
}
