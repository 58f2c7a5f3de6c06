//! The service held to its contract by somebody else's fuzzer, schemathesis (<https://schemathesis.readthedocs.io>). It
//! reads `/openapi.json`, makes requests that are right and requests that are wrong in one way each, and holds every
//! answer to what the document says of it. What it is told beyond the document stands in `tests/schemathesis/`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tokio::sync::Mutex;

use crate::support::app::{PLANS, TestApp, WEBHOOK_SECRET, peers};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(the_service_is_what_its_contract_says);

/// For each operation, and for following one from another. What the document itself suggests is tried beside these.
const EXAMPLES: u32 = 10;

/// With `BILLHOOK_SOAK=1`.
const SOAK_EXAMPLES: u32 = 1000;

/// The most that may be configured: a throttled request tests nothing.
const THROTTLE: (&str, &str) = ("BILLHOOK_THROTTLE_PER_MINUTE", "6000");

/// A fuzzer and the service that it asks keep a core busy for a minute: one at a time leaves the
/// other tests their share.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn the_service_is_what_its_contract_says(database: Database) {
    let _turn = ONE_AT_A_TIME.lock().await;
    let app = TestApp::start_process(database, &[THROTTLE]).await;
    // For longer than a long run takes.
    let exp = app.clock_seconds() + 86_400;
    let user = app.token_with(&json!({ "tenant": "acme", "exp": exp }));
    let service = app.token_with(&json!({ "scope": "billing:service", "exp": exp }));
    let tokens = Tokens { user, service };
    assert_finds_nothing(&app, tokens, &[]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_every_answer_is_as_documented_too() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let app = TestApp::start_process(Database::Sqlite, &[THROTTLE]).await;
    let tokens = Tokens { user: String::new(), service: String::new() };
    // That a token is missing is the point, and needs no warning.
    assert_finds_nothing(&app, tokens, &["--phases=coverage,fuzzing", "--warnings=off"]).await;
    app.stop().await;
}

struct Tokens {
    user: String,
    service: String,
}

async fn assert_finds_nothing(app: &TestApp, tokens: Tokens, options: &[&str]) {
    let mut command = schemathesis(app.dir());
    command.args(["run", &format!("{}/openapi.json", app.url), "--no-color", "--continue-on-failure"]);
    command.args(extent()).args(options);
    command.env("USER_TOKEN", tokens.user).env("SERVICE_TOKEN", tokens.service);
    command.env("WEBHOOK_SECRET", WEBHOOK_SECRET).env("PLANS", PLANS);
    let run = tokio::task::spawn_blocking(move || command.output().expect("python3 runs"));
    let Output { status, stdout, stderr } = run.await.expect("it is waited for");
    let (found, trouble) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{found}\n{trouble}\n{}", app.stderr());
    eprintln!("{found}");
}

fn schemathesis(dir: &Path) -> Command {
    let told = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    let mut command = Command::new("python3");
    command.args(["-m", "schemathesis.cli", "--config-file"]).arg(told.join("schemathesis.toml"));
    command.env("PYTHONPATH", peers()).env("SCHEMATHESIS_HOOKS", told.join("hooks.py"));
    // It keeps what it has learned in its directory, and a run is to depend on no other.
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(dir);
    command
}

/// How much is tried. An ordinary run tries the same each time, a long one something new.
fn extent() -> [String; 2] {
    let is_soak = env::var("BILLHOOK_SOAK").is_ok_and(|soak| soak == "1");
    let (new_seed, _, _, _) = uuid::Uuid::new_v4().as_fields();
    let (examples, seed) = if is_soak { (SOAK_EXAMPLES, new_seed) } else { (EXAMPLES, 1) };
    let seed = env::var("BILLHOOK_SCHEMATHESIS_SEED").unwrap_or_else(|_| seed.to_string());
    // Printed at once, for a run that fails before the fuzzer ends.
    eprintln!("with BILLHOOK_SCHEMATHESIS_SEED={seed}");
    [format!("--max-examples={examples}"), format!("--seed={seed}")]
}
