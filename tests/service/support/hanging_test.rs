//! A test that hangs fails with its name.

use std::env;
use std::future::pending;
use std::process::Command;

use crate::support::app::TestApp;
use crate::support::database::Database;
use crate::support::test_slot::TIMEOUT_VARIABLE;

#[tokio::test]
#[ignore = "it hangs: the test below runs it in its own process"]
async fn hanging_test() {
    let _app = TestApp::start(Database::Sqlite).await;
    pending::<()>().await;
}

#[test]
fn hanging_test_fails_its_process_and_is_named() {
    let output = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "support::hanging_test::hanging_test", "--ignored", "--test-threads=2"])
        .env(TIMEOUT_VARIABLE, "1")
        .output()
        .expect("this program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{stderr}");
    assert!(stderr.contains("FAILED: test support::hanging_test::hanging_test hangs"), "{stderr}");
}
