//! A test that never ends is a failure with a name, without a runner that cuts it off.

use std::env;
use std::future::pending;
use std::process::Command;

use crate::support::app::TestApp;
use crate::support::database::Database;
use crate::support::test_slot::TIMEOUT_VARIABLE;

#[tokio::test]
#[ignore = "it hangs: the test below runs it in a process of its own"]
async fn a_test_that_hangs() {
    let _app = TestApp::start(Database::Sqlite).await;
    pending::<()>().await;
}

#[test]
fn hanging_test_ends_its_process_with_a_failure_and_its_name() {
    let output = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "support::hangs::a_test_that_hangs", "--ignored", "--test-threads=2"])
        .env(TIMEOUT_VARIABLE, "1")
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{stderr}");
    assert!(stderr.contains("FAILED: test support::hangs::a_test_that_hangs hangs"), "{stderr}");
}
