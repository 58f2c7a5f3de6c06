//! The `billhook` command.

use std::process::ExitCode;
use std::time::Duration;

use billhook::cli::{self, Cli};
use clap::Parser;
use tokio::runtime::Runtime;

/// How long the process waits for abandoned reads and writes. On a mount that hangs they never end.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = Cli::parse();
    let runtime = Runtime::new().expect("could not start the runtime's threads");
    let code = runtime.block_on(cli::run(arguments));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    code
}
