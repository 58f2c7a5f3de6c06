//! `billhook tenant import`: links tenants to the Stripe customers of another integration.
//! `csv_lines` reads the file.

mod csv_lines;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::billing;
use crate::billing::{Billing, LinkOutcome, RunMode, link_tenants};
use crate::cli::reconcile::{self, Tally};
use crate::cli::text::count;
use crate::cli::{
    CommandError, missing_key_error, open_store, print, print_json, progress_bar, resolve_mode,
    stripe_client, warn_without_plans,
};
use crate::config::{DatabaseArgs, EventPolicyArgs, LogDirArgs, StripeApiArgs};
use crate::domain::batch::{LinkRefusal, cause};
use crate::domain::ids::{CustomerId, TenantId};
use crate::store::{StoreError, StoreErrorKind};
use csv_lines::{CsvError, CsvLine, CsvLines};

/// The lines of one transaction: enough to share the cost of a commit, and few enough to hold its
/// locks only briefly.
const BATCH_LINES: usize = 64;

/// The refused lines in JSON. With more of them it is probably the wrong file. stderr has all of
/// them.
const MAX_LISTED_REFUSALS: usize = 1000;

pub(super) const AFTER_HELP: &str = "\
The file is CSV in UTF-8. Its first line names the columns, of which `tenant` and
`customer` are read:

    tenant,customer
    acme,cus_Na6dX7aXxi11N4

It is safe to run again: tenants that are linked already are skipped. Run an
interrupted import again to finish it.";

#[derive(Args)]
pub(in crate::cli) struct ImportArgs {
    /// The CSV file
    file: PathBuf,

    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,

    /// Let the service fetch the customers' subscriptions from Stripe
    #[arg(long)]
    no_reconcile: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    events: EventPolicyArgs,

    #[command(flatten)]
    stripe: StripeApiArgs,

    #[command(flatten)]
    logs: LogDirArgs,
}

pub(super) async fn run(args: &ImportArgs) -> Result<(), CommandError> {
    let should_reconcile = !(args.dry_run || args.no_reconcile);
    let stripe = args.stripe.read()?;
    if should_reconcile && stripe.secret_key.is_none() {
        return Err(missing_key_error());
    }
    let config = args.events.read()?;
    warn_without_plans(&config.catalog);
    let store = open_store(&args.database).await?;
    if !args.dry_run {
        resolve_mode(&store, stripe.mode()).await?;
    }
    let mut billing = billing(store, config, &args.logs).await?;
    billing.stripe = stripe_client(&stripe, &billing.metrics)?;

    let mut import = Import::new(&billing, if args.dry_run { RunMode::DryRun } else { RunMode::Apply });
    import.file(&args.file).await?;
    let reconciled = if should_reconcile { Some(reconcile::new_links(&billing).await) } else { None };
    let compared = reconciled.as_ref().and_then(|reconciled| reconciled.as_ref().ok());
    if args.json { print_json(&import.as_json(compared)) } else { print(&import.as_text(compared)) }?;
    import.conclude(reconciled.transpose()?.as_ref())
}

struct Import<'a> {
    billing: &'a Billing,
    run: RunMode,
    lines: u64,
    linked: u64,
    linked_before: u64,
    refused: u64,
    refused_lines: Vec<Value>,
    planned: PlannedLinks,
}

/// The links that a dry run would have created in earlier batches, since it does not write them to
/// the database.
#[derive(Default)]
struct PlannedLinks {
    customers: HashMap<TenantId, CustomerId>,
    tenants: HashMap<CustomerId, TenantId>,
}

/// What happened to a line, or why it was refused.
type LineResult = Result<LinkOutcome, String>;

fn line_result(outcome: Result<LinkOutcome, LinkRefusal>) -> LineResult {
    outcome.map_err(|refusal| refusal.to_string())
}

impl PlannedLinks {
    /// The result of a link if an earlier planned link decides it.
    fn check(&self, (tenant, customer): &(TenantId, CustomerId)) -> Option<LineResult> {
        match (self.customers.get(tenant), self.tenants.get(customer)) {
            (None, None) => None,
            (Some(planned), _) if planned == customer => Some(Ok(LinkOutcome::AlreadyLinked)),
            (_, Some(_)) => Some(line_result(Err(LinkRefusal::CustomerHasTenant))),
            (Some(_), None) => Some(line_result(Err(LinkRefusal::TenantHasCustomer))),
        }
    }

    fn add(&mut self, (tenant, customer): (TenantId, CustomerId)) {
        self.tenants.insert(customer.clone(), tenant.clone());
        self.customers.insert(tenant, customer);
    }
}

impl<'a> Import<'a> {
    fn new(billing: &'a Billing, run: RunMode) -> Self {
        let (refused_lines, planned) = (Vec::new(), PlannedLinks::default());
        Self { billing, run, lines: 0, linked: 0, linked_before: 0, refused: 0, refused_lines, planned }
    }

    async fn file(&mut self, path: &Path) -> Result<(), CommandError> {
        let file_error = |error: CsvError| CommandError::Failed(format!("{} {error}", path.display()));
        let (mut lines, bytes) = CsvLines::open(path).map_err(file_error)?;
        let bar = progress_bar(bytes, "{percent} % of the file");
        loop {
            let batch = next_batch(&mut lines, &bar).map_err(|error| file_error(error.into()))?;
            if batch.is_empty() {
                break;
            }
            self.lines += batch.len() as u64;
            self.link(batch, &bar).await?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Links the tenants of a batch, and reports its refused lines in the order of the file.
    async fn link(&mut self, batch: Vec<CsvLine>, bar: &ProgressBar) -> Result<(), CommandError> {
        let decided = |line: &CsvLine| match &line.link {
            Ok(link) => self.planned.check(link),
            Err(error) => Some(Err(error.to_string())),
        };
        let decided: Vec<Option<LineResult>> = batch.iter().map(decided).collect();
        let open = batch.iter().zip(&decided).filter(|(_, decided)| decided.is_none());
        let open: Vec<_> = open.filter_map(|(line, _)| line.link.clone().ok()).collect();
        let mut results = self.link_all(&open).await?.into_iter();
        for (CsvLine { number, link }, decided) in batch.into_iter().zip(decided) {
            match (decided.or_else(|| results.next()), link) {
                (Some(Ok(LinkOutcome::Linked)), link) => {
                    self.linked += 1;
                    if let (RunMode::DryRun, Ok(link)) = (self.run, link) {
                        self.planned.add(link);
                    }
                }
                (Some(Ok(LinkOutcome::AlreadyLinked)), _) => self.linked_before += 1,
                (Some(Err(reason)), link) => {
                    let tenant = link.ok().map(|(tenant, _)| tenant);
                    self.refuse(number, tenant.as_ref(), &reason, bar)?;
                }
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// If the database rejects the batch, links each tenant alone, so that one tenant does not
    /// block the others.
    async fn link_all(&self, links: &[(TenantId, CustomerId)]) -> Result<Vec<LineResult>, StoreError> {
        match link_tenants(self.billing, links, cause::OPERATOR, self.run).await {
            Err(error) if error.kind() == StoreErrorKind::Rejected => self.link_one_by_one(links).await,
            outcomes => Ok(outcomes?.into_iter().map(line_result).collect()),
        }
    }

    async fn link_one_by_one(&self, links: &[(TenantId, CustomerId)]) -> Result<Vec<LineResult>, StoreError> {
        let mut all = Vec::with_capacity(links.len());
        for link in links {
            match link_tenants(self.billing, std::slice::from_ref(link), cause::OPERATOR, self.run).await {
                Err(error) if error.kind() == StoreErrorKind::Rejected => all.push(Err(error.to_string())),
                outcomes => all.extend(outcomes?.into_iter().map(line_result)),
            }
        }
        Ok(all)
    }

    fn refuse(
        &mut self,
        number: u64,
        tenant: Option<&TenantId>,
        reason: &str,
        bar: &ProgressBar,
    ) -> Result<(), io::Error> {
        self.refused += 1;
        if self.refused_lines.len() < MAX_LISTED_REFUSALS {
            self.refused_lines.push(json!({ "line": number, "tenant": tenant, "reason": reason }));
        }
        let tenant = tenant.map(|tenant| format!("{tenant}: ")).unwrap_or_default();
        bar.suspend(|| writeln!(io::stderr(), "billhook: line {number}: {tenant}{reason}"))
    }

    fn as_json(&self, compared: Option<&Tally>) -> Value {
        json!({
            "lines": self.lines,
            "linked": self.linked,
            "linked_before": self.linked_before,
            "refused": self.refused,
            "refused_lines": self.refused_lines,
            "dry_run": self.run == RunMode::DryRun,
            "reconciled": compared.map(|Tally { compared, left, failed, .. }| {
                json!({ "compared": compared, "left": left, "failed": failed })
            }),
        })
    }

    fn as_text(&self, compared: Option<&Tally>) -> String {
        let Self { lines, linked, linked_before, refused, .. } = self;
        let done = if self.run == RunMode::DryRun { "Would link" } else { "Linked" };
        let mut text = format!(
            "{done} {}; {linked_before} linked already; {refused} of {} refused.",
            count(*linked, "tenant"),
            count(*lines, "line"),
        );
        if let Some(Tally { compared, .. }) = compared {
            _ = write!(text, "\nFetched the subscriptions of {} from Stripe.", count(*compared, "customer"));
        }
        text
    }

    /// Success if every line is linked and every customer agrees with Stripe.
    fn conclude(&self, compared: Option<&Tally>) -> Result<(), CommandError> {
        let mut problems = Vec::new();
        if self.refused > 0 {
            problems.push(format!("{} of {} refused", self.refused, count(self.lines, "line")));
        }
        if let Some(Tally { left, failed, .. }) =
            compared.filter(|compared| compared.left + compared.failed > 0)
        {
            problems.push(format!(
                "customers that still differ from Stripe: {left}, that could not be compared: {failed}"
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(CommandError::Failed(problems.join("; "))) }
    }
}

/// Reads the next lines; none at the end of the file.
fn next_batch(lines: &mut CsvLines<File>, bar: &ProgressBar) -> Result<Vec<CsvLine>, io::Error> {
    let mut batch = Vec::with_capacity(BATCH_LINES);
    while batch.len() < BATCH_LINES {
        let Some((line, bytes)) = lines.next()? else { break };
        bar.inc(bytes);
        batch.push(line);
    }
    Ok(batch)
}
