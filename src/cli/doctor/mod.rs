//! `billhook doctor`: everything that has to be right before money can move, one line each, with the sentence that mends
//! what is not.
//!
//! `here` is what can be looked at without asking Stripe, `stripe` what is asked there, and `report` the lines.

mod here;
mod report;
mod stripe;

use clap::Args;

use super::serve::ServeArgs;
use super::{CommandError, say};
use report::Report;

/// What the words mean, for the help.
pub(super) const HEALTH: &str = "\
Each line has a health: green is as it should be, yellow works and needs a look, red refuses to work, skipped was not
checked. The last line counts them.
Exit codes: 0 nothing is red, 1 something is.";

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Where Stripe posts events: the service's public address, or the whole URL of the endpoint. Without it any endpoint
    /// whose URL ends in our route is taken for ours
    #[arg(long, env = "BILLHOOK_WEBHOOK_URL")]
    webhook_url: Option<String>,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: ServeArgs,
}

pub(super) async fn run(args: &DoctorArgs) -> Result<(), CommandError> {
    let mut report = Report::default();
    let setup = here::configuration(args, &mut report);
    let store = here::database(&setup, &mut report).await;
    stripe::account(&setup, store.as_ref(), &mut report).await;
    here::certificate(&setup, &mut report);
    here::log_directory(&setup, &mut report);
    here::collector(&mut report).await;
    say(&if args.json { report.as_json() } else { report.as_lines() })?;
    report.conclude()
}
