//! `billhook tenant list`

use clap::Args;
use serde_json::{Value, json};

use super::show::subscription_json;
use crate::cli::table;
use crate::cli::text::{or_dash, time_of_seconds};
use crate::cli::{CommandError, open_store, print, print_json, print_more_hint, warn, warn_without_plans};
use crate::config::{self, DatabaseArgs, PlanArgs};
use crate::domain::ids::{PlanName, TenantId};
use crate::domain::plan::{Catalog, Entitlement};
use crate::domain::subscription::Status;
use crate::domain::tenant::Tenant;
use crate::store::Store;

/// More than a person reads, and few enough for a tool to hold.
const MAX_LISTED: usize = 200;

const TENANTS_PER_QUERY: u64 = 500;

#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    /// List only tenants on these plans, such as `free,pro`
    #[arg(long, value_name = "PLAN", value_delimiter = ',')]
    plan: Vec<String>,

    /// List only tenants with one of these Stripe statuses; `none` for tenants without a
    /// subscription
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,

    /// List only tenants with a subscription that grants its plan, or only the others
    #[arg(long, value_name = "true|false")]
    access: Option<bool>,

    /// List only tenants with a customer, or only those without
    #[arg(long, value_name = "true|false")]
    linked: Option<bool>,

    /// Continue after this tenant, the last one of the previous list
    #[arg(long, value_name = "TENANT")]
    after: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    plans: PlanArgs,
}

/// The status in a filter for tenants without a subscription.
const NO_STATUS: &str = "none";

type ListedTenant = (Tenant, Entitlement);

pub(super) async fn run(args: &ListArgs) -> Result<(), CommandError> {
    let (mut tenants, has_more) = find(args).await?;
    tenants.truncate(MAX_LISTED);
    if args.json {
        print_json(&tenants.iter().map(as_json).collect())?;
    } else if tenants.is_empty() {
        print("No tenant matches.")?;
    } else {
        print(&as_table(&tenants))?;
    }
    match tenants.last() {
        Some((last, _)) if has_more => print_more_hint(&last.id),
        _ => Ok(()),
    }
}

/// Returns the first matching tenants, and whether there are more. Entitlements are not stored:
/// they are computed page by page, by the same rule as in the API.
async fn find(args: &ListArgs) -> Result<(Vec<ListedTenant>, bool), CommandError> {
    let mut after =
        args.after.as_deref().map(|text| config::parse_stored_tenant("--after", text)).transpose()?;
    let catalog = args.plans.read()?;
    warn_without_plans(&catalog);
    args.warn_of_unknown(&catalog);
    let store = open_store(&args.database).await?;
    let mut found = Vec::new();
    while found.len() <= MAX_LISTED {
        let tenants = store.tenants(args.linked, after.as_ref(), TENANTS_PER_QUERY).await?;
        let Some(last) = tenants.last() else { break };
        after = Some(last.id.clone());
        let entitled = entitlements(&store, &catalog, tenants).await?;
        found.extend(entitled.into_iter().filter(|(_, entitlement)| args.matches(entitlement)));
    }
    let has_more = found.len() > MAX_LISTED;
    Ok((found, has_more))
}

async fn entitlements(
    store: &Store,
    catalog: &Catalog,
    tenants: Vec<Tenant>,
) -> Result<Vec<ListedTenant>, CommandError> {
    let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id.clone()).collect();
    let mut held = store.billing_states(&ids).await?;
    let readable = held.values().flatten().flat_map(|held| &held.subscriptions);
    let known = store.known_prices(&catalog.prices_not_configured_by_id(readable)).await?;
    let entitled = tenants.into_iter().map(|tenant| {
        let held = held.remove(&tenant.id).transpose()?.unwrap_or_default();
        let entitlement = catalog.entitlement(&held, &known);
        Ok((tenant, entitlement))
    });
    entitled.collect()
}

impl ListArgs {
    /// An unknown plan or status is probably misspelt. It is not refused, since Stripe may add a
    /// status.
    fn warn_of_unknown(&self, catalog: &Catalog) {
        for plan in self.plan.iter().filter(|plan| *plan != "free" && catalog.plan(plan).is_none()) {
            warn(format_args!("--plan: BILLHOOK_PLANS has no plan `{plan}`"));
        }
        let is_known = |status: &str| {
            status == NO_STATUS || Status::parse(status).is_some_and(|it| it.known_name().is_some())
        };
        for status in self.status.iter().filter(|status| !is_known(status)) {
            warn(format_args!("--status: `{status}` is not a status of Stripe, nor `{NO_STATUS}`"));
        }
    }

    fn matches(&self, entitlement: &Entitlement) -> bool {
        let allows =
            |filter: &[String], word: &str| filter.is_empty() || filter.iter().any(|one| one == word);
        allows(&self.plan, plan(entitlement))
            && allows(&self.status, entitlement.status.as_ref().map_or(NO_STATUS, Status::as_str))
            && self.access.is_none_or(|access| access == entitlement.access)
    }
}

fn plan(entitlement: &Entitlement) -> &str {
    entitlement.plan.as_ref().map_or("free", PlanName::as_str)
}

fn as_json((tenant, entitlement): &ListedTenant) -> Value {
    json!({
        "tenant": tenant.id,
        "customer": tenant.customer,
        "subscription": subscription_json(&tenant.id, entitlement),
    })
}

fn as_table(tenants: &[ListedTenant]) -> String {
    let time = |seconds: Option<i64>| or_dash(seconds.map(time_of_seconds));
    let row = |(tenant, entitlement): &ListedTenant| {
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
    table::with_heading(heading, &tenants.iter().map(row).collect::<Vec<_>>())
}
