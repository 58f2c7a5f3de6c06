//! `billhook webhook register` and `billhook webhook rotate`: the webhook endpoint at Stripe and
//! its secret.
//!
//! Stripe can roll a secret only in its Dashboard. With its API we create a second endpoint at the
//! same URL, which has its own secret. While both exist each event arrives twice, signed by either
//! secret, and the duplicate changes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::{CommandError, open_store, print, print_sentences, required_stripe_client};
use crate::config::{self, DatabaseArgs, StripeApiArgs};
use crate::domain::webhook_url::WebhookUrl;
use crate::stripe::{Deadline, NewEndpoint, Stripe, WebhookEndpoint};

/// For one call to Stripe with its retries.
const STRIPE_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Subcommand)]
pub(super) enum WebhookCommand {
    /// Create the webhook endpoint at Stripe and print its secret once, or update its event types;
    /// safe to run again
    Register(EndpointArgs),
    /// Rotate the endpoint's secret: run it once for a new secret, and with --finish to remove the
    /// old one
    Rotate(RotateArgs),
}

#[derive(Args)]
pub(super) struct EndpointArgs {
    /// The URL that Stripe posts events to: the service's public address, or the whole URL of the
    /// endpoint
    #[arg(long, env = "BILLHOOK_WEBHOOK_URL")]
    url: String,

    /// Write a new secret to this file, which must not exist, instead of printing it
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    stripe: StripeApiArgs,
}

#[derive(Args)]
pub(super) struct RotateArgs {
    /// Remove the older endpoint if the newer one is enabled and the service has verified an event
    /// with its secret
    #[arg(long, conflicts_with = "secret_file")]
    finish: bool,

    /// With --finish: remove the older endpoint without checking the newer one
    #[arg(long, requires = "finish")]
    force: bool,

    #[command(flatten)]
    endpoint: EndpointArgs,

    // After the endpoint: its heading would also apply to the options that follow.
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) async fn run(command: &WebhookCommand) -> Result<(), CommandError> {
    match command {
        WebhookCommand::Register(args) => register(args).await,
        WebhookCommand::Rotate(args) if args.finish => finish(args).await,
        WebhookCommand::Rotate(args) => rotate(&args.endpoint).await,
    }
}

async fn register(args: &EndpointArgs) -> Result<(), CommandError> {
    let account = WebhookEndpoints::fetch(args).await?;
    match account.endpoints.as_slice() {
        [] => {
            let next_step = if args.secret_file.is_some() {
                "Put it into STRIPE_WEBHOOK_SECRET, or set STRIPE_WEBHOOK_SECRET_FILE to this file."
            } else {
                "Put it into STRIPE_WEBHOOK_SECRET, or into the file of STRIPE_WEBHOOK_SECRET_FILE."
            };
            account.create(next_step).await
        }
        [one] if args.secret_file.is_some() => Err(CommandError::Failed(format!(
            "endpoint {} exists already, and Stripe returns a secret only when it creates an endpoint: copy the secret \
             from the Dashboard, or replace it with `billhook webhook rotate --secret-file FILE`",
            one.id
        ))),
        [one] => account.update(one).await,
        several => Err(several_endpoints(several)),
    }
}

const ROTATION_STEPS: &str = "\
Next:
1. Add it beside the old one: `new=whsec_...,old=whsec_...`.
2. Send the service SIGHUP, or restart it if the secrets are in a variable.
3. When the service has verified an event with the new secret, run
   `billhook webhook rotate --finish`.
Until then each event arrives twice, and the duplicate changes nothing.";

async fn rotate(args: &EndpointArgs) -> Result<(), CommandError> {
    let account = WebhookEndpoints::fetch(args).await?;
    match account.endpoints.as_slice() {
        [] => Err(CommandError::Failed(format!(
            "no endpoint at Stripe has the URL {}: create it with `billhook webhook register`",
            account.url
        ))),
        [_] => account.create(ROTATION_STEPS).await,
        [_, new] => Err(CommandError::Failed(format!(
            "a rotation to the secret of {} has started: when the service verifies events with it, finish with --finish",
            new.id
        ))),
        several => Err(several_endpoints(several)),
    }
}

async fn finish(args: &RotateArgs) -> Result<(), CommandError> {
    let account = WebhookEndpoints::fetch(&args.endpoint).await?;
    match account.endpoints.as_slice() {
        [] | [_] => print("No rotation has started: there is nothing to finish."),
        [old, new] => {
            if !args.force {
                check_newer(new, &args.database).await?;
            }
            if account.dry_run {
                return print(&format!("Would remove {} and keep {}.", old.id, new.id));
            }
            account.stripe.delete_webhook_endpoint(old, Deadline::after(STRIPE_TIMEOUT)).await?;
            print_sentences(&format!(
                "Removed endpoint {} and kept {}.\nRemove the old secret from STRIPE_WEBHOOK_SECRET and restart the \
                 service, or from its file, and send SIGHUP.",
                old.id, new.id
            ))
        }
        several => Err(several_endpoints(several)),
    }
}

/// Whether events still arrive when only the newer endpoint is left.
///
/// Stripe does not return its secret again. The secret verified nothing before the endpoint was
/// created, so a secret that first verified an event after that is taken for it.
async fn check_newer(new: &WebhookEndpoint, database: &DatabaseArgs) -> Result<(), CommandError> {
    if !new.is_enabled() {
        return Err(CommandError::Failed(format!(
            "the newer endpoint {} is disabled, so Stripe would send no more events: enable it in the Dashboard, or finish \
             with --force",
            new.id
        )));
    }
    // Stripe's time has whole seconds: an event verified in that second may have the old secret's
    // signature.
    let created_before_ms = new.created.saturating_add(1).saturating_mul(1000);
    let verified = open_store(database).await?.verified_webhooks().await?;
    if verified.iter().any(|by| by.first_at_ms >= created_before_ms) {
        return Ok(());
    }
    Err(CommandError::Failed(format!(
        "the service has verified no event with the secret of the newer endpoint {}: add it to STRIPE_WEBHOOK_SECRET, wait \
         for an event, and run this again, or finish with --force",
        new.id
    )))
}

/// The endpoints at Stripe that have our URL, the oldest first.
struct WebhookEndpoints<'a> {
    stripe: Stripe,
    url: WebhookUrl,
    endpoints: Vec<WebhookEndpoint>,
    secret_file: Option<&'a PathBuf>,
    dry_run: bool,
}

impl<'a> WebhookEndpoints<'a> {
    async fn fetch(args: &'a EndpointArgs) -> Result<Self, CommandError> {
        let url = config::parse_webhook_url(&args.url)?;
        let stripe = required_stripe_client(&args.stripe.read()?)?;
        let all = stripe.list_webhook_endpoints(Deadline::after(STRIPE_TIMEOUT)).await?;
        // Stripe lists the newest first.
        let endpoints = all.into_iter().rev().filter(|endpoint| url.matches(&endpoint.url)).collect();
        Ok(Self { stripe, url, endpoints, secret_file: args.secret_file.as_ref(), dry_run: args.dry_run })
    }

    /// Creates an endpoint, and prints its secret or writes it to the file.
    async fn create(&self, next_step: &str) -> Result<(), CommandError> {
        if self.dry_run {
            return print(&format!("Would create an endpoint at {}.", self.url));
        }
        // Before the endpoint, since Stripe returns the secret only once.
        let file = self.secret_file.map(create_secret_file).transpose()?;
        let created = self.stripe.create_webhook_endpoint(&self.url, Deadline::after(STRIPE_TIMEOUT)).await;
        let NewEndpoint { endpoint, secret } = created.inspect_err(|_| self.remove_secret_file())?;
        print(&format!("Endpoint {} posts to {}.", endpoint.id, endpoint.url))?;
        match file {
            Some(mut file) => {
                let written = writeln!(file, "{}", secret.expose_secret()).and_then(|()| file.sync_all());
                written.map_err(|error| {
                    self.remove_secret_file();
                    CommandError::Failed(format!(
                        "--secret-file: the secret could not be written, and Stripe returns it only once: {error}; delete \
                         endpoint {} in the Dashboard, and run this again",
                        endpoint.id
                    ))
                })?;
                let path = self.secret_file.map(|path| path.display().to_string()).unwrap_or_default();
                print(&format!("Its secret is in the file {path}."))?;
            }
            None => print(&format!("Its secret, which is shown only once: {}", secret.expose_secret()))?,
        }
        print_sentences(next_step)
    }

    /// Removes the file that this run created and that holds no secret.
    fn remove_secret_file(&self) {
        if let Some(path) = self.secret_file {
            // The failure that led here is the one to report.
            let _ = fs::remove_file(path);
        }
    }

    /// Enables an endpoint and subscribes it to exactly the event types that we handle.
    async fn update(&self, endpoint: &WebhookEndpoint) -> Result<(), CommandError> {
        if !endpoint.has_usable_version() {
            let version = endpoint.api_version.as_deref().unwrap_or_default();
            return Err(CommandError::Failed(format!(
                "endpoint {} has the API version {version}, whose events are too old to be read. The version of an endpoint \
                 cannot be changed: create another with `billhook webhook rotate`",
                endpoint.id
            )));
        }
        if endpoint.is_up_to_date() {
            return print(&format!("Endpoint {} is up to date.", endpoint.id));
        }
        if self.dry_run {
            return print_sentences(&format!(
                "Would update endpoint {} to the event types that Billhook handles.",
                endpoint.id
            ));
        }
        self.stripe.update_webhook_endpoint(endpoint, Deadline::after(STRIPE_TIMEOUT)).await?;
        print_sentences(&format!(
            "Endpoint {} is enabled, with exactly the event types that Billhook handles.",
            endpoint.id
        ))
    }
}

fn create_secret_file(path: &PathBuf) -> Result<File, CommandError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        CommandError::Failed(format!("--secret-file: cannot create {}: {error}", path.display()))
    })
}

fn several_endpoints(endpoints: &[WebhookEndpoint]) -> CommandError {
    let ids: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.id.as_str()).collect();
    CommandError::Failed(format!(
        "several endpoints at Stripe have this URL, and each sends every event: {}. If a rotation has started, finish it with \
         `billhook webhook rotate --finish`; otherwise remove all but one in the Dashboard",
        ids.join(", ")
    ))
}
