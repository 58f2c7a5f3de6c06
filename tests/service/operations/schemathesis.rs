//! Checks the service against its OpenAPI document with schemathesis
//! (<https://schemathesis.readthedocs.io>), a fuzzer that reads `/openapi.json`, sends valid
//! requests and requests with one error each, and validates every response. Its configuration and
//! hooks are in `tests/schemathesis/`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tokio::sync::Mutex;

use crate::support::app::{PLANS, TestApp, WEBHOOK_SECRET, peer_dir};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(service_conforms_to_openapi_document);

/// The number of requests for each operation and for each link between operations, in addition to
/// the document's examples.
const EXAMPLES: u32 = 10;

/// With `BILLHOOK_SOAK=1`.
const SOAK_EXAMPLES: u32 = 1000;

/// The highest allowed rate limit, since a throttled request tests nothing.
const RATE_LIMIT: (&str, &str) = ("BILLHOOK_THROTTLE_PER_MINUTE", "6000");

/// One fuzzer runs at a time, since it and the service keep a core busy for a minute.
static FUZZER_LOCK: Mutex<()> = Mutex::const_new(());

async fn service_conforms_to_openapi_document(database: Database) {
    let _lock = FUZZER_LOCK.lock().await;
    let app = TestApp::start_process(database, &[RATE_LIMIT]).await;
    // Longer than a soak run.
    let exp = app.clock_seconds() + 86_400;
    let user = app.token_with(&json!({ "tenant": "acme", "exp": exp }));
    let service = app.token_with(&json!({ "scope": "billing:service", "exp": exp }));
    let tokens = Tokens { user, service };
    assert_finds_no_failure(&app, tokens, &[]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_without_token_conforms_to_openapi_document() {
    let _lock = FUZZER_LOCK.lock().await;
    let app = TestApp::start_process(Database::Sqlite, &[RATE_LIMIT]).await;
    let tokens = Tokens { user: String::new(), service: String::new() };
    // Tokens are missing on purpose.
    assert_finds_no_failure(&app, tokens, &["--phases=coverage,fuzzing", "--warnings=off"]).await;
    app.stop().await;
}

struct Tokens {
    user: String,
    service: String,
}

async fn assert_finds_no_failure(app: &TestApp, tokens: Tokens, options: &[&str]) {
    let mut command = schemathesis(app.dir());
    command.args(["run", &format!("{}/openapi.json", app.url), "--no-color", "--continue-on-failure"]);
    command.args(fuzzing_options()).args(options);
    command.env("USER_TOKEN", tokens.user).env("SERVICE_TOKEN", tokens.service);
    command.env("WEBHOOK_SECRET", WEBHOOK_SECRET).env("PLANS", PLANS);
    let run = tokio::task::spawn_blocking(move || command.output().expect("python3 runs"));
    let Output { status, stdout, stderr } = run.await.expect("the fuzzer's task ends");
    let (report, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{report}\n{errors}\n{}", app.stderr());
    eprintln!("{report}");
}

fn schemathesis(dir: &Path) -> Command {
    let configuration = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    let mut command = Command::new("python3");
    command.args(["-m", "schemathesis.cli", "--config-file"]).arg(configuration.join("schemathesis.toml"));
    command.env("PYTHONPATH", peer_dir()).env("SCHEMATHESIS_HOOKS", configuration.join("hooks.py"));
    // It stores results in its working directory. Runs must not depend on each other.
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(dir);
    command
}

/// The number of examples and the seed. The seed is fixed, except in a soak run.
fn fuzzing_options() -> [String; 2] {
    let is_soak = env::var("BILLHOOK_SOAK").is_ok_and(|soak| soak == "1");
    let (new_seed, _, _, _) = uuid::Uuid::new_v4().as_fields();
    let (examples, seed) = if is_soak { (SOAK_EXAMPLES, new_seed) } else { (EXAMPLES, 1) };
    let seed = env::var("BILLHOOK_SCHEMATHESIS_SEED").unwrap_or_else(|_| seed.to_string());
    // Printed now, in case the fuzzer does not finish.
    eprintln!("with BILLHOOK_SCHEMATHESIS_SEED={seed}");
    [format!("--max-examples={examples}"), format!("--seed={seed}")]
}
