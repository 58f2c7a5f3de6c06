//! Random tales: made from seeds that can be given again, and when one goes wrong, the smallest that still does.

use std::env;
use std::fmt::Debug;
use std::time::Duration;

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// For how long smaller tales are tried. A tale on a loaded machine takes seconds, and a story that is cut off after three
/// minutes must have told what it found by then.
const SHRINKING: Duration = Duration::from_secs(45);

/// How many tales are told.
pub struct Cases {
    /// The variable that gives the one seed to try.
    pub seed_variable: &'static str,
    /// In an ordinary run.
    pub ordinary: u64,
    /// With `BILLHOOK_SOAK=1`.
    pub soak: u64,
}

/// Tells random tales one after the other. The first that goes wrong fails the story, with its seed, the smallest tale that
/// was found to go wrong, and how it does.
pub async fn tell_all<T: Debug>(
    cases: Cases,
    tales: BoxedStrategy<T>,
    mut tell: impl AsyncFnMut(&T) -> Result<(), String>,
) {
    for seed in cases.seeds() {
        let tale = tales.new_tree(&mut runner(seed)).expect("a tale");
        let Err(difference) = tell(&tale.current()).await else { continue };
        let given = format!("{}={seed}", cases.seed_variable);
        // Told at once: what comes now may take so long that it is cut off, or meet with something else.
        eprintln!("with {given} this goes wrong, and smaller tales are tried: {difference}");
        let (tale, difference) = smallest(tale, difference, &mut tell).await;
        panic!("with {given} this goes wrong: {tale:#?}\n{difference}");
    }
}

impl Cases {
    /// One seed if it is given, else new ones.
    fn seeds(&self) -> Vec<u64> {
        if let Ok(seed) = env::var(self.seed_variable) {
            return vec![seed.parse().unwrap_or_else(|_| panic!("{} is a number", self.seed_variable))];
        }
        let is_soak = env::var("BILLHOOK_SOAK").is_ok_and(|soak| soak == "1");
        let cases = if is_soak { self.soak } else { self.ordinary };
        let (first, _) = uuid::Uuid::new_v4().as_u64_pair();
        // Told at once: a tale that never ends is cut off, and could not say it afterwards.
        eprintln!("the seeds are {first} and the {} after it", cases - 1);
        (0..cases).map(|case| first.wrapping_add(case)).collect()
    }
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng)
}

/// The smallest tale that is found to go wrong in the time there is, and how it does.
async fn smallest<T>(
    mut tale: impl ValueTree<Value = T>,
    difference: String,
    tell: &mut impl AsyncFnMut(&T) -> Result<(), String>,
) -> (T, String) {
    let mut found = (tale.current(), difference);
    let shrinking = async {
        let mut is_another = tale.simplify();
        while is_another {
            is_another = match tell(&tale.current()).await {
                Err(difference) => {
                    found = (tale.current(), difference);
                    tale.simplify()
                }
                Ok(()) => tale.complicate(),
            };
        }
    };
    if tokio::time::timeout(SHRINKING, shrinking).await.is_err() {
        found.1.push_str("\nThere was no time to look for a smaller one.");
    }
    found
}
