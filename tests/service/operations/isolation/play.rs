//! A tale as it is played: step by step, and after each the tenant whom it did not concern is looked at.

use std::collections::{BTreeSet, HashMap, HashSet};

use billhook::clock::Clock;
use serde_json::{Value, json};

use super::follower::Follower;
use super::tale::{Act, Beginning, Step, Tale};
use super::witness::{STRANGER, Witness};
use crate::support::app::{TestApp, ended_spans, until_deadline};
use crate::support::database::Database;

/// Checkout, portal and the like of a tenant's in a minute, and the seconds from one step to the next: no step asks for more
/// than comes back by the next, unless it is out to be turned away.
const THROTTLE_PER_MINUTE: &str = "60";
const BETWEEN_STEPS_SECONDS: u32 = 4;

/// A tale that is being played.
pub struct Play {
    pub app: TestApp,
    pub parties: [Party; 2],
    pub stranger: String,
    pub witness: Witness,
    /// Whose customers and sessions are, by their ids.
    pub owners: HashMap<String, usize>,
    /// Events of the tale that were not delivered yet, and those that were, with their owners.
    pub waiting: Vec<(usize, Value)>,
    pub delivered: Vec<(usize, Value)>,
    /// The events that were heard of, by their ids.
    heard_of: HashSet<String>,
    /// How many spans had ended before.
    pub spans_before: usize,
}

/// One of the two tenants.
pub struct Party {
    pub tenant: String,
    /// What it buys, which the other does not.
    pub prices: &'static [&'static str],
    pub plan: &'static str,
    /// Its quantities begin here, so that they are nobody else's.
    pub quantities: u32,
    /// The ETag of its present state, and all that it was given.
    pub etag: String,
    pub given: BTreeSet<String>,
    pub stream: Follower,
    pub sessions: Vec<String>,
    pub portal_url: Option<String>,
    /// Whether it has asked too often.
    pub is_throttled: bool,
    /// Customers that Stripe has forgotten: what is asked about them has no answer.
    pub forgotten: BTreeSet<String>,
    pub has_bought_with_the_others_tags: bool,
}

/// Whom a step concerns.
#[derive(PartialEq, Eq)]
pub enum Concerns {
    Nobody,
    One(usize),
    Both,
}

/// Plays a tale on a service of its own. The error says who saw what of whom.
pub async fn play(database: Database, tale: &Tale) -> Result<(), String> {
    let mut play = Play::open(database, tale).await?;
    let played = play.perform_all(tale).await;
    play.app.stop().await;
    played
}

fn acts_of(beginning: Beginning) -> Vec<Act> {
    match beginning {
        Beginning::Nothing => vec![],
        Beginning::AtCheckout => vec![Act::CheckOut],
        Beginning::Subscribed => {
            vec![Act::CheckOut, Act::Pay("ok"), Act::Deliver { newest_first: false }]
        }
    }
}

impl Play {
    async fn open(database: Database, tale: &Tale) -> Result<Self, String> {
        let spans_before = ended_spans().len();
        let app = TestApp::start_with(database, &[("--throttle-per-minute", THROTTLE_PER_MINUTE)]).await;
        app.stripe.fault(&json!({ "deliveries": "drop" })).await;
        app.stripe.set_clock(&json!({ "stopped": true })).await;
        app.until_backfilled().await;
        // No other tale's that is told in this process.
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let [first, second] = tale.names.of(&unique[..12]);
        let stranger = format!("stranger{unique}");
        let parties = [
            Party::enter(&app, first, &["price_pro_monthly", "price_pro_yearly"], "pro", 700_000).await?,
            Party::enter(&app, second, &["price_team_monthly"], "team", 800_000).await?,
        ];
        let mut witness = Witness::default();
        witness.name(STRANGER, &stranger);
        for (who, party) in parties.iter().enumerate() {
            witness.name(who, &party.tenant);
            witness.sells(who, party.prices.iter().map(|price| (*price).to_owned()));
            witness.sells(who, [party.plan.to_owned()]);
            witness.sells(who, (0..9).map(|more| (party.quantities + more).to_string()));
        }
        Ok(Self {
            app,
            parties,
            stranger,
            witness,
            owners: HashMap::new(),
            waiting: Vec::new(),
            delivered: Vec::new(),
            heard_of: HashSet::new(),
            spans_before,
        })
    }

    async fn perform_all(&mut self, tale: &Tale) -> Result<(), String> {
        for (who, beginning) in tale.begin.into_iter().enumerate() {
            for act in acts_of(beginning) {
                self.perform(&Step { who, names_the_other: false, act }).await?;
            }
        }
        for step in &tale.steps {
            self.perform(step).await.map_err(|error| format!("at {step:?}: {error}"))?;
        }
        self.perform(&Step { who: 0, names_the_other: false, act: Act::DeliverBoth }).await?;
        self.look_back().await
    }

    async fn perform(&mut self, step: &Step) -> Result<(), String> {
        self.pass(BETWEEN_STEPS_SECONDS).await;
        let concerns = self.take(step).await?;
        self.hear_of_events().await;
        self.until_nothing_is_asked().await?;
        for who in 0..2 {
            let is_concerned = concerns == Concerns::Both || concerns == Concerns::One(who);
            self.look_at(who, is_concerned).await?;
        }
        Ok(())
    }

    /// Time passes, here and at Stripe.
    pub async fn pass(&self, seconds: u32) {
        self.app.clock.advance_seconds(seconds.into());
        self.app.stripe.set_clock(&json!({ "advance_seconds": seconds })).await;
    }

    /// Learns of what has happened at Stripe since, and whose it is.
    pub async fn hear_of_events(&mut self) {
        for event in self.app.stripe.events().await.into_iter().rev() {
            if !self.heard_of.insert(id_of(&event)) {
                continue;
            }
            if let Some(owner) = self.owner_of(&event["data"]["object"]) {
                self.witness.owns_all_in(owner, &event);
                self.waiting.push((owner, event));
            }
        }
    }

    /// By its customer; a new customer is its tenant's, as the service tells Stripe.
    fn owner_of(&mut self, object: &Value) -> Option<usize> {
        let customer = if object["object"] == "customer" { &object["id"] } else { &object["customer"] };
        let (customer, id) =
            (customer.as_str().unwrap_or_default(), object["id"].as_str().unwrap_or_default());
        let known = self.owners.get(customer).or_else(|| self.owners.get(id)).copied();
        let named = || self.parties.iter().position(|party| object["metadata"]["tenant_id"] == party.tenant);
        let owner = known.or_else(named)?;
        if !customer.is_empty() {
            self.owners.insert(customer.to_owned(), owner);
        }
        Some(owner)
    }

    /// Waits until Stripe has answered all that was left open, but for what it cannot.
    async fn until_nothing_is_asked(&self) -> Result<(), String> {
        let forgotten = |customer: &str| self.parties.iter().any(|party| party.forgotten.contains(customer));
        let is_open = |row: &entity::refresh::Model| {
            self.owners.contains_key(&row.customer_id) && !forgotten(&row.customer_id)
        };
        let asked = until_deadline(|| async {
            let rows = self.app.database.rows::<entity::refresh::Entity>().await;
            let open: Vec<_> = rows.into_iter().filter(is_open).collect();
            // One that was put off waits for less than a minute; one that is being asked is claimed for longer.
            let put_off =
                open.iter().map(|row| row.due_at_ms - self.app.clock.now_ms()).filter(|ms| *ms < 60_000);
            if let Some(ms) = put_off.filter(|ms| *ms > 0).max() {
                self.pass(u32::try_from(ms / 1000 + 1).expect("less than a minute")).await;
            }
            open.is_empty().then_some(())
        });
        asked.await.ok_or_else(|| "Stripe is still to be asked".to_owned())
    }

    /// The tenant's state is as it was, unless the step concerned it, and its stream has told it.
    async fn look_at(&mut self, who: usize, is_concerned: bool) -> Result<(), String> {
        let before = self.parties[who].stream.told().len();
        let request = self.reading(who).header("If-None-Match", self.parties[who].etag.clone());
        let answer = self.call(who, "its subscription", request).await?;
        let etag = answer.header("etag").unwrap_or_default().to_owned();
        let has_changed = answer.status != 304;
        if has_changed && !is_concerned {
            return Err(format!("{who} sees that something was done that is not its own: {}", answer.text));
        }
        self.parties[who].etag.clone_from(&etag);
        let party = &self.parties[who];
        let told = until_deadline(|| async { (party.stream.etag().as_deref() == Some(&etag)).then_some(()) });
        told.await
            .ok_or_else(|| format!("the stream of {who} does not tell {etag}: {}", party.stream.heard()))?;
        let told = party.stream.told();
        if !is_concerned && told.len() > before {
            return Err(format!("the stream of {who} tells what is not its own: {:?}", &told[before..]));
        }
        match told.iter().find(|(_, data)| data["tenant"] != *party.tenant) {
            Some((_, data)) => Err(format!("the stream of {who} tells of somebody else: {data}")),
            None => Ok(()),
        }
    }
}

impl Party {
    async fn enter(
        app: &TestApp,
        tenant: String,
        prices: &'static [&'static str],
        plan: &'static str,
        quantities: u32,
    ) -> Result<Self, String> {
        let etag = app.subscription(&app.token(&tenant)).await;
        let etag = etag.header("etag").expect("an ETag").to_owned();
        let stream = app.request(reqwest::Method::GET, crate::support::event_stream::STREAM);
        let stream = Follower::open(stream.bearer_auth(app.token(&tenant)), None).await?;
        Ok(Self {
            tenant,
            prices,
            plan,
            quantities,
            given: [etag.clone()].into(),
            etag,
            stream,
            sessions: Vec::new(),
            portal_url: None,
            is_throttled: false,
            forgotten: BTreeSet::new(),
            has_bought_with_the_others_tags: false,
        })
    }
}

fn id_of(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}
