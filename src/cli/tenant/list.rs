//! `billhook tenant list`

use clap::Args;
use serde_json::{Value, json};

use super::answer;
use crate::cli::table::{self, or_dash};
use crate::cli::{CommandError, migrated, say, say_there_are_more, warn_without_plans};
use crate::config::{self, DatabaseArgs, PlanArgs};
use crate::domain::ids::{PlanName, TenantId};
use crate::domain::plan::{Catalog, Entitlement};
use crate::domain::subscription::Status;
use crate::domain::tenant::Tenant;
use crate::store::Store;
use crate::telemetry::topics::rfc3339;

/// How many tenants are listed: more than a person reads, and no answer that a tool cannot hold.
const MOST: usize = 200;

/// How many tenants are read at once.
const PAGE: u64 = 500;

#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    /// Only those on one of these plans; `free` is one
    #[arg(long, value_name = "PLAN", value_delimiter = ',')]
    plan: Vec<String>,

    /// Only those whose subscription has one of these statuses of Stripe's; `none`: who has no subscription
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,

    /// Only those whose subscription grants its plan, or does not
    #[arg(long, value_name = "true|false")]
    access: Option<bool>,

    /// Only those that have a customer, or have none
    #[arg(long, value_name = "true|false")]
    linked: Option<bool>,

    /// Go on after this tenant, the last of the list before
    #[arg(long, value_name = "TENANT")]
    after: Option<String>,

    /// Print JSON, for tools
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    plans: PlanArgs,
}

/// A tenant, and what it is entitled to.
type Listed = (Tenant, Entitlement);

pub(super) async fn run(args: &ListArgs) -> Result<(), CommandError> {
    let (mut tenants, has_more) = find(args).await?;
    tenants.truncate(MOST);
    if args.json {
        say(&format!("{:#}", tenants.iter().map(as_json).collect::<Value>()))?;
    } else if tenants.is_empty() {
        say("There are none.")?;
    } else {
        say(&as_table(&tenants))?;
    }
    match tenants.last() {
        Some((last, _)) if has_more => say_there_are_more(&last.id),
        _ => Ok(()),
    }
}

/// The first tenants that are wanted, and whether there are more. What a tenant is entitled to is no column: page by page
/// it is found out, by the same rule as the service's answer.
async fn find(args: &ListArgs) -> Result<(Vec<Listed>, bool), CommandError> {
    let mut after = args.after.as_deref().map(|text| config::stored_tenant("--after", text)).transpose()?;
    let catalog = args.plans.read()?;
    warn_without_plans(&catalog);
    let store = migrated(&args.database).await?;
    let mut found = Vec::new();
    while found.len() <= MOST {
        let tenants = store.tenants(args.linked, after.as_ref(), PAGE).await?;
        let Some(last) = tenants.last() else { break };
        after = Some(last.id.clone());
        let entitled = entitlements(&store, &catalog, tenants).await?;
        found.extend(entitled.into_iter().filter(|(_, entitlement)| args.want(entitlement)));
    }
    let has_more = found.len() > MOST;
    Ok((found, has_more))
}

async fn entitlements(
    store: &Store,
    catalog: &Catalog,
    tenants: Vec<Tenant>,
) -> Result<Vec<Listed>, CommandError> {
    let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id.clone()).collect();
    let mut held = store.holdings_of_tenants(&ids).await?;
    let readable = held.values().flatten().flat_map(|held| &held.subscriptions);
    let known = store.known_prices(&catalog.prices_found_by_key(readable)).await?;
    let entitled = tenants.into_iter().map(|tenant| {
        let held = held.remove(&tenant.id).transpose()?.unwrap_or_default();
        let entitlement = catalog.entitlement(&held, &known);
        Ok((tenant, entitlement))
    });
    entitled.collect()
}

impl ListArgs {
    fn want(&self, entitlement: &Entitlement) -> bool {
        let is_wanted =
            |wanted: &[String], word: &str| wanted.is_empty() || wanted.iter().any(|one| one == word);
        is_wanted(&self.plan, plan(entitlement))
            && is_wanted(&self.status, entitlement.status.as_ref().map_or("none", Status::as_str))
            && self.access.is_none_or(|access| access == entitlement.access)
    }
}

fn plan(entitlement: &Entitlement) -> &str {
    entitlement.plan.as_ref().map_or("free", PlanName::as_str)
}

fn as_json((tenant, entitlement): &Listed) -> Value {
    json!({
        "tenant": tenant.id,
        "customer": tenant.customer,
        "subscription": answer(&tenant.id, entitlement),
    })
}

fn as_table(tenants: &[Listed]) -> String {
    let time = |seconds: Option<i64>| or_dash(seconds.map(|seconds| rfc3339(seconds.saturating_mul(1000))));
    let cells = |(tenant, entitlement): &Listed| {
        [
            tenant.id.to_string(),
            plan(entitlement).to_owned(),
            entitlement.access.to_string(),
            or_dash(entitlement.status.as_ref()),
            time(entitlement.current_period_end),
            time(entitlement.cancel_at),
            or_dash(tenant.customer.as_ref()),
        ]
    };
    let heading = ["TENANT", "PLAN", "ACCESS", "STATUS", "PERIOD END", "ENDS", "CUSTOMER"];
    table::under(heading, &tenants.iter().map(cells).collect::<Vec<_>>())
}
