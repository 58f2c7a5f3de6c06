//! `billhook tenant`: who has which customer, and what it is entitled to. `link` and `show` are here, every other subcommand
//! has a file; what they do is decided in [`crate::billing`].

mod erase;
mod import;
mod list;
mod timeline;
mod unlink;

use clap::{Args, Subcommand};
use poem_openapi::types::ToJSON;
use serde_json::{Value, json};

use super::table::{self, or_dash};
use super::{
    CommandError, at_the_command_line, guarded_account, guarded_deployment, migrated, say, warn_without_plans,
};
use crate::billing::{Billing, LinkError, link_by_hand, replace_by_hand};
use crate::config::{self, DatabaseArgs, EventPolicyArgs, EventPolicyConfig, LogDirArgs, PlanArgs};
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::plan::{Catalog, Entitlement, Withheld};
use crate::domain::subscription::{PaymentProblem, Subscription as Held};
use crate::domain::tenant::Tenant;
use crate::domain::unit_of_work::Policy;
use crate::http::Subscription;
use crate::store::Store;

#[derive(Subcommand)]
pub(super) enum TenantCommand {
    /// Link a tenant to the customer that it has at Stripe already
    Link(LinkArgs),
    /// Take its customer from a tenant
    #[command(after_help = unlink::CONSEQUENCES)]
    Unlink(unlink::UnlinkArgs),
    /// Delete what is stored of a tenant, for a data-protection request
    #[command(after_help = erase::CONSEQUENCES)]
    Erase(Box<erase::EraseArgs>),
    /// Link many tenants to their customers, from a file, and ask Stripe what they have
    #[command(after_help = import::FILE)]
    Import(Box<import::ImportArgs>),
    /// List tenants and what they are entitled to
    List(list::ListArgs),
    /// Show what a tenant is entitled to, and why
    Show(ShowArgs),
}

#[derive(Args)]
pub(super) struct LinkArgs {
    /// The tenant, as tokens name it
    tenant: String,

    /// Stripe's customer, `cus_...`
    customer: String,

    /// Take its present customer from the tenant, if everything that customer had is over
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    events: EventPolicyArgs,

    #[command(flatten)]
    logs: LogDirArgs,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// The tenant, as tokens name it
    tenant: String,

    /// Tell the tenant's story instead, oldest first, each line with its trace id
    #[arg(long)]
    timeline: bool,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    plans: PlanArgs,
}

pub(super) async fn run(command: &TenantCommand) -> Result<(), CommandError> {
    match command {
        TenantCommand::Link(args) => link(args).await,
        TenantCommand::Unlink(args) => unlink::run(args).await,
        TenantCommand::Erase(args) => erase::run(args).await,
        TenantCommand::Import(args) => import::run(args).await,
        TenantCommand::List(args) => list::run(args).await,
        TenantCommand::Show(args) => show(args).await,
    }
}

async fn link(args: &LinkArgs) -> Result<(), CommandError> {
    let tenant: TenantId = config::argument("TENANT", &args.tenant)?;
    let customer: CustomerId = config::argument("CUSTOMER", &args.customer)?;
    let config = args.events.read()?;
    warn_without_plans(&config.catalog);
    let store = migrated(&args.database).await?;
    let billing = billing(store, config, &args.logs).await?;
    let replaced = if args.replace {
        replace_by_hand(&billing, &tenant, &customer).await
    } else {
        link_by_hand(&billing, &tenant, &customer).await.map(|()| None)
    };
    let replaced = replaced.map_err(|error| match error {
        LinkError::Refused(refusal) => CommandError::Link(refusal),
        LinkError::Store(error) => CommandError::Store(error),
    })?;
    say(&match replaced {
        Some(replaced) => format!("Tenant {tenant} is linked to {customer}, and no longer to {replaced}."),
        None => format!("Tenant {tenant} is linked to {customer}."),
    })
}

/// What links and unlinks. The service asks Stripe what a customer has.
async fn billing(
    store: Store,
    config: EventPolicyConfig,
    logs: &LogDirArgs,
) -> Result<Billing, CommandError> {
    let policy = Policy {
        mode: store.mode().await?,
        account: guarded_account(&store, None).await?,
        deployment: guarded_deployment(&store, config.deployment.as_ref()).await?,
        trust_client_reference: config.trust_client_reference,
        catalog: config.catalog,
    };
    at_the_command_line(store, None, policy, logs)
}

async fn show(args: &ShowArgs) -> Result<(), CommandError> {
    let id = config::stored_tenant("TENANT", &args.tenant)?;
    let catalog = args.plans.read()?;
    warn_without_plans(&catalog);
    let store = migrated(&args.database).await?;
    let Some(tenant) = store.tenant(&id).await? else {
        return Err(CommandError::Failed(format!("nothing has ever happened to the billing of tenant {id}")));
    };
    if args.timeline {
        return timeline::tell(&store, &id, args.json).await;
    }
    let held = store.holdings(&id).await?;
    let known = store.known_prices(&catalog.prices_found_by_key(&held.subscriptions)).await?;
    let answer = answer(&id, &catalog.entitlement(&held, &known));
    let others = store.other_customers_of(&id).await?;
    let shown = Shown {
        tenant: &tenant,
        answer: &answer,
        held: &held.subscriptions,
        catalog: &catalog,
        other_customers: &others,
    };
    say(&if args.json { shown.as_json() } else { shown.as_table() })
}

/// What the service answers for a tenant.
fn answer(tenant: &TenantId, entitlement: &Entitlement) -> Value {
    let mut answer = Subscription::new(tenant, entitlement, false).to_json().unwrap_or_default();
    // That is said of the bearer of a token, and here is none.
    answer.as_object_mut().map(|answer| answer.remove("may_manage"));
    answer
}

/// What is shown of a tenant.
struct Shown<'a> {
    tenant: &'a Tenant,
    answer: &'a Value,
    held: &'a [Held],
    catalog: &'a Catalog,
    /// Customers that name the tenant, and that it is not linked to.
    other_customers: &'a [CustomerId],
}

impl Shown<'_> {
    fn as_json(&self) -> String {
        let subscription = |subscription: &Held| {
            json!({
                "id": subscription.id,
                "customer": subscription.customer,
                "status": subscription.state.status.as_str(),
                "prices": subscription.state.items.iter().map(|item| &item.price).collect::<Vec<_>>(),
                "awaiting_payment": subscription.awaiting_payment,
                "access_withheld": self.catalog.withheld(subscription).map(Withheld::as_str),
                "payment_problem": subscription.payment_problem.map(PaymentProblem::as_str),
            })
        };
        let shown = json!({
            "tenant": self.tenant.id,
            "customer": self.tenant.customer,
            "other_customers": self.other_customers,
            "journey_id": self.tenant.journey.map(|journey| journey.id().to_string()),
            "subscription": self.answer,
            "subscriptions": self.held.iter().map(subscription).collect::<Vec<_>>(),
        });
        format!("{shown:#}")
    }

    fn as_table(&self) -> String {
        let journey = self.tenant.journey.map(|journey| journey.id());
        let customer = or_dash(self.tenant.customer.as_ref());
        let mut fields = vec![("customer", customer), ("journey_id", or_dash(journey))];
        let others = self.other_customers.iter();
        fields.extend(others.map(|other| ("other_customer", format!("{other}, which names this tenant"))));
        let answer = self.answer.as_object().into_iter().flatten();
        fields.extend(answer.map(|(name, value)| (name.as_str(), plain(value))));
        fields.extend(self.held.iter().map(|held| (held.id.as_str(), self.status(held))));
        table::fields(&fields)
    }

    /// A subscription's status, and why it grants nothing where that does not say so.
    fn status(&self, held: &Held) -> String {
        let status = &held.state.status;
        match self.catalog.withheld(held) {
            Some(Withheld::AwaitingPayment) => {
                format!("{status}, access is withheld until its first payment arrives")
            }
            Some(Withheld::Status) if !status.is_final() => {
                format!("{status}, which grants no access")
            }
            Some(Withheld::Status) | None => status.to_string(),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
