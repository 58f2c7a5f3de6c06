//! The command line: one file for each subcommand, and `serve`, which is the service.
//!
//! Start reading at [`run`]. Here is what commands share: opening the database, Stripe's client, exit codes, output. What a
//! command does with billing is decided in [`crate::billing`]; its values come from [`crate::config`].

mod configured_files;
mod deployment;
mod doctor;
mod entry;
mod event;
mod migrate;
mod openapi;
mod prune;
mod reconcile;
pub mod serve;
mod table;
mod tenant;
mod token;
mod unknown_variables;
mod webhook;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::billing::{Billing, CatchingUp, NotErased, Streams, known_account};
use crate::clock::SystemClock;
use crate::config::{self, ConfigError, DatabaseArgs, LogDirArgs, StripeApiConfig};
use crate::domain::ids::{AccountId, DeploymentId};
use crate::domain::mode::Mode;
use crate::domain::plan::Catalog;
use crate::domain::unit_of_work::{LinkRefusal, OwnAccount, Policy};
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
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service; brings the database up to date first
    #[command(after_help = serve::MORE_VARIABLES)]
    Serve(Box<serve::ServeArgs>),
    /// Bring the database up to date and exit; copies a SQLite database into it first with `--from`
    #[command(after_help = migrate::MOVE)]
    Migrate(migrate::MigrateArgs),
    /// Print the OpenAPI document
    Openapi,
    /// Check the whole setup, here and at Stripe, and say what mends it
    #[command(after_help = doctor::HEALTH)]
    Doctor(Box<doctor::DoctorArgs>),
    /// Tell Stripe where to post events, and roll the secret that signs them
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Compare every linked customer's subscriptions with Stripe's, and print what differs
    Reconcile(reconcile::ReconcileArgs),
    /// Drop the payloads of old events, as the service does by itself
    Prune(prune::PruneArgs),
    /// Look at events, and have them tried or asked about again
    #[command(subcommand, alias = "events")]
    Event(event::EventCommand),
    /// Look at tenants, link them to customers, unlink them and erase them
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Show or change which deployment the database belongs to
    #[command(subcommand)]
    Deployment(deployment::DeploymentCommand),
    /// Sign a token with the configured secret, for development
    Token(Box<token::TokenCommandArgs>),
}

/// Why a command came to nothing: one sentence for a person, and a class for a script.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration or an argument cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key and the database belong to different worlds.
    #[error(transparent)]
    Mode(#[from] ModeConflict),
    /// The key and the database belong to different accounts.
    #[error(transparent)]
    Account(#[from] AccountConflict),
    /// The configuration and the database belong to different deployments.
    #[error(transparent)]
    Deployment(#[from] DeploymentConflict),
    /// Telemetry cannot be set up as configured.
    #[error(transparent)]
    Telemetry(#[from] InitError),
    /// The database refused or was not there.
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
    /// The link would take something away from somebody.
    #[error("not linked: {0}")]
    Link(#[from] LinkRefusal),
    /// The database was not copied into another one.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Something of the tenant is alive, or nothing could be learned of it.
    #[error("not erased: {0}")]
    Erase(#[from] NotErased),
    /// Stripe refused or was not there.
    #[error(transparent)]
    Stripe(#[from] StripeError),
    /// The service could not start or run.
    #[error("{0}")]
    Failed(String),
    /// The answer could not be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Mode(_) | Self::Account(_) | Self::Deployment(_) | Self::Telemetry(_) => {
                ExitCode::from(2)
            }
            Self::Store(_)
            | Self::Link(_)
            | Self::Copy(_)
            | Self::Erase(_)
            | Self::Stripe(_)
            | Self::Failed(_)
            | Self::Output(_) => ExitCode::from(1),
        }
    }
}

/// Runs the command that the command line names.
pub async fn run(cli: Cli) -> ExitCode {
    // `serve` logs them, and `doctor` reports them.
    if !matches!(cli.command, Command::Serve(_) | Command::Doctor(_)) {
        for name in unknown_variables::find() {
            warn(format_args!("{name} is set, and no such variable is read: check its spelling"));
        }
    }
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args).await,
        Command::Migrate(args) => migrate::run(&args).await,
        Command::Openapi => openapi::run(),
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
        Err(error) => {
            telemetry::report_failure(&error);
            error.exit_code()
        }
    }
}

/// The database of a service that has been set up: a mistyped path must not make a new one.
async fn migrated(database: &DatabaseArgs) -> Result<Store, CommandError> {
    let store = Store::connect_existing(&database.read()?).await?;
    if store.is_migrated().await? {
        store.check_copy().await?;
        Ok(store)
    } else {
        Err(CommandError::Failed(
            "DATABASE_URL: the database is not up to date: run `billhook migrate`".into(),
        ))
    }
}

/// The mode to hold events against: the key's, which the database then remembers, else the remembered one.
async fn guarded_mode(store: &Store, key: Option<Mode>) -> Result<Option<Mode>, CommandError> {
    let Some(key) = key else { return Ok(store.mode().await?) };
    store.claim_mode(key).await??;
    Ok(Some(key))
}

/// The account to hold events against: the one that `STRIPE_ACCOUNT` asserts, which the database then remembers, else the
/// remembered one.
async fn guarded_account(store: &Store, asserted: Option<AccountId>) -> Result<OwnAccount, CommandError> {
    let account = OwnAccount::default();
    if let Some(known) = known_account(store, asserted).await?? {
        account.learn(known);
    }
    Ok(account)
}

/// The deployment that the database belongs to: the configured one, which the database then remembers, else its own.
async fn guarded_deployment(
    store: &Store,
    asserted: Option<&DeploymentId>,
) -> Result<DeploymentId, CommandError> {
    Ok(store.claim_deployment(asserted).await??)
}

/// The policy of a command that applies no event: it needs no plans, and leaves a database without a deployment to the
/// service's first start.
async fn policy_without_events(
    store: &Store,
    config: &StripeApiConfig,
    account: Option<AccountId>,
) -> Result<Policy, CommandError> {
    Ok(Policy {
        mode: guarded_mode(store, config.mode()).await?,
        account: guarded_account(store, account).await?,
        deployment: store.deployment_or_new().await?,
        trust_client_reference: false,
        catalog: Catalog::empty(true),
    })
}

/// The connection to Stripe's API, if there is a key.
fn stripe(config: &StripeApiConfig, metrics: &Metrics) -> Result<Option<Stripe>, CommandError> {
    let connect = |key| Stripe::new(config.base.clone(), key, metrics.clone());
    config.secret_key.clone().map(connect).transpose().map_err(|error| no_http_client(&error))
}

fn no_http_client(error: &reqwest::Error) -> CommandError {
    CommandError::Failed(format!("the HTTP client cannot be made: {error}"))
}

/// The connection to Stripe's API of a command that asks and writes no line.
fn asking_stripe(config: &StripeApiConfig) -> Result<Stripe, CommandError> {
    let metrics = Metrics::new(TopicLogs::none(), Arc::default());
    stripe(config, &metrics)?.ok_or_else(without_a_key)
}

fn without_a_key() -> CommandError {
    config::missing("STRIPE_SECRET_KEY is not set: Stripe cannot be asked without it").into()
}

/// What a command works with: nobody waits for a page, no journey begins, and nobody comes for what is counted.
fn at_the_command_line(
    store: Store,
    stripe_config: Option<&StripeApiConfig>,
    policy: Policy,
    logs: &LogDirArgs,
) -> Result<Billing, CommandError> {
    let topics = TopicLogs::open(&logs.read()?);
    let metrics = Metrics::new(topics.clone(), Arc::default());
    let client = stripe_config.map(|config| stripe(config, &metrics)).transpose()?;
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
        catching_up: CatchingUp::default(),
        streams: Streams::default(),
        missing_prices: Arc::default(),
        webhook_record: Arc::default(),
        clock,
    })
}

/// Writes a warning. Not on stdout, which is for the answer.
fn warn(warning: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "billhook: {warning}");
}

/// Warns where an answer depends on the plans and none is configured.
fn warn_without_plans(catalog: &Catalog) {
    if catalog.plans().is_empty() {
        warn("BILLHOOK_PLANS is not set: every price means the plan `free`");
    }
}

/// Tells that a list ends before the last entry, and how to go on. Not on stdout, where every line and every member of the
/// array is an entry.
fn say_there_are_more(last: &impl fmt::Display) -> Result<(), CommandError> {
    Ok(writeln!(io::stderr(), "billhook: there are more; they begin with --after {last}")?)
}

/// A bar on a terminal, and nothing elsewhere. `counts` says what it counts, in indicatif's words.
fn progress(length: u64, counts: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {counts}, {{eta}} to go"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Writes a command's answer.
fn say(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
