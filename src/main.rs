//! The `billhook` command.

use std::process::ExitCode;
use std::time::Duration;

use billhook::cli::{self, Cli};
use clap::Parser;
use tokio::runtime::Runtime;

/// How long a read or write that nobody waits for any more may take to end: on a mount that hangs it never does.
const LINGER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = Cli::parse();
    let runtime = Runtime::new().expect("the system gives threads");
    let code = runtime.block_on(cli::run(arguments));
    runtime.shutdown_timeout(LINGER);
    code
}
