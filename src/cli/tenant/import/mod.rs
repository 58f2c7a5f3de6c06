//! `billhook tenant import`: links the tenants of another integration to their customers, from a CSV file, which `lines`
//! reads.

mod lines;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::billing;
use crate::billing::{Billing, Linked, Run, link_tenants};
use crate::cli::reconcile::{self, Tally};
use crate::cli::{CommandError, guarded_mode, migrated, progress, say, warn_without_plans, without_a_key};
use crate::config::{DatabaseArgs, EventPolicyArgs, LogDirArgs, StripeApiArgs};
use crate::domain::ids::{CustomerId, TenantId};
use crate::domain::unit_of_work::{LinkRefusal, cause};
use crate::store::{StoreError, StoreFailure};
use lines::{Line, Lines, NoLines};

/// How many tenants are linked in one transaction: enough to share the cost of a commit, few enough that its locks are
/// short.
const BATCH: usize = 64;

/// How many refused lines are listed in JSON: who has more of them has the wrong file. All are told on stderr.
const REFUSED_LISTED: usize = 1000;

/// How the file looks, for the help.
pub(super) const FILE: &str = "\
The file is CSV in UTF-8; its first line names the columns, of which `tenant` and `customer` are read:

    tenant,customer
    acme,cus_Na6dX7aXxi11N4

Importing twice is importing once: what is linked already is passed over, so an import that was interrupted is begun again.";

#[derive(Args)]
pub(in crate::cli) struct ImportArgs {
    /// The CSV file
    file: PathBuf,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Leave it to the service to ask Stripe what the customers have
    #[arg(long)]
    no_reconcile: bool,

    /// Print JSON, for tools
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
    let asks = !(args.dry_run || args.no_reconcile);
    let stripe = args.stripe.read()?;
    if asks && stripe.secret_key.is_none() {
        return Err(without_a_key());
    }
    let config = args.events.read()?;
    warn_without_plans(&config.catalog);
    let store = migrated(&args.database).await?;
    if !args.dry_run {
        guarded_mode(&store, stripe.mode()).await?;
    }
    let mut billing = billing(store, config, &args.logs).await?;
    billing.stripe = crate::cli::stripe(&stripe, &billing.metrics)?;

    let mut import = Import::new(&billing, if args.dry_run { Run::Dry } else { Run::Real });
    import.file(&args.file).await?;
    let reconciled = if asks { Some(reconcile::new_links(&billing).await) } else { None };
    let compared = reconciled.as_ref().and_then(|reconciled| reconciled.as_ref().ok());
    say(&if args.json { import.as_json(compared) } else { import.as_lines(compared) })?;
    import.conclude(reconciled.transpose()?.as_ref())
}

/// How far it got.
struct Import<'a> {
    billing: &'a Billing,
    run: Run,
    lines: u64,
    linked: u64,
    linked_before: u64,
    refused: u64,
    refused_lines: Vec<Value>,
    promised: Promised,
}

/// What a dry run has promised to earlier batches, since it leaves no trace in the database.
#[derive(Default)]
struct Promised {
    customers: HashMap<TenantId, CustomerId>,
    tenants: HashMap<CustomerId, TenantId>,
}

/// A line that can be understood.
struct Wanted {
    number: u64,
    link: (TenantId, CustomerId),
}

/// What came of a line, or why nothing did.
type Came = Result<Linked, String>;

fn in_words(came: Result<Linked, LinkRefusal>) -> Came {
    came.map_err(|refusal| refusal.to_string())
}

impl Promised {
    /// What comes of a link by what was promised before, if that has to do with it.
    fn says(&self, (tenant, customer): &(TenantId, CustomerId)) -> Option<Came> {
        match (self.customers.get(tenant), self.tenants.get(customer)) {
            (None, None) => None,
            (Some(promised), _) if promised == customer => Some(Ok(Linked::Before)),
            (_, Some(_)) => Some(in_words(Err(LinkRefusal::CustomerHasTenant))),
            (Some(_), None) => Some(in_words(Err(LinkRefusal::TenantHasCustomer))),
        }
    }

    fn keep(&mut self, (tenant, customer): (TenantId, CustomerId)) {
        self.tenants.insert(customer.clone(), tenant.clone());
        self.customers.insert(tenant, customer);
    }
}

impl<'a> Import<'a> {
    fn new(billing: &'a Billing, run: Run) -> Self {
        let (refused_lines, promised) = (Vec::new(), Promised::default());
        Self { billing, run, lines: 0, linked: 0, linked_before: 0, refused: 0, refused_lines, promised }
    }

    async fn file(&mut self, path: &Path) -> Result<(), CommandError> {
        let cannot = |error: NoLines| CommandError::Failed(format!("{} {error}", path.display()));
        let (mut lines, bytes) = Lines::open(path).map_err(cannot)?;
        let bar = progress(bytes, "{percent} % of the file");
        while let Some(batch) = self.batch(&mut lines, &bar).map_err(|error| cannot(error.into()))? {
            self.link(batch, &bar).await?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The next lines that can be understood; none at the end of the file.
    fn batch(
        &mut self,
        lines: &mut Lines<File>,
        bar: &ProgressBar,
    ) -> Result<Option<Vec<Wanted>>, io::Error> {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            let Some((Line { number, says }, bytes)) = lines.next()? else {
                return Ok(Some(batch).filter(|batch| !batch.is_empty()));
            };
            bar.inc(bytes);
            self.lines += 1;
            match says {
                Ok(link) => batch.push(Wanted { number, link }),
                Err(bad) => self.refuse(number, None, &bad.to_string(), bar)?,
            }
        }
        Ok(Some(batch))
    }

    async fn link(&mut self, batch: Vec<Wanted>, bar: &ProgressBar) -> Result<(), CommandError> {
        let said: Vec<Option<Came>> = batch.iter().map(|wanted| self.promised.says(&wanted.link)).collect();
        let open = batch.iter().zip(&said).filter(|(_, said)| said.is_none());
        let open: Vec<_> = open.map(|(wanted, _)| wanted.link.clone()).collect();
        let mut came = self.link_all(&open).await?.into_iter();
        for (Wanted { number, link }, said) in batch.into_iter().zip(said) {
            match said.or_else(|| came.next()) {
                Some(Ok(Linked::Now)) => {
                    self.linked += 1;
                    if self.run == Run::Dry {
                        self.promised.keep(link);
                    }
                }
                Some(Ok(Linked::Before)) => self.linked_before += 1,
                Some(Err(reason)) => self.refuse(number, Some(&link.0), &reason, bar)?,
                None => {}
            }
        }
        Ok(())
    }

    /// If something about one of the tenants is more than the database takes, each is linked alone, so that it holds up
    /// no other.
    async fn link_all(&self, links: &[(TenantId, CustomerId)]) -> Result<Vec<Came>, StoreError> {
        match link_tenants(self.billing, links, cause::OPERATOR, self.run).await {
            Err(error) if error.failure() == StoreFailure::Refused => self.link_one_by_one(links).await,
            came => Ok(came?.into_iter().map(in_words).collect()),
        }
    }

    async fn link_one_by_one(&self, links: &[(TenantId, CustomerId)]) -> Result<Vec<Came>, StoreError> {
        let mut all = Vec::with_capacity(links.len());
        for link in links {
            match link_tenants(self.billing, std::slice::from_ref(link), cause::OPERATOR, self.run).await {
                Err(error) if error.failure() == StoreFailure::Refused => all.push(Err(error.to_string())),
                came => all.extend(came?.into_iter().map(in_words)),
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
        if self.refused_lines.len() < REFUSED_LISTED {
            self.refused_lines.push(json!({ "line": number, "tenant": tenant, "reason": reason }));
        }
        let tenant = tenant.map(|tenant| format!("{tenant}: ")).unwrap_or_default();
        bar.suspend(|| writeln!(io::stderr(), "billhook: line {number}: {tenant}{reason}"))
    }

    fn as_json(&self, compared: Option<&Tally>) -> String {
        let json = json!({
            "lines": self.lines,
            "linked": self.linked,
            "linked_before": self.linked_before,
            "refused": self.refused,
            "refused_lines": self.refused_lines,
            "dry_run": self.run == Run::Dry,
            "reconciled": compared.map(|Tally { compared, left, failed, .. }| {
                json!({ "compared": compared, "left": left, "failed": failed })
            }),
        });
        format!("{json:#}")
    }

    fn as_lines(&self, compared: Option<&Tally>) -> String {
        let Self { lines, linked, linked_before, refused, .. } = self;
        let done = if self.run == Run::Dry { "Would link" } else { "Linked" };
        let mut told = format!(
            "{done} {linked} tenants; {linked_before} were linked before, {refused} of {lines} lines are refused."
        );
        if let Some(Tally { compared, .. }) = compared {
            _ = write!(told, "\nAsked Stripe what {compared} of the customers have.");
        }
        told
    }

    /// Success if every line is linked and every customer is as Stripe says.
    fn conclude(&self, compared: Option<&Tally>) -> Result<(), CommandError> {
        let mut faults = Vec::new();
        if self.refused > 0 {
            faults.push(format!("{} of {} lines are refused", self.refused, self.lines));
        }
        if let Some(Tally { left, failed, .. }) =
            compared.filter(|compared| compared.left + compared.failed > 0)
        {
            faults.push(format!(
                "{left} customers are not here as at Stripe, {failed} could not be asked about"
            ));
        }
        if faults.is_empty() { Ok(()) } else { Err(CommandError::Failed(faults.join("; "))) }
    }
}
