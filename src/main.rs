//! The `billhook` command.

use std::process::ExitCode;

use billhook::commands::{self, Cli};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    commands::run(Cli::parse()).await
}
