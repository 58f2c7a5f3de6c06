//! The command line: one file for each subcommand, and the folder `serve` for the service.
//!
//! Start reading at [`run`]. This file has what commands share: opening the database, the Stripe
//! client, exit codes and output. [`crate::billing`] decides what a command does with billing, and
//! [`crate::config`] reads its configuration.

mod configured_files;
mod deployment;
mod doctor;
mod event;
mod migrate;
mod prune;
mod reconcile;
pub mod serve;
mod table;
mod tenant;
mod text;
mod timeline_entry;
mod token;
mod unknown_variables;
mod webhook;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::billing::{Billing, CatchUp, EraseError, Streams, known_account};
use crate::clock::SystemClock;
use crate::config::{ConfigError, DatabaseArgs, LogDirArgs, StripeApiConfig};
use crate::domain::batch::{LinkRefusal, OwnAccount, Policy};
use crate::domain::ids::{AccountId, DeploymentId};
use crate::domain::mode::Mode;
use crate::domain::plan::Catalog;
use crate::http;
use crate::ingest::Reporter;
use crate::store::{AccountConflict, CopyError, DeploymentConflict, ModeConflict, Store, StoreError};
use crate::stripe::{Stripe, StripeError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::topics::TopicLogs;
use crate::telemetry::{self, InitError};

/// Stripe billing for multi-tenant SaaS: checkout, customer portal, webhooks, entitlements
#[derive(Parser)]
#[command(
    name = "billhook",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Migrate the database and run the service
    #[command(after_help = serve::AFTER_HELP)]
    Serve(Box<serve::ServeArgs>),
    /// Migrate the database and exit; with --from, copy a SQLite database into it
    #[command(after_help = migrate::AFTER_HELP)]
    Migrate(migrate::MigrateArgs),
    /// Print the OpenAPI document
    Openapi,
    /// Check the whole setup, here and at Stripe, and print how to fix each problem
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(Box<doctor::DoctorArgs>),
    /// Create the webhook endpoint at Stripe, or rotate its secret
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Compare the subscriptions of all linked customers with Stripe, and print the differences
    Reconcile(reconcile::ReconcileArgs),
    /// Delete the payloads of old events, as the service does once an hour
    Prune(prune::PruneArgs),
    /// List and show webhook events, replay them, or retry dead ones
    #[command(subcommand, alias = "events")]
    Event(event::EventCommand),
    /// List and show tenants, link them to Stripe customers, unlink or erase them
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Show or change which deployment the database belongs to
    #[command(subcommand)]
    Deployment(deployment::DeploymentCommand),
    /// Sign a token with the configured secret, for development
    Token(Box<token::TokenCommandArgs>),
}

/// Why a command failed: one sentence for people, and an exit code for scripts.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Mode(#[from] ModeConflict),
    #[error(transparent)]
    Account(#[from] AccountConflict),
    #[error(transparent)]
    Deployment(#[from] DeploymentConflict),
    #[error(transparent)]
    Telemetry(#[from] InitError),
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
    #[error("not linked: {0}")]
    Link(#[from] LinkRefusal),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("not erased: {0}")]
    Erase(#[from] EraseError),
    #[error(transparent)]
    Stripe(#[from] StripeError),
    #[error("{0}")]
    Failed(String),
    #[error("could not write the output: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    fn exit_code(&self) -> ExitCode {
        let is_configuration = matches!(
            self,
            Self::Config(_) | Self::Mode(_) | Self::Account(_) | Self::Deployment(_) | Self::Telemetry(_)
        );
        ExitCode::from(if is_configuration { 2 } else { 1 })
    }
}

pub async fn run(cli: Cli) -> ExitCode {
    // `serve` logs them, and `doctor` reports them.
    if !matches!(cli.command, Command::Serve(_) | Command::Doctor(_)) {
        for name in unknown_variables::find() {
            warn(format_args!("{name} is set, but no command reads it: check its spelling"));
        }
    }
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args).await,
        Command::Migrate(args) => migrate::run(&args).await,
        Command::Openapi => print(http::openapi_document()),
        Command::Doctor(args) => doctor::run(&args).await,
        Command::Webhook(command) => webhook::run(&command).await,
        Command::Reconcile(args) => reconcile::run(&args).await,
        Command::Prune(args) => prune::run(&args).await,
        Command::Event(command) => event::run(&command).await,
        Command::Tenant(command) => tenant::run(&command).await,
        Command::Deployment(command) => deployment::run(&command).await,
        Command::Token(args) => token::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has enough, as in `billhook tenant list | head`.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::report_failure(&error);
            error.exit_code()
        }
    }
}

/// Opens a database that exists and is migrated. A mistyped path must not create a new database.
async fn open_store(database: &DatabaseArgs) -> Result<Store, CommandError> {
    let store = Store::connect_existing(&database.read()?).await?;
    if store.is_migrated().await? {
        store.check_copy().await?;
        Ok(store)
    } else {
        Err(CommandError::Failed("DATABASE_URL: the database is not migrated: run `billhook migrate`".into()))
    }
}

/// The mode that events must have: the key's, which is then stored in the database, else the stored
/// one.
async fn resolve_mode(store: &Store, key: Option<Mode>) -> Result<Option<Mode>, CommandError> {
    let Some(key) = key else { return Ok(store.mode().await?) };
    store.bind_mode(key).await??;
    Ok(Some(key))
}

/// The account that events must belong to: that of `STRIPE_ACCOUNT`, which is then stored in the
/// database, else the stored one.
async fn resolve_account(store: &Store, asserted: Option<AccountId>) -> Result<OwnAccount, CommandError> {
    let account = OwnAccount::default();
    if let Some(known) = known_account(store, asserted).await?? {
        account.learn(known);
    }
    Ok(account)
}

/// The deployment that the database belongs to: the configured one, which is then stored in the
/// database, else the stored one.
async fn resolve_deployment(
    store: &Store,
    asserted: Option<&DeploymentId>,
) -> Result<DeploymentId, CommandError> {
    Ok(store.bind_deployment(asserted).await??)
}

/// The policy of a command that applies no event. It needs no plans, and stores no deployment: the
/// service's first start does.
async fn policy_without_plans(
    store: &Store,
    config: &StripeApiConfig,
    account: Option<AccountId>,
) -> Result<Policy, CommandError> {
    Ok(Policy {
        mode: resolve_mode(store, config.mode()).await?,
        account: resolve_account(store, account).await?,
        deployment: store.deployment_or_new().await?,
        trust_client_reference: false,
        catalog: Catalog::empty(true),
    })
}

/// `None` without a secret key.
fn stripe_client(config: &StripeApiConfig, metrics: &Metrics) -> Result<Option<Stripe>, CommandError> {
    let connect = |key| Stripe::new(config.base.clone(), key, metrics.clone());
    config.secret_key.clone().map(connect).transpose().map_err(|error| http_client_error(&error))
}

fn http_client_error(error: &reqwest::Error) -> CommandError {
    CommandError::Failed(format!("could not create the HTTP client: {error}"))
}

/// The client of a command that needs Stripe and writes no topic log.
fn required_stripe_client(config: &StripeApiConfig) -> Result<Stripe, CommandError> {
    let metrics = Metrics::new(TopicLogs::none(), Arc::default());
    stripe_client(config, &metrics)?.ok_or_else(missing_key_error)
}

fn missing_key_error() -> CommandError {
    ConfigError::new("STRIPE_SECRET_KEY", "is not set: this command calls Stripe's API").into()
}

/// Billing for a command: without checkout and portal, journeys, streams, and a reader of the
/// metrics.
fn command_billing(
    store: Store,
    stripe_config: Option<&StripeApiConfig>,
    policy: Policy,
    logs: &LogDirArgs,
) -> Result<Billing, CommandError> {
    let topics = TopicLogs::open(&logs.read()?);
    let metrics = Metrics::new(topics.clone(), Arc::default());
    let client = stripe_config.map(|config| stripe_client(config, &metrics)).transpose()?;
    let clock = Arc::new(SystemClock);
    let reporter = Reporter::new(topics.clone(), metrics.clone(), clock.clone(), 0);
    Ok(Billing {
        store,
        stripe: client.flatten(),
        app_url: None,
        portal_configuration: None,
        policy,
        retention: None,
        topics,
        metrics,
        reporter,
        catch_up: CatchUp::default(),
        streams: Streams::default(),
        missing_prices: Arc::default(),
        webhook_record: Arc::default(),
        clock,
    })
}

/// Writes a warning to stderr, since stdout is for the command's output.
fn warn(warning: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "billhook: {warning}");
}

/// For commands with an output that depends on the plans.
fn warn_without_plans(catalog: &Catalog) {
    if catalog.plans().is_empty() {
        warn("BILLHOOK_PLANS is not set, so every price means the plan `free`");
    }
}

/// Writes to stderr how to list the next entries, since every line and array member on stdout is an
/// entry.
fn print_more_hint(last: &impl fmt::Display) -> Result<(), CommandError> {
    Ok(writeln!(io::stderr(), "billhook: there are more entries; list them with --after {last}")?)
}

/// Shows a bar on a terminal, and nothing elsewhere. `counts` is an indicatif template of the
/// counted units.
fn progress_bar(length: u64, counts: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {counts}, {{eta}} left"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Writes a command's output to stdout, with a line feed at the end.
fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints sentences, with the long ones wrapped.
fn print_sentences(text: &str) -> Result<(), CommandError> {
    print(&text::wrap_lines(text))
}

fn print_json(json: &Value) -> Result<(), CommandError> {
    print(&format!("{json:#}"))
}
