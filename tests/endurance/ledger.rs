//! Records what was sent and acknowledged, and compares it with the database: each event once, each
//! transition once, and every subscription in its last state.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use entity::{event, subscription, tenant, transition};
use sea_orm::{Database, DatabaseConnection, EntityTrait, QueryOrder};
use serde_json::Value;

use crate::lifecycle::{Event, Lifecycle};
use crate::support::database::connect_options;

#[derive(Debug, Default)]
pub struct Ledger(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    lifecycles: Vec<Arc<Lifecycle>>,
    acknowledged: HashSet<String>,
}

struct DatabaseContents {
    inbox: HashMap<String, event::Model>,
    journal: Vec<transition::Model>,
    subscriptions: HashMap<String, subscription::Model>,
    tenants: HashMap<String, tenant::Model>,
}

impl Ledger {
    /// Must be called before the first event is sent.
    pub fn add(&self, lifecycle: Lifecycle) -> Arc<Lifecycle> {
        let lifecycle = Arc::new(lifecycle);
        self.records().lifecycles.push(lifecycle.clone());
        lifecycle
    }

    /// Records a 2xx.
    pub fn acknowledge(&self, event: &Event) {
        self.records().acknowledged.insert(event.id.clone());
    }

    pub fn count_acknowledged(&self) -> usize {
        self.records().acknowledged.len()
    }

    /// The ids of the events that got a 2xx.
    pub fn acknowledged(&self) -> HashSet<String> {
        self.records().acknowledged.clone()
    }

    /// Compares the database with the records. Call it after all events of all lifecycles were
    /// acknowledged.
    pub async fn assert_matches(&self, database_url: &str) {
        let contents = DatabaseContents::read(database_url).await;
        let records = self.records();
        records.assert_nothing_lost(&contents);
        records.assert_inbox(&contents);
        records.assert_journal(&contents);
        records.assert_subscriptions(&contents);
        records.assert_links(&contents);
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().expect("no sender panicked with the lock")
    }
}

impl Records {
    fn events(&self) -> impl Iterator<Item = (&Arc<Lifecycle>, &Arc<Event>)> {
        self.lifecycles
            .iter()
            .flat_map(|lifecycle| lifecycle.events.iter().map(move |event| (lifecycle, event)))
    }

    fn assert_nothing_lost(&self, contents: &DatabaseContents) {
        let lost: Vec<_> = self.acknowledged.iter().filter(|id| !contents.inbox.contains_key(*id)).collect();
        assert!(lost.is_empty(), "acknowledged with a 2xx, but not in the inbox: {lost:?}");
        let open: Vec<_> =
            self.events().filter(|(_, event)| !self.acknowledged.contains(&event.id)).collect();
        assert!(open.is_empty(), "never acknowledged: {open:?}");
    }

    fn assert_inbox(&self, contents: &DatabaseContents) {
        for (lifecycle, event) in self.events() {
            let row = &contents.inbox[&event.id];
            assert_eq!((row.outcome.as_str(), row.reason.as_deref()), ("applied", None), "{row:?}");
            assert_eq!(
                row.payload.as_deref(),
                Some(event.body.as_bytes()),
                "the bytes that were sent: {row:?}"
            );
            assert_eq!(row.tenant_id.as_deref(), Some(lifecycle.tenant.as_str()), "{row:?}");
        }
        assert_eq!(contents.inbox.len(), self.events().count(), "the inbox has no other event");
    }

    /// Each subscription has one transition per event, and they form an unbroken chain.
    fn assert_journal(&self, contents: &DatabaseContents) {
        let mut chains: HashMap<&str, Vec<_>> = HashMap::new();
        for row in contents.journal.iter().filter(|row| row.entry == "subscription.transition") {
            let step = (row.event_id.as_deref(), row.from_status.as_deref(), row.to_status.as_deref());
            let subscription = row.subscription_id.as_deref().expect("a transition has a subscription");
            chains.entry(subscription).or_default().push((step, row.created, row.cause.as_str()));
        }
        assert_eq!(chains.len(), self.lifecycles.len(), "each subscription has a chain");
        for lifecycle in &self.lifecycles {
            let before = std::iter::once(None).chain(lifecycle.events.iter().map(|event| Some(event.status)));
            let expected = lifecycle.events.iter().zip(before).map(|(event, before)| {
                ((Some(event.id.as_str()), before, Some(event.status)), event.created, event.kind)
            });
            assert_eq!(
                chains[lifecycle.subscription.as_str()],
                expected.collect::<Vec<_>>(),
                "{lifecycle:?}"
            );
        }
    }

    fn assert_subscriptions(&self, contents: &DatabaseContents) {
        assert_eq!(contents.subscriptions.len(), self.lifecycles.len());
        for lifecycle in &self.lifecycles {
            let row = &contents.subscriptions[&lifecycle.subscription];
            let last = lifecycle.last();
            let items: Value = serde_json::from_str(&row.items).expect("items");
            assert_eq!(row.status, last.status, "{row:?}");
            assert_eq!(items[0]["quantity"], last.quantity, "{row:?}");
            assert_eq!(row.as_of, last.created, "{row:?}");
            assert_eq!(row.current_period_end, Some(last.current_period_end), "{row:?}");
            assert_eq!(row.ended_at, last.ended_at, "{row:?}");
            assert_eq!(
                (&row.tenant_id, &row.customer_id),
                (&lifecycle.tenant, &lifecycle.customer),
                "{row:?}"
            );
            let events = i64::try_from(lifecycle.events.len()).expect("there are few");
            assert_eq!(row.revision, events, "each event changed it once: {row:?}");
        }
    }

    /// Each tenant was linked once, to its customer. Besides transitions and links, the journal
    /// only reports that the tenant pays for two subscriptions.
    fn assert_links(&self, contents: &DatabaseContents) {
        let customers: BTreeMap<_, _> = self
            .lifecycles
            .iter()
            .map(|lifecycle| (lifecycle.tenant.as_str(), lifecycle.customer.as_str()))
            .collect();
        let expected_entries = ["subscription.transition", "subscription.doubled"];
        let others = contents.journal.iter().filter(|row| !expected_entries.contains(&row.entry.as_str()));
        let mut linked: Vec<_> = others
            .map(|row| (row.entry.as_str(), row.tenant_id.as_str(), row.customer_id.as_str()))
            .collect();
        linked.sort_unstable();
        let expected = customers.iter().map(|(tenant, customer)| ("customer.linked", *tenant, *customer));
        assert_eq!(linked, expected.collect::<Vec<_>>());
        assert_eq!(contents.tenants.len(), customers.len());
        for (tenant, customer) in customers {
            assert_eq!(contents.tenants[tenant].stripe_customer_id.as_deref(), Some(customer));
        }
    }
}

impl DatabaseContents {
    async fn read(database_url: &str) -> Self {
        let database = Database::connect(connect_options(database_url)).await.expect("the database answers");
        let contents = Self {
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
        contents
    }
}

async fn all<E: EntityTrait>(database: &DatabaseConnection) -> Vec<E::Model> {
    E::find().all(database).await.expect("the table is read")
}

fn by_id<M>(rows: Vec<M>, id: impl Fn(&M) -> &String) -> HashMap<String, M> {
    rows.into_iter().map(|row| (id(&row).clone(), row)).collect()
}
