//! The journal: what changed, by which event, in which trace. Only ever appended to.

use entity::transition;
use sea_orm::ActiveValue::{NotSet, Set};

use crate::domain::ids::EventId;
use crate::domain::journey::Traceparent;
use crate::domain::subscription::Status;
use crate::domain::unit_of_work::JournalEntry;
use crate::store::StoreError;
use crate::store::insert::Existing;
use crate::store::writes::Writes;

impl Writes {
    pub(in crate::store) fn append_journal(
        &mut self,
        entries: &[JournalEntry],
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let rows = entries.iter().map(|entry| row(entry, trace_of(entry.event.as_ref()), now_ms));
        self.insert(rows, &Existing::Refused)
    }
}

fn row(journaled: &JournalEntry, trace: Option<Traceparent>, now_ms: i64) -> transition::ActiveModel {
    let JournalEntry { entry, tenant, customer, cause, event, at, journey } = journaled;
    let (from, to) = entry.statuses();
    transition::ActiveModel {
        id: NotSet,
        entry: Set(entry.as_str().to_owned()),
        tenant_id: Set(tenant.to_string()),
        customer_id: Set(customer.to_string()),
        subscription_id: Set(entry.subscription().map(ToString::to_string)),
        from_status: Set(from.map(Status::to_string)),
        to_status: Set(to.map(Status::to_string)),
        cause: Set(cause.clone()),
        event_id: Set(event.as_ref().map(ToString::to_string)),
        created: Set(*at),
        journey_id: Set(journey.map(|journey| journey.id().to_string())),
        trace_id: Set(trace.map(|trace| trace.journey_id().to_string())),
        recorded_at_ms: Set(now_ms),
    }
}
