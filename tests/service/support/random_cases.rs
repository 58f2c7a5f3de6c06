//! Random test cases from reproducible seeds. A failing case is shrunk to the smallest one that
//! still fails.

use std::env;
use std::fmt::Debug;
use std::time::Duration;

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The time for shrinking. A case takes seconds on a busy machine, and a runner may end the test
/// after three minutes.
const SHRINK_TIMEOUT: Duration = Duration::from_secs(45);

/// How many cases run.
pub struct Cases {
    /// The environment variable with the one seed to run.
    pub seed_variable: &'static str,
    /// Without `BILLHOOK_SOAK=1`.
    pub default_count: u64,
    /// With `BILLHOOK_SOAK=1`.
    pub soak_count: u64,
}

/// Runs random cases one after the other. The first failure fails the test, with its seed, the
/// smallest failing case found and that case's error.
pub async fn run_cases<T: Debug>(
    cases: Cases,
    strategy: BoxedStrategy<T>,
    mut run: impl AsyncFnMut(&T) -> Result<(), String>,
) {
    for seed in cases.seeds() {
        let case = strategy.new_tree(&mut runner(seed)).expect("a case");
        let Err(error) = run(&case.current()).await else { continue };
        let seed = format!("{}={seed}", cases.seed_variable);
        // Printed now, in case shrinking is interrupted.
        eprintln!("{seed} fails, shrinking: {error}");
        let (case, error) = shrink(case, error, &mut run).await;
        panic!("{seed} fails: {case:#?}\n{error}");
    }
}

impl Cases {
    /// The given seed, or else random ones.
    fn seeds(&self) -> Vec<u64> {
        if let Ok(seed) = env::var(self.seed_variable) {
            return vec![seed.parse().unwrap_or_else(|_| panic!("{} is a number", self.seed_variable))];
        }
        let is_soak = env::var("BILLHOOK_SOAK").is_ok_and(|soak| soak == "1");
        let cases = if is_soak { self.soak_count } else { self.default_count };
        let (first, _) = uuid::Uuid::new_v4().as_u64_pair();
        // Printed now, in case a case hangs.
        eprintln!("seeds: {first} and the {} after it", cases - 1);
        (0..cases).map(|case| first.wrapping_add(case)).collect()
    }
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng)
}

/// The smallest failing case found in time, and its error.
async fn shrink<T>(
    mut case: impl ValueTree<Value = T>,
    error: String,
    run: &mut impl AsyncFnMut(&T) -> Result<(), String>,
) -> (T, String) {
    let mut smallest = (case.current(), error);
    let shrinking = async {
        let mut has_another = case.simplify();
        while has_another {
            has_another = match run(&case.current()).await {
                Err(error) => {
                    smallest = (case.current(), error);
                    case.simplify()
                }
                Ok(()) => case.complicate(),
            };
        }
    };
    if tokio::time::timeout(SHRINK_TIMEOUT, shrinking).await.is_err() {
        smallest.1.push_str("\nShrinking timed out, a smaller case may exist.");
    }
    smallest
}
