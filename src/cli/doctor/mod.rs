//! `billhook doctor`: checks everything that must be right before money can move, and prints how to
//! fix each problem.
//!
//! `local` has the checks that do not call Stripe, `stripe` those that do, and `report` the output.

mod local;
mod report;
mod stripe;

use clap::Args;

use super::serve::ServeArgs;
use super::{CommandError, print, print_json};
use report::Report;

pub(super) const AFTER_HELP: &str = "\
Each check has a health: green is good, yellow works but needs attention, red
does not work, and skipped was not checked. The last line counts them.
Exit codes: 0 if no check is red, else 1.";

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// The URL that Stripe posts events to: the service's public address, or the whole URL of the
    /// endpoint. Without it, every endpoint with a URL that ends in our path is taken for ours
    #[arg(long, env = "BILLHOOK_WEBHOOK_URL")]
    webhook_url: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: ServeArgs,
}

pub(super) async fn run(args: &DoctorArgs) -> Result<(), CommandError> {
    let mut report = Report::default();
    let setup = local::configuration(args, &mut report);
    let store = local::database(&setup, &mut report).await;
    stripe::run_checks(&setup, store.as_ref(), &mut report).await;
    local::certificate(&setup, &mut report);
    local::log_directory(&setup, &mut report);
    local::collector(&mut report).await;
    if args.json { print_json(&report.as_json()) } else { print(&report.as_text()) }?;
    report.conclude()
}
