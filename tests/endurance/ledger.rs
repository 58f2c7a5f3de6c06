//! What was sent and what was acknowledged, and whether a database holds it: each event once, each change once, and
//! every subscription as its life left it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use entity::{event, subscription, tenant, transition};
use sea_orm::{Database, DatabaseConnection, EntityTrait, QueryOrder};
use serde_json::Value;

use crate::life::{Event, Life};
use crate::support::database::unattended;

/// The sender's own books.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    lives: Vec<Arc<Life>>,
    acknowledged: HashSet<String>,
}

/// All that a database holds.
struct Held {
    inbox: HashMap<String, event::Model>,
    journal: Vec<transition::Model>,
    subscriptions: HashMap<String, subscription::Model>,
    tenants: HashMap<String, tenant::Model>,
}

impl Ledger {
    /// Notes a life before anything is sent of it.
    pub fn begin(&self, life: Life) -> Arc<Life> {
        let life = Arc::new(life);
        self.books().lives.push(life.clone());
        life
    }

    /// Notes that the service has answered 2xx.
    pub fn acknowledge(&self, event: &Event) {
        self.books().acknowledged.insert(event.id.clone());
    }

    pub fn count_acknowledged(&self) -> usize {
        self.books().acknowledged.len()
    }

    /// The ids of the events that were answered 2xx.
    pub fn acknowledged(&self) -> HashSet<String> {
        self.books().acknowledged.clone()
    }

    /// Holds a database against the books, once every life has been told to its end.
    pub async fn assert_kept_in(&self, database_url: &str) {
        let held = Held::read(database_url).await;
        let books = self.books();
        books.assert_nothing_lost(&held);
        books.assert_inbox(&held);
        books.assert_journal(&held);
        books.assert_subscriptions(&held);
        books.assert_links(&held);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().expect("no courier has died with the books in its hand")
    }
}

impl Books {
    fn events(&self) -> impl Iterator<Item = (&Arc<Life>, &Arc<Event>)> {
        self.lives.iter().flat_map(|life| life.events.iter().map(move |event| (life, event)))
    }

    fn assert_nothing_lost(&self, held: &Held) {
        let lost: Vec<_> = self.acknowledged.iter().filter(|id| !held.inbox.contains_key(*id)).collect();
        assert!(lost.is_empty(), "acknowledged with a 2xx, and not in the inbox: {lost:?}");
        let open: Vec<_> =
            self.events().filter(|(_, event)| !self.acknowledged.contains(&event.id)).collect();
        assert!(open.is_empty(), "never acknowledged: {open:?}");
    }

    fn assert_inbox(&self, held: &Held) {
        for (life, event) in self.events() {
            let row = &held.inbox[&event.id];
            assert_eq!((row.outcome.as_str(), row.reason.as_deref()), ("applied", None), "{row:?}");
            assert_eq!(row.payload.as_deref(), Some(event.body.as_bytes()), "the bytes that came: {row:?}");
            assert_eq!(row.tenant_id.as_deref(), Some(life.tenant.as_str()), "{row:?}");
        }
        assert_eq!(held.inbox.len(), self.events().count(), "nothing is in the inbox that was not sent");
    }

    /// Each subscription's rows are its events, in an unbroken chain from nothing to its end.
    fn assert_journal(&self, held: &Held) {
        let mut chains: HashMap<&str, Vec<_>> = HashMap::new();
        for row in held.journal.iter().filter(|row| row.entry == "subscription.transition") {
            let step = (row.event_id.as_deref(), row.from_status.as_deref(), row.to_status.as_deref());
            let subscription = row.subscription_id.as_deref().expect("a transition is a subscription's");
            chains.entry(subscription).or_default().push((step, row.created, row.cause.as_str()));
        }
        assert_eq!(chains.len(), self.lives.len(), "each subscription has a chain of its own");
        for life in &self.lives {
            let before = std::iter::once(None).chain(life.events.iter().map(|event| Some(event.status)));
            let expected = life.events.iter().zip(before).map(|(event, before)| {
                ((Some(event.id.as_str()), before, Some(event.status)), event.created, event.kind)
            });
            assert_eq!(chains[life.subscription.as_str()], expected.collect::<Vec<_>>(), "{life:?}");
        }
    }

    fn assert_subscriptions(&self, held: &Held) {
        assert_eq!(held.subscriptions.len(), self.lives.len());
        for life in &self.lives {
            let row = &held.subscriptions[&life.subscription];
            let last = life.last();
            let items: Value = serde_json::from_str(&row.items).expect("items");
            assert_eq!(row.status, last.status, "{row:?}");
            assert_eq!(items[0]["quantity"], last.quantity, "{row:?}");
            assert_eq!(row.as_of, last.created, "{row:?}");
            assert_eq!(row.current_period_end, Some(last.current_period_end), "{row:?}");
            assert_eq!(row.ended_at, last.ended_at, "{row:?}");
            assert_eq!((&row.tenant_id, &row.customer_id), (&life.tenant, &life.customer), "{row:?}");
            let changes = i64::try_from(life.events.len()).expect("a life is short");
            assert_eq!(row.revision, changes, "each event changed it once: {row:?}");
        }
    }

    /// A tenant was linked once, to its customer; and nothing else is in the journal, but that its two lives cost twice.
    fn assert_links(&self, held: &Held) {
        let customers: BTreeMap<_, _> =
            self.lives.iter().map(|life| (life.tenant.as_str(), life.customer.as_str())).collect();
        let of_lives = ["subscription.transition", "subscription.doubled"];
        let others = held.journal.iter().filter(|row| !of_lives.contains(&row.entry.as_str()));
        let mut linked: Vec<_> = others
            .map(|row| (row.entry.as_str(), row.tenant_id.as_str(), row.customer_id.as_str()))
            .collect();
        linked.sort_unstable();
        let expected = customers.iter().map(|(tenant, customer)| ("customer.linked", *tenant, *customer));
        assert_eq!(linked, expected.collect::<Vec<_>>());
        assert_eq!(held.tenants.len(), customers.len());
        for (tenant, customer) in customers {
            assert_eq!(held.tenants[tenant].stripe_customer_id.as_deref(), Some(customer));
        }
    }
}

impl Held {
    async fn read(database_url: &str) -> Self {
        let database = Database::connect(unattended(database_url)).await.expect("the database answers");
        let held = Self {
            inbox: by_id(all::<event::Entity>(&database).await, |row| &row.id),
            journal: transition::Entity::find()
                .order_by_asc(transition::Column::Id)
                .all(&database)
                .await
                .expect("the journal is read"),
            subscriptions: by_id(all::<subscription::Entity>(&database).await, |row| &row.id),
            tenants: by_id(all::<tenant::Entity>(&database).await, |row| &row.id),
        };
        database.close().await.expect("the connection closes");
        held
    }
}

async fn all<E: EntityTrait>(database: &DatabaseConnection) -> Vec<E::Model> {
    E::find().all(database).await.expect("the table is read")
}

fn by_id<M>(rows: Vec<M>, id: impl Fn(&M) -> &String) -> HashMap<String, M> {
    rows.into_iter().map(|row| (id(&row).clone(), row)).collect()
}
