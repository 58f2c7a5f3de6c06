//! The log line at start, and warnings about the environment.

use crate::support::app::{PLANS, TestApp, eventually};
use crate::support::database::{Database, on_both_databases};

on_both_databases!(start_logs_version_database_mode_and_plans);

async fn start_logs_version_database_mode_and_plans(database: Database) {
    let unknown = ("BILLHOOK_PLAN", PLANS);
    let app = TestApp::start_process(database, &[unknown]).await;
    let stderr = eventually("the start is logged", || async {
        let stderr = app.stderr();
        stderr.contains("starting").then_some(stderr)
    })
    .await;
    let line = stderr.lines().find(|line| line.contains("starting")).expect("a line");
    let scheme = match database {
        Database::Sqlite => "database=\"sqlite://",
        Database::Postgres => "database=\"postgres://",
    };
    for fact in
        [concat!("version=\"", env!("CARGO_PKG_VERSION")), scheme, "mode=\"test\"", "plans=\"pro, team\""]
    {
        assert!(line.contains(fact), "{fact}: {line}");
    }
    assert!(!line.contains('@') && !line.contains("canary"), "{line}");
    let warning = stderr.lines().find(|line| line.contains("BILLHOOK_PLAN\""));
    assert!(warning.is_some_and(|line| line.contains("WARN")), "{stderr}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_warns_of_unknown_variable_and_missing_plans() {
    let app = TestApp::start(Database::Sqlite).await;
    let stderr = |overrides: &[(&str, &str)]| {
        let output = app.run_command_with(&["tenant", "list", "--json"], overrides);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "[]\n");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(stderr(&[]), "");
    let without_plans = stderr(&[("BILLHOOK_PLANS", "")]);
    assert!(without_plans.contains("BILLHOOK_PLANS is not set"), "{without_plans}");
    let misspelt = stderr(&[("BILLHOOK_PLAN", "canary")]);
    assert!(misspelt.contains("BILLHOOK_PLAN is set") && !misspelt.contains("canary"), "{misspelt}");
    app.stop().await;
}
