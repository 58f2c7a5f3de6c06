//! The output of a command.

use std::process::Output;

use serde_json::Value;

use crate::support::app::TestApp;

/// Exit code, stdout and stderr.
pub fn read_output(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a command with `--json`, which must succeed.
pub fn json_output(app: &TestApp, words: &[&str]) -> Value {
    let (code, out, err) = read_output(&app.run_command(&[words, &["--json"]].concat()));
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).expect("output is JSON")
}

/// The rows of a table, each on one line. A row starts at the left margin and continues on indented
/// lines.
pub fn table_rows(table: &str) -> Vec<String> {
    table.replace("\n  ", "  ").lines().map(str::to_owned).collect()
}

/// Joins the wrapped lines of a message. Continuation lines are indented.
pub fn unwrap_lines(text: &str) -> String {
    text.replace("\n  ", " ")
}
