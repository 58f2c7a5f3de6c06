//! `billhook reconcile`: compares every linked customer with Stripe. `drift_report` describes the
//! differences.

mod drift_report;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::text::count;
use super::{
    CommandError, command_billing, missing_key_error, open_store, policy_without_plans, print, print_json,
    print_sentences, progress_bar,
};
use crate::billing::{self, Billing, BillingError, Comparison};
use crate::config::{self, DatabaseArgs, LogDirArgs, StripeAccountArgs, StripeApiArgs};
use crate::domain::ids::{CustomerId, TenantId};
use crate::store::StoreError;
use drift_report::{DriftReport, Finding};

const BAR_UNITS: &str = "{pos} of {len} tenants";

const TENANTS_PER_QUERY: u64 = 500;

/// Twice what the request budget needs at Stripe's usual 200 ms, so that slow responses do not
/// leave the budget unused.
const CONCURRENT_CUSTOMERS: usize = 4;

/// After so many failures in a row, Stripe or the database has a problem, and the run ends.
const MAX_FAILURES_IN_A_ROW: u64 = 5;

#[derive(Args)]
pub(super) struct ReconcileArgs {
    /// Compare only this tenant
    #[arg(long)]
    tenant: Option<String>,

    /// Store Stripe's state; without it nothing is changed
    #[arg(long)]
    apply: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    stripe: StripeApiArgs,

    #[command(flatten)]
    account: StripeAccountArgs,

    #[command(flatten)]
    logs: LogDirArgs,
}

/// Numbers of tenants.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) compared: u64,
    /// Differed from Stripe before the run.
    differed: u64,
    /// Still differ.
    pub(super) left: u64,
    /// Could not be compared.
    pub(super) failed: u64,
    failed_in_a_row: u64,
}

pub(super) async fn run(args: &ReconcileArgs) -> Result<(), CommandError> {
    let tenant =
        args.tenant.as_deref().map(|text| config::parse_stored_tenant("--tenant", text)).transpose()?;
    let (config, account) = (args.stripe.read()?, args.account.read()?);
    if config.secret_key.is_none() {
        return Err(missing_key_error());
    }
    let store = open_store(&args.database).await?;
    let policy = policy_without_plans(&store, &config, account).await?;
    let billing = command_billing(store, Some(&config), policy, &args.logs)?;
    // Text is printed at once, JSON at the end.
    let json = RefCell::new(Vec::new());
    let report = |drift: &DriftReport<'_>| {
        if args.json {
            json.borrow_mut().extend(drift.as_json());
            Ok(())
        } else {
            drift.lines().iter().try_for_each(|line| print(line))
        }
    };
    let tally = match &tenant {
        Some(tenant) => one(&billing, tenant, args.apply, report).await?,
        None => all(&billing, args.apply, report).await?,
    };
    if args.json {
        print_json(&tally.as_json(&json.take()))?;
    }
    conclude(&tally, args)
}

async fn one(
    billing: &Billing,
    tenant: &TenantId,
    apply: bool,
    report: impl Fn(&DriftReport<'_>) -> Result<(), CommandError>,
) -> Result<Tally, CommandError> {
    let customer = billing.store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
    let Some(customer) = customer else {
        return Err(CommandError::Failed(format!(
            "tenant {tenant} has no customer at Stripe: link one with `billhook tenant link {tenant} cus_...`"
        )));
    };
    let comparison = billing::reconcile(billing, tenant, &customer, apply).await;
    let mut tally = Tally::default();
    tally.add(tenant, &customer, comparison, report)?;
    Ok(tally)
}

async fn all(
    billing: &Billing,
    apply: bool,
    report: impl Fn(&DriftReport<'_>) -> Result<(), CommandError>,
) -> Result<Tally, CommandError> {
    let bar = progress_bar(billing.store.count_linked_tenants().await?, BAR_UNITS);
    let mut tally = Tally::default();
    let mut after = None;
    loop {
        let linked = billing.store.linked_tenants(after.as_ref(), TENANTS_PER_QUERY).await?;
        let Some((last, _)) = linked.last() else { break };
        after = Some(last.clone());
        let mut compared = stream::iter(&linked)
            .map(|(tenant, customer)| async move {
                (tenant, customer, billing::reconcile(billing, tenant, customer, apply).await)
            })
            .buffered(CONCURRENT_CUSTOMERS);
        while let Some((tenant, customer, comparison)) = compared.next().await {
            tally.add(tenant, customer, comparison, |drift| bar.suspend(|| report(drift)))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(tally)
}

/// Stores Stripe's state of every customer that was linked and not compared yet, and writes to
/// stderr what could not be stored. If it is interrupted, the service does the rest.
pub(super) async fn new_links(billing: &Billing) -> Result<Tally, CommandError> {
    let bar = progress_bar(billing.store.count_pending_link_refreshes().await?, BAR_UNITS);
    let report = |drift: &DriftReport<'_>| {
        bar.suspend(|| {
            drift.lines().iter().try_for_each(|line| Ok(writeln!(io::stderr(), "billhook: {line}")?))
        })
    };
    let mut tally = Tally::default();
    let mut after = None;
    loop {
        let open = billing.store.pending_link_refreshes(after.as_ref(), TENANTS_PER_QUERY).await?;
        let Some(last) = open.last() else { break };
        after = Some(last.customer.clone());
        let mut compared = stream::iter(&open)
            .map(|link| async move {
                let compared = billing::reconcile(billing, &link.tenant, &link.customer, true).await;
                if compared.as_ref().is_ok_and(|comparison| comparison.left.is_empty()) {
                    billing.store.complete_link_refresh(link).await?;
                }
                Ok::<_, StoreError>((link, compared))
            })
            .buffered(CONCURRENT_CUSTOMERS);
        while let Some(compared) = compared.next().await {
            let (link, comparison) = compared?;
            // After an import most customers differ: report only what could not be stored.
            let comparison = comparison.map(|Comparison { found, left }| Comparison {
                found: found.into_iter().filter(|drift| left.contains(drift)).collect(),
                left,
            });
            tally.add(&link.tenant, &link.customer, comparison, report)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(tally)
}

impl Tally {
    /// Reports and counts a comparison. A tenant that cannot be compared does not stop the run, but
    /// [`MAX_FAILURES_IN_A_ROW`] of them do.
    fn add(
        &mut self,
        tenant: &TenantId,
        customer: &CustomerId,
        comparison: Result<Comparison, BillingError>,
        report: impl Fn(&DriftReport<'_>) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let Comparison { found, left } = match comparison {
            Ok(comparison) => comparison,
            Err(error) => {
                self.failed += 1;
                self.failed_in_a_row += 1;
                if self.failed_in_a_row == MAX_FAILURES_IN_A_ROW {
                    return Err(CommandError::Failed(format!(
                        "after {}, {MAX_FAILURES_IN_A_ROW} in a row could not be compared, the last one {tenant}: {error}. \
                         Run it again later; what was fixed stays fixed",
                        count(self.compared, "tenant")
                    )));
                }
                return report(&DriftReport { tenant, customer, finding: Finding::NotCompared(&error) });
            }
        };
        self.failed_in_a_row = 0;
        self.compared += 1;
        self.differed += u64::from(!found.is_empty());
        self.left += u64::from(!left.is_empty());
        for drift in &found {
            let finding = Finding::Drift { drift, is_fixed: !left.contains(drift) };
            report(&DriftReport { tenant, customer, finding })?;
        }
        Ok(())
    }

    fn as_json(&self, drift: &[Value]) -> Value {
        let Self { compared, differed, left, failed, .. } = self;
        json!({ "compared": compared, "differed": differed, "left": left, "failed": failed, "told": drift })
    }
}

/// Prints a summary. Fails if a tenant still differs or could not be compared.
fn conclude(tally: &Tally, args: &ReconcileArgs) -> Result<(), CommandError> {
    let Tally { compared, differed, left, failed, .. } = tally;
    let mut sentence = format!("{differed} of {} differed from Stripe", count(*compared, "tenant"));
    match (differed, left, args.apply) {
        (0, ..) => {}
        (1, 0, _) => sentence.push_str(" and was fixed"),
        (_, 0, _) => sentence.push_str(" and were fixed"),
        (_, left, true) => {
            let verb = if *left == 1 { "does" } else { "do" };
            _ = write!(
                sentence,
                ", {left} still {verb}: see the lines without (fixed), and Stripe's Dashboard"
            );
        }
        (.., false) => {
            let one = args.tenant.as_ref().map(|tenant| format!(" --tenant {tenant}")).unwrap_or_default();
            _ = write!(sentence, "; run `billhook reconcile{one} --apply` to store Stripe's state");
        }
    }
    if *failed > 0 {
        _ = write!(sentence, "; {failed} could not be compared");
    }
    match *left + *failed {
        0 if args.json => Ok(()),
        0 => print_sentences(&sentence),
        _ => Err(CommandError::Failed(sentence)),
    }
}
