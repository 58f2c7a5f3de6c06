//! Runs a scenario step by step. After each step it checks that a tenant the step did not affect is
//! unchanged.

use std::collections::{BTreeSet, HashMap, HashSet};

use billhook::clock::Clock;
use serde_json::{Value, json};

use super::leak_detector::{LeakDetector, STRANGER};
use super::scenario::{Action, Scenario, StartState, Step};
use super::stream_reader::StreamReader;
use crate::support::app::{TestApp, ended_spans, poll_until_deadline};
use crate::support::database::Database;

/// The rate limit of a tenant, and the time between steps. A step uses no more requests than that
/// time restores, except [`Action::ExceedRateLimit`].
const THROTTLE_PER_MINUTE: &str = "60";
const STEP_SECONDS: u32 = 4;

pub struct Simulation {
    pub app: TestApp,
    pub tenants: [Tenant; 2],
    pub stranger: String,
    pub leaks: LeakDetector,
    /// The owner of each customer and session id.
    pub owners: HashMap<String, usize>,
    /// Events with their owners.
    pub waiting: Vec<(usize, Value)>,
    pub delivered: Vec<(usize, Value)>,
    /// The ids of events already collected from Stripe.
    seen_events: HashSet<String>,
    /// The number of spans that had ended before the scenario.
    pub spans_before: usize,
}

/// One of the two tenants.
pub struct Tenant {
    pub name: String,
    /// Prices that only this tenant buys.
    pub prices: &'static [&'static str],
    pub plan: &'static str,
    /// Its quantities start here, so that both tenants' quantities differ.
    pub first_quantity: u32,
    /// The ETag of its current state.
    pub etag: String,
    /// All ETags it has received.
    pub etags: BTreeSet<String>,
    pub stream: StreamReader,
    pub sessions: Vec<String>,
    pub portal_url: Option<String>,
    /// Whether it has exceeded the rate limit.
    pub is_throttled: bool,
    /// Customers removed at Stripe, whose refreshes never finish.
    pub removed_customers: BTreeSet<String>,
    pub has_bought_with_other_metadata: bool,
}

/// The tenants that a step may change.
#[derive(PartialEq, Eq)]
pub enum Affected {
    None,
    One(usize),
    Both,
}

/// Runs a scenario on a new service. The error names the leak or the failed step.
pub async fn run(database: Database, scenario: &Scenario) -> Result<(), String> {
    let mut simulation = Simulation::start(database, scenario).await?;
    let result = simulation.run_all(scenario).await;
    simulation.app.stop().await;
    result
}

fn actions_of(start_state: StartState) -> Vec<Action> {
    match start_state {
        StartState::Nothing => vec![],
        StartState::AtCheckout => vec![Action::CheckOut],
        StartState::Subscribed => {
            vec![Action::CheckOut, Action::Pay("ok"), Action::Deliver { newest_first: false }]
        }
    }
}

impl Simulation {
    async fn start(database: Database, scenario: &Scenario) -> Result<Self, String> {
        let spans_before = ended_spans().len();
        let app = TestApp::start_with(database, &[("--throttle-per-minute", THROTTLE_PER_MINUTE)]).await;
        app.stripe.inject_fault(&json!({ "deliveries": "drop" })).await;
        app.stripe.set_clock(&json!({ "stopped": true })).await;
        app.wait_for_backfill().await;
        // No other scenario in this process uses it.
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let [first, second] = scenario.names.of(&unique[..12]);
        let stranger = format!("stranger{unique}");
        let tenants = [
            Tenant::start(&app, first, &["price_pro_monthly", "price_pro_yearly"], "pro", 700_000).await?,
            Tenant::start(&app, second, &["price_team_monthly"], "team", 800_000).await?,
        ];
        let mut leaks = LeakDetector::default();
        leaks.name(STRANGER, &stranger);
        for (who, tenant) in tenants.iter().enumerate() {
            leaks.name(who, &tenant.name);
            leaks.buys(who, tenant.prices.iter().map(|price| (*price).to_owned()));
            leaks.buys(who, [tenant.plan.to_owned()]);
            leaks.buys(who, (0..9).map(|more| (tenant.first_quantity + more).to_string()));
        }
        Ok(Self {
            app,
            tenants,
            stranger,
            leaks,
            owners: HashMap::new(),
            waiting: Vec::new(),
            delivered: Vec::new(),
            seen_events: HashSet::new(),
            spans_before,
        })
    }

    async fn run_all(&mut self, scenario: &Scenario) -> Result<(), String> {
        for (who, start_state) in scenario.start.into_iter().enumerate() {
            for action in actions_of(start_state) {
                self.run_step(&Step { who, names_other: false, action }).await?;
            }
        }
        for step in &scenario.steps {
            self.run_step(step).await.map_err(|error| format!("at {step:?}: {error}"))?;
        }
        self.run_step(&Step { who: 0, names_other: false, action: Action::DeliverBoth }).await?;
        self.check_outcome().await
    }

    async fn run_step(&mut self, step: &Step) -> Result<(), String> {
        self.advance(STEP_SECONDS).await;
        let affected = self.act(step).await?;
        self.collect_events().await;
        self.wait_for_refreshes().await?;
        for who in 0..2 {
            let is_affected = affected == Affected::Both || affected == Affected::One(who);
            self.check_tenant(who, is_affected).await?;
        }
        Ok(())
    }

    /// Advances the service's and Stripe's clocks.
    pub async fn advance(&self, seconds: u32) {
        self.app.clock.advance_seconds(seconds.into());
        self.app.stripe.set_clock(&json!({ "advance_seconds": seconds })).await;
    }

    /// Fetches Stripe's new events and assigns them to their owners.
    pub async fn collect_events(&mut self) {
        for event in self.app.stripe.events().await.into_iter().rev() {
            if !self.seen_events.insert(id_of(&event)) {
                continue;
            }
            if let Some(owner) = self.owner_of(&event["data"]["object"]) {
                self.leaks.owns_all_in(owner, &event);
                self.waiting.push((owner, event));
            }
        }
    }

    /// The owner by customer or session. A new customer's metadata, written by the service, names
    /// its tenant.
    fn owner_of(&mut self, object: &Value) -> Option<usize> {
        let customer = if object["object"] == "customer" { &object["id"] } else { &object["customer"] };
        let (customer, id) =
            (customer.as_str().unwrap_or_default(), object["id"].as_str().unwrap_or_default());
        let known = self.owners.get(customer).or_else(|| self.owners.get(id)).copied();
        let named = || self.tenants.iter().position(|tenant| object["metadata"]["tenant_id"] == tenant.name);
        let owner = known.or_else(named)?;
        if !customer.is_empty() {
            self.owners.insert(customer.to_owned(), owner);
        }
        Some(owner)
    }

    /// Waits for all refreshes except those of removed customers.
    async fn wait_for_refreshes(&self) -> Result<(), String> {
        let is_removed =
            |customer: &str| self.tenants.iter().any(|tenant| tenant.removed_customers.contains(customer));
        let is_open = |row: &entity::refresh::Model| {
            self.owners.contains_key(&row.customer_id) && !is_removed(&row.customer_id)
        };
        let done = poll_until_deadline(|| async {
            let rows = self.app.database.rows::<entity::refresh::Entity>().await;
            let open: Vec<_> = rows.into_iter().filter(is_open).collect();
            // A postponed refresh is due in less than a minute. One in progress is claimed for
            // longer.
            let postponed =
                open.iter().map(|row| row.due_at_ms - self.app.clock.now_ms()).filter(|ms| *ms < 60_000);
            if let Some(ms) = postponed.filter(|ms| *ms > 0).max() {
                self.advance(u32::try_from(ms / 1000 + 1).expect("less than a minute")).await;
            }
            open.is_empty().then_some(())
        });
        done.await.ok_or_else(|| "refreshes are still queued".to_owned())
    }

    /// Checks that an unaffected tenant's state is unchanged, and that its stream sends its current
    /// state and nothing else.
    async fn check_tenant(&mut self, who: usize, is_affected: bool) -> Result<(), String> {
        let before = self.tenants[who].stream.subscriptions().len();
        let request = self.subscription_request(who).header("If-None-Match", self.tenants[who].etag.clone());
        let response = self.call(who, "its subscription", request).await?;
        let etag = response.header("etag").unwrap_or_default().to_owned();
        let has_changed = response.status != 304;
        if has_changed && !is_affected {
            return Err(format!("{who} sees a change that is not its own: {}", response.text));
        }
        self.tenants[who].etag.clone_from(&etag);
        let tenant = &self.tenants[who];
        let up_to_date =
            poll_until_deadline(|| async { (tenant.stream.etag().as_deref() == Some(&etag)).then_some(()) });
        up_to_date
            .await
            .ok_or_else(|| format!("the stream of {who} has not sent {etag}: {}", tenant.stream.text()))?;
        let received = tenant.stream.subscriptions();
        if !is_affected && received.len() > before {
            return Err(format!(
                "the stream of {who} sent a change that is not its own: {:?}",
                &received[before..]
            ));
        }
        match received.iter().find(|(_, data)| data["tenant"] != *tenant.name) {
            Some((_, data)) => Err(format!("the stream of {who} sent another tenant's state: {data}")),
            None => Ok(()),
        }
    }
}

impl Tenant {
    async fn start(
        app: &TestApp,
        name: String,
        prices: &'static [&'static str],
        plan: &'static str,
        first_quantity: u32,
    ) -> Result<Self, String> {
        let etag = app.subscription(&app.token(&name)).await;
        let etag = etag.header("etag").expect("an ETag").to_owned();
        let stream = app.request(reqwest::Method::GET, crate::support::event_stream::STREAM);
        let stream = StreamReader::open(stream.bearer_auth(app.token(&name)), None).await?;
        Ok(Self {
            name,
            prices,
            plan,
            first_quantity,
            etags: [etag.clone()].into(),
            etag,
            stream,
            sessions: Vec::new(),
            portal_url: None,
            is_throttled: false,
            removed_customers: BTreeSet::new(),
            has_bought_with_other_metadata: false,
        })
    }
}

fn id_of(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}
