//! `billhook tenant show`

use clap::Args;
use poem_openapi::types::ToJSON;
use serde_json::{Value, json};

use super::timeline;
use crate::cli::table;
use crate::cli::text::{or_dash, time_of_seconds};
use crate::cli::{CommandError, open_store, print, print_json, warn_without_plans};
use crate::config::{self, DatabaseArgs, PlanArgs};
use crate::domain::ids::{CustomerId, PlanName, TenantId};
use crate::domain::known_prices::KnownPrices;
use crate::domain::plan::{AccessDenial, Catalog, Entitlement, Recognition};
use crate::domain::subscription::{self, PaymentProblem};
use crate::domain::tenant::Tenant;
use crate::http::Subscription;

#[derive(Args)]
pub(in crate::cli) struct ShowArgs {
    /// The tenant, as tokens name it
    tenant: String,

    /// Show what happened to the tenant instead, the oldest first, each entry with its trace id
    #[arg(long)]
    timeline: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    plans: PlanArgs,
}

pub(super) async fn run(args: &ShowArgs) -> Result<(), CommandError> {
    let id = config::parse_stored_tenant("TENANT", &args.tenant)?;
    let catalog = args.plans.read()?;
    warn_without_plans(&catalog);
    let store = open_store(&args.database).await?;
    let Some(tenant) = store.tenant(&id).await? else {
        return Err(CommandError::Failed(format!("tenant {id} is not known: nothing is stored about it")));
    };
    if args.timeline {
        return timeline::show(&store, &id, args.json).await;
    }
    let state = store.billing_state(&id).await?;
    let known = store.known_prices(&catalog.prices_not_configured_by_id(&state.subscriptions)).await?;
    let details = TenantDetails {
        entitlement: catalog.entitlement(&state, &known),
        other_customers: store.other_customers_of(&id).await?,
        tenant,
        subscriptions: state.subscriptions,
        catalog,
        known,
    };
    if args.json { print_json(&details.as_json()) } else { print(&details.as_text()) }
}

/// What the service's API returns for a tenant, without `may_manage`, which depends on the caller's
/// token.
pub(super) fn subscription_json(tenant: &TenantId, entitlement: &Entitlement) -> Value {
    let mut json = Subscription::new(tenant, entitlement, false).to_json().unwrap_or_default();
    json.as_object_mut().map(|fields| fields.remove("may_manage"));
    json
}

struct TenantDetails {
    tenant: Tenant,
    entitlement: Entitlement,
    subscriptions: Vec<subscription::Subscription>,
    /// Customers with metadata that names the tenant, and that are not linked to it.
    other_customers: Vec<CustomerId>,
    catalog: Catalog,
    known: KnownPrices,
}

impl TenantDetails {
    fn as_json(&self) -> Value {
        let subscription = |subscription: &subscription::Subscription| {
            json!({
                "id": subscription.id,
                "customer": subscription.customer,
                "status": subscription.state.status.as_str(),
                "prices": subscription.state.items.iter().map(|item| &item.price).collect::<Vec<_>>(),
                "awaiting_payment": subscription.awaiting_payment,
                "access_withheld": self.withheld(subscription).map(Withheld::as_str),
                "payment_problem": subscription.payment_problem.map(PaymentProblem::as_str),
            })
        };
        json!({
            "tenant": self.tenant.id,
            "customer": self.tenant.customer,
            "other_customers": self.other_customers,
            "journey_id": self.tenant.journey.map(|journey| journey.id().to_string()),
            "subscription": subscription_json(&self.tenant.id, &self.entitlement),
            "subscriptions": self.subscriptions.iter().map(subscription).collect::<Vec<_>>(),
        })
    }

    fn as_text(&self) -> String {
        let Self { tenant, entitlement, .. } = self;
        let time = |seconds: Option<i64>| or_dash(seconds.map(time_of_seconds));
        let mut identity =
            vec![("tenant", tenant.id.to_string()), ("customer", or_dash(tenant.customer.as_ref()))];
        let names_tenant = |other: &CustomerId| format!("{other}, with metadata that names this tenant");
        identity.extend(self.other_customers.iter().map(|other| ("other_customer", names_tenant(other))));
        identity.push(("journey_id", or_dash(tenant.journey.map(|journey| journey.id()))));
        let granted = [
            ("plan", entitlement.plan.as_ref().map_or("free", PlanName::as_str).to_owned()),
            ("access", entitlement.access.to_string()),
            ("status", or_dash(entitlement.status.as_ref())),
            ("scheduled_cancel", entitlement.scheduled_cancel.to_string()),
            ("cancel_at", time(entitlement.cancel_at)),
        ];
        let billing = [
            ("price", or_dash(entitlement.price.as_ref())),
            ("quantity", or_dash(entitlement.quantity)),
            ("current_period_end", time(entitlement.current_period_end)),
            ("trial_end", time(entitlement.trial_end)),
            ("can_manage", entitlement.can_manage.to_string()),
        ];
        let as_of = entitlement.as_of.map(|at| format!("{}, by Stripe's clock", time_of_seconds(at)));
        let mut billing = table::fields(&billing);
        if !self.subscriptions.is_empty() {
            let rows: Vec<_> = self.subscriptions.iter().map(|subscription| self.row(subscription)).collect();
            billing.push('\n');
            billing.push_str(&table::with_heading(["SUBSCRIPTION", "STATUS", "ACCESS"], &rows));
        }
        [
            format!("TENANT\n{}", table::fields(&identity)),
            format!("ENTITLEMENT\n{}", table::fields(&granted)),
            format!("BILLING\n{billing}"),
            format!("LAST CHANGE\n{}", table::fields(&[("as_of", or_dash(as_of))])),
        ]
        .join("\n\n")
    }

    /// Why a subscription does not grant a plan.
    fn withheld(&self, subscription: &subscription::Subscription) -> Option<Withheld> {
        let denial = self.catalog.access_denial(subscription).map(Withheld::Denied);
        denial.or_else(|| {
            let recognition = self.catalog.recognise(&subscription.state.items, &self.known);
            (recognition == Recognition::Unknown).then_some(Withheld::NoPlan)
        })
    }

    fn row(&self, subscription: &subscription::Subscription) -> [String; 3] {
        let subscription::State { status, items, .. } = &subscription.state;
        let access = match (self.withheld(subscription), items.first()) {
            (Some(Withheld::NoPlan), Some(item)) => {
                format!("true, but no plan has {}; add it to BILLHOOK_PLANS", item.price)
            }
            (None | Some(Withheld::NoPlan), _) => "true".into(),
            (Some(Withheld::Denied(AccessDenial::AwaitingPayment)), _) => {
                "false until the first payment arrives".into()
            }
            (Some(Withheld::Denied(AccessDenial::Status)), _) if status.is_final() => {
                "false: the subscription has ended".into()
            }
            (Some(Withheld::Denied(AccessDenial::Status)), _) => "false: this status grants none".into(),
        };
        [subscription.id.to_string(), status.to_string(), access]
    }
}

#[derive(Clone, Copy)]
enum Withheld {
    Denied(AccessDenial),
    /// No plan has the subscription's prices.
    NoPlan,
}

impl Withheld {
    fn as_str(self) -> &'static str {
        match self {
            Self::Denied(denial) => denial.as_str(),
            Self::NoPlan => "price_not_configured",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::LINE_WIDTH;
    use crate::domain::ids::{PriceId, SubscriptionId};
    use crate::domain::subscription::{Item, State, Status};
    use crate::domain::tenant::BillingState;

    #[test]
    fn price_without_a_plan_is_named() {
        let price = PriceId::parse("price_1PgafmB7WZ01zgkW6dKueIc5").expect("a price");
        let subscription = subscription::Subscription {
            id: SubscriptionId::parse("sub_1").expect("an id"),
            customer: CustomerId::parse("cus_1").expect("an id"),
            state: State {
                status: Status::Active,
                started_at: None,
                items: vec![Item { price: price.clone(), lookup_key: None, quantity: Some(1) }],
                current_period_end: None,
                trial_end: None,
                cancel_at: None,
                cancel_at_period_end: false,
                ended_at: None,
            },
            as_of: 1_796_064_643,
            revision: 1,
            awaiting_payment: false,
            payment_problem: None,
            payment_noted_at: None,
            paid_at: None,
        };
        let details = |plans: &str| {
            let catalog = Catalog::parse(plans, true).expect("plans");
            let state = BillingState { has_customer: true, subscriptions: vec![subscription.clone()] };
            TenantDetails {
                tenant: Tenant::new(TenantId::parse("acme").expect("an id")),
                entitlement: catalog.entitlement(&state, &KnownPrices::default()),
                subscriptions: state.subscriptions,
                other_customers: Vec::new(),
                catalog,
                known: KnownPrices::default(),
            }
        };

        let unknown = details("pro=price_a");
        let text = unknown.as_text();
        assert!(text.contains(&format!("true, but no plan has {price}; add it to BILLHOOK_PLANS")), "{text}");
        assert!(text.contains("2026-11-30T18:50:43Z, by Stripe's clock"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= LINE_WIDTH), "{text}");
        assert_eq!(unknown.as_json()["subscriptions"][0]["access_withheld"], "price_not_configured");

        let known = details(&format!("pro={price}"));
        assert!(known.as_text().contains("sub_1         active  true\n"), "{}", known.as_text());
        assert_eq!(known.as_json()["subscriptions"][0]["access_withheld"], Value::Null);
    }
}
