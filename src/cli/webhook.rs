//! `billhook webhook register` and `billhook webhook rotate`: Stripe is told where to post events, and with which secret.
//!
//! Stripe rolls a secret in its Dashboard only. What its API can do is a second endpoint at the same URL, with a secret of
//! its own: while both stand each event comes twice, once signed by either, and a repeat changes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::{CommandError, asking_stripe, migrated, say};
use crate::config::{self, DatabaseArgs, StripeApiArgs};
use crate::domain::webhook_url::WebhookUrl;
use crate::stripe::{Deadline, NewEndpoint, Stripe, WebhookEndpoint};

/// How long Stripe may take for one answer, retries and all.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Subcommand)]
pub(super) enum WebhookCommand {
    /// Make the webhook endpoint at Stripe, or have the one that is there told exactly what we handle
    Register(RegisterArgs),
    /// Roll the endpoint's secret: once for a new one, and with --finish to let the old one go
    Rotate(RotateArgs),
}

#[derive(Args)]
pub(super) struct EndpointArgs {
    /// Where Stripe posts events: the service's public address, or the whole URL of the endpoint
    #[arg(long, env = "BILLHOOK_WEBHOOK_URL")]
    url: String,

    /// Write a new secret into this file, which must not be there yet, instead of printing it
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    stripe: StripeApiArgs,
}

#[derive(Args)]
pub(super) struct RegisterArgs {
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Args)]
pub(super) struct RotateArgs {
    /// Remove the older endpoint, once the newer one is enabled and the service has verified an event with its secret
    #[arg(long, conflicts_with = "secret_file")]
    finish: bool,

    /// Finish without these checks
    #[arg(long, requires = "finish")]
    force: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub(super) async fn run(command: &WebhookCommand) -> Result<(), CommandError> {
    match command {
        WebhookCommand::Register(args) => register(&args.endpoint).await,
        WebhookCommand::Rotate(args) if args.finish => finish(args).await,
        WebhookCommand::Rotate(args) => rotate(&args.endpoint).await,
    }
}

async fn register(args: &EndpointArgs) -> Result<(), CommandError> {
    let desk = Desk::open(args).await?;
    match desk.endpoints.as_slice() {
        [] => desk.create("Put it into STRIPE_WEBHOOK_SECRET, or its file.").await,
        [one] if args.secret_file.is_some() => Err(CommandError::Failed(format!(
            "endpoint {} exists already, and Stripe returns a secret only when it creates an endpoint: copy the secret \
             from the Dashboard, or replace it with `billhook webhook rotate --secret-file FILE`",
            one.id
        ))),
        [one] => desk.mend(one).await,
        several => Err(several_endpoints(several)),
    }
}

async fn rotate(args: &EndpointArgs) -> Result<(), CommandError> {
    let desk = Desk::open(args).await?;
    match desk.endpoints.as_slice() {
        [] => Err(CommandError::Failed(format!(
            "no endpoint at Stripe has the URL {}: `billhook webhook register` makes it",
            desk.url
        ))),
        [_] => {
            desk.create(
                "Put it beside the old one, as `new=whsec_...,old=whsec_...`, and send the service SIGHUP, or restart \
                 it if the secrets are in a variable. When the service has verified an event with it, run this again \
                 with --finish. Until then each event comes twice, and the second time changes nothing.",
            )
            .await
        }
        [_, new] => Err(CommandError::Failed(format!(
            "a roll is under way, to the secret of {}: when it verifies, finish it with --finish",
            new.id
        ))),
        several => Err(several_endpoints(several)),
    }
}

async fn finish(args: &RotateArgs) -> Result<(), CommandError> {
    let desk = Desk::open(&args.endpoint).await?;
    if let ([_, new], false) = (desk.endpoints.as_slice(), args.force) {
        check_newer(new, &args.database).await?;
    }
    match desk.endpoints.as_slice() {
        [] | [_] => say("No roll is under way: there is nothing to finish."),
        [old, new] if desk.dry_run => say(&format!("Would remove {}, and leave {}.", old.id, new.id)),
        [old, new] => {
            desk.stripe.delete_webhook_endpoint(old, Deadline::after(PATIENCE)).await?;
            say(&format!(
                "Endpoint {} is removed, {} stays. Take the old secret out of STRIPE_WEBHOOK_SECRET.",
                old.id, new.id
            ))
        }
        several => Err(several_endpoints(several)),
    }
}

/// Whether events still arrive when only the newer endpoint is left.
///
/// Its secret cannot be read from Stripe again, but it is the one that verified nothing before the endpoint was created.
async fn check_newer(new: &WebhookEndpoint, database: &DatabaseArgs) -> Result<(), CommandError> {
    if !new.is_enabled() {
        return Err(CommandError::Failed(format!(
            "the newer endpoint {} is disabled, so Stripe would send no more events: enable it in the Dashboard, or finish \
             with --force",
            new.id
        )));
    }
    // Stripe's time is in whole seconds: what was verified in that one may have been the old secret's.
    let created_before_ms = new.created.saturating_add(1).saturating_mul(1000);
    let verified = migrated(database).await?.verified_webhooks().await?;
    if verified.iter().any(|by| by.first_at_ms >= created_before_ms) {
        return Ok(());
    }
    Err(CommandError::Failed(format!(
        "the service has verified no event with the secret of the newer endpoint {}: add it to STRIPE_WEBHOOK_SECRET, wait \
         for an event, and run this again, or finish with --force",
        new.id
    )))
}

/// What both commands work with: Stripe, and its endpoints that have our URL, the oldest first.
struct Desk<'a> {
    stripe: Stripe,
    url: WebhookUrl,
    endpoints: Vec<WebhookEndpoint>,
    secret_file: Option<&'a PathBuf>,
    dry_run: bool,
}

impl<'a> Desk<'a> {
    async fn open(args: &'a EndpointArgs) -> Result<Self, CommandError> {
        let url = config::webhook_url(&args.url)?;
        let stripe = asking_stripe(&args.stripe.read()?)?;
        let all = stripe.list_webhook_endpoints(Deadline::after(PATIENCE)).await?;
        // Stripe lists the newest first.
        let endpoints = all.into_iter().rev().filter(|endpoint| url.is(&endpoint.url)).collect();
        Ok(Self { stripe, url, endpoints, secret_file: args.secret_file.as_ref(), dry_run: args.dry_run })
    }

    /// Makes an endpoint, and hands over its secret.
    async fn create(&self, what_next: &str) -> Result<(), CommandError> {
        if self.dry_run {
            return say(&format!("Would make an endpoint at {}.", self.url));
        }
        // Before anything is made at Stripe, which tells the secret only once.
        let file = self.secret_file.map(new_file).transpose()?;
        let made = self.stripe.create_webhook_endpoint(&self.url, Deadline::after(PATIENCE)).await;
        let NewEndpoint { endpoint, secret } = made.inspect_err(|_| self.remove_secret_file())?;
        say(&format!("Endpoint {} posts to {}.", endpoint.id, endpoint.url))?;
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
                say("Its secret is in the file.")?;
            }
            None => say(&format!("Its secret, which is told this once: {}", secret.expose_secret()))?,
        }
        say(what_next)
    }

    /// The file was created by this run, and holds no secret.
    fn remove_secret_file(&self) {
        if let Some(path) = self.secret_file {
            // The failure that led here is the one to report.
            let _ = fs::remove_file(path);
        }
    }

    /// Has an endpoint told exactly what we handle, if it is not.
    async fn mend(&self, endpoint: &WebhookEndpoint) -> Result<(), CommandError> {
        if !endpoint.has_usable_version() {
            let version = endpoint.api_version.as_deref().unwrap_or_default();
            return Err(CommandError::Failed(format!(
                "endpoint {} has the API version {version}, which cannot be changed, and events that are too old to be \
                 read: make another with `billhook webhook rotate`",
                endpoint.id
            )));
        }
        if endpoint.is_as_wanted() {
            return say(&format!("Endpoint {} is as it should be.", endpoint.id));
        }
        if self.dry_run {
            return say(&format!("Would have endpoint {} told exactly what is handled.", endpoint.id));
        }
        self.stripe.mend_webhook_endpoint(endpoint, Deadline::after(PATIENCE)).await?;
        say(&format!("Endpoint {} is enabled, and told exactly what is handled.", endpoint.id))
    }
}

fn new_file(path: &PathBuf) -> Result<File, CommandError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let cannot = |error: io::Error| format!("--secret-file: {} cannot be made: {error}", path.display());
    file.map_err(|error| CommandError::Failed(cannot(error)))
}

fn several_endpoints(endpoints: &[WebhookEndpoint]) -> CommandError {
    let ids: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.id.as_str()).collect();
    CommandError::Failed(format!(
        "several endpoints at Stripe have this URL, and each brings every event: {}; if a secret is being rolled, finish \
         with `billhook webhook rotate --finish`, else remove all but one in the Dashboard",
        ids.join(", ")
    ))
}
