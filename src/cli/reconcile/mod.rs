//! `billhook reconcile`: compares every linked customer with Stripe. `told` is what is printed of a difference.

mod told;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    CommandError, at_the_command_line, migrated, policy_without_events, progress, say, without_a_key,
};
use crate::billing::{self, Billing, BillingError, Comparison};
use crate::config::{self, DatabaseArgs, LogDirArgs, StripeAccountArgs, StripeApiArgs};
use crate::domain::ids::{CustomerId, TenantId};
use crate::store::StoreError;
use told::{Came, Told};

/// What a bar counts.
const TENANTS: &str = "{pos} of {len} tenants";

/// How many tenants are read at once.
const PAGE: u64 = 500;

/// How many customers are asked about at once: twice what the budget needs at Stripe's usual fifth of a second, so that a
/// slow answer leaves none of it unused.
const AT_ONCE: usize = 4;

/// How many tenants in a row may fail to be compared.
const PATIENCE: u64 = 5;

#[derive(Args)]
pub(super) struct ReconcileArgs {
    /// Compare this tenant alone
    #[arg(long)]
    tenant: Option<String>,

    /// Take over what Stripe says; without it nothing is changed
    #[arg(long)]
    apply: bool,

    /// Print JSON, for tools
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

/// How many tenants were compared, of how many Stripe said something else, before and after, and how many could not be
/// compared.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) compared: u64,
    found: u64,
    pub(super) left: u64,
    pub(super) failed: u64,
    failed_in_a_row: u64,
}

pub(super) async fn run(args: &ReconcileArgs) -> Result<(), CommandError> {
    let tenant = args.tenant.as_deref().map(|text| config::stored_tenant("--tenant", text)).transpose()?;
    let (config, account) = (args.stripe.read()?, args.account.read()?);
    if config.secret_key.is_none() {
        return Err(without_a_key());
    }
    let store = migrated(&args.database).await?;
    let policy = policy_without_events(&store, &config, account).await?;
    let billing = at_the_command_line(store, Some(&config), policy, &args.logs)?;
    // People are told as it goes, tools in the end.
    let for_tools = RefCell::new(Vec::new());
    let tell = |told: &Told<'_>| {
        if args.json {
            for_tools.borrow_mut().extend(told.as_json());
            Ok(())
        } else {
            told.lines().iter().try_for_each(|line| say(line))
        }
    };
    let tally = match &tenant {
        Some(tenant) => one(&billing, tenant, args.apply, tell).await?,
        None => all(&billing, args.apply, tell).await?,
    };
    if args.json {
        say(&format!("{:#}", tally.as_json(&for_tools.take())))?;
    }
    conclude(&tally, args)
}

async fn one(
    billing: &Billing,
    tenant: &TenantId,
    apply: bool,
    tell: impl Fn(&Told<'_>) -> Result<(), CommandError>,
) -> Result<Tally, CommandError> {
    let customer = billing.store.tenant(tenant).await?.and_then(|tenant| tenant.customer);
    let Some(customer) = customer else {
        return Err(CommandError::Failed(format!(
            "tenant {tenant} has no customer at Stripe: link one with `billhook tenant link {tenant} cus_...`"
        )));
    };
    let comparison = billing::reconcile(billing, tenant, &customer, apply).await;
    let mut tally = Tally::default();
    tally.add(tenant, &customer, comparison, tell)?;
    Ok(tally)
}

async fn all(
    billing: &Billing,
    apply: bool,
    tell: impl Fn(&Told<'_>) -> Result<(), CommandError>,
) -> Result<Tally, CommandError> {
    let bar = progress(billing.store.count_linked_tenants().await?, TENANTS);
    let mut tally = Tally::default();
    let mut after = None;
    loop {
        let linked = billing.store.linked_tenants(after.as_ref(), PAGE).await?;
        let Some((last, _)) = linked.last() else { break };
        after = Some(last.clone());
        let mut compared = stream::iter(&linked)
            .map(|(tenant, customer)| async move {
                (tenant, customer, billing::reconcile(billing, tenant, customer, apply).await)
            })
            .buffered(AT_ONCE);
        while let Some((tenant, customer, comparison)) = compared.next().await {
            tally.add(tenant, customer, comparison, |told| bar.suspend(|| tell(told)))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(tally)
}

/// Takes over what Stripe says of every customer that was linked and that nobody has asked about yet, and tells on stderr
/// what it cannot. Whoever ends it in the midst of it leaves the rest to the service.
pub(super) async fn new_links(billing: &Billing) -> Result<Tally, CommandError> {
    let bar = progress(billing.store.count_open_links().await?, TENANTS);
    let tell = |told: &Told<'_>| {
        bar.suspend(|| told.lines().iter().try_for_each(|line| Ok(writeln!(io::stderr(), "{line}")?)))
    };
    let mut tally = Tally::default();
    let mut after = None;
    loop {
        let open = billing.store.open_links(after.as_ref(), PAGE).await?;
        let Some(last) = open.last() else { break };
        after = Some(last.customer.clone());
        let mut compared = stream::iter(&open)
            .map(|link| async move {
                let compared = billing::reconcile(billing, &link.tenant, &link.customer, true).await;
                if compared.as_ref().is_ok_and(|comparison| comparison.left.is_empty()) {
                    billing.store.settle_link(link).await?;
                }
                Ok::<_, StoreError>((link, compared))
            })
            .buffered(AT_ONCE);
        while let Some(compared) = compared.next().await {
            let (link, comparison) = compared?;
            // That there is much to take over goes without saying.
            let comparison = comparison.map(|Comparison { found, left }| Comparison {
                found: found.into_iter().filter(|drift| left.contains(drift)).collect(),
                left,
            });
            tally.add(&link.tenant, &link.customer, comparison, tell)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(tally)
}

impl Tally {
    /// Tells what a comparison came to and counts it. A tenant that cannot be compared holds up nobody else; but when one
    /// after the other cannot, Stripe or the database is in trouble, and the run ends.
    fn add(
        &mut self,
        tenant: &TenantId,
        customer: &CustomerId,
        comparison: Result<Comparison, BillingError>,
        tell: impl Fn(&Told<'_>) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let Comparison { found, left } = match comparison {
            Ok(comparison) => comparison,
            Err(error) => {
                self.failed += 1;
                self.failed_in_a_row += 1;
                if self.failed_in_a_row == PATIENCE {
                    return Err(CommandError::Failed(format!(
                        "after {} tenants, {PATIENCE} in a row cannot be compared, the last of them {tenant}: {error}; \
                         run it again later, what was mended stays mended",
                        self.compared
                    )));
                }
                return tell(&Told { tenant, customer, came: Came::Failed(&error) });
            }
        };
        self.failed_in_a_row = 0;
        self.compared += 1;
        self.found += u64::from(!found.is_empty());
        self.left += u64::from(!left.is_empty());
        for drift in &found {
            tell(&Told { tenant, customer, came: Came::Drift { drift, mended: !left.contains(drift) } })?;
        }
        Ok(())
    }

    fn as_json(&self, told: &[Value]) -> Value {
        let Self { compared, found, left, failed, .. } = self;
        json!({ "compared": compared, "differed": found, "left": left, "failed": failed, "told": told })
    }
}

/// One sentence, for people or of a failure, and success only if both sides now agree.
fn conclude(tally: &Tally, args: &ReconcileArgs) -> Result<(), CommandError> {
    let Tally { compared, found, left, failed, .. } = tally;
    let mut sentence = format!("{found} of {compared} tenants differed from Stripe");
    match (found, left, args.apply) {
        (0, ..) => {}
        (_, 0, _) => sentence.push_str(", and do no more"),
        (_, left, true) => {
            _ = write!(sentence, ", {left} still do: see the lines without (mended), and Stripe's Dashboard");
        }
        (.., false) => sentence.push_str("; with --apply, what Stripe says is taken over"),
    }
    if *failed > 0 {
        _ = write!(sentence, "; {failed} could not be compared");
    }
    match *left + *failed {
        0 if args.json => Ok(()),
        0 => say(&sentence),
        _ => Err(CommandError::Failed(sentence)),
    }
}
