//! The questions that are to be put to Stripe: rows, so that a restart forgets none.

use entity::refresh;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};

use super::rows;
use crate::domain::ids::{CustomerId, EventId, TenantId};
use crate::domain::journey::Traceparent;
use crate::domain::refresh::{Refresh, RefreshReason, RefreshSubject};
use crate::store::{Due, Store, StoreError, Transaction};

/// A question that is ours to ask until the claim ends, so that of several replicas one asks.
#[derive(Debug, Clone)]
pub struct ClaimedRefresh {
    /// The question.
    pub refresh: Refresh,
    /// The trace that left it open.
    pub traceparent: Option<Traceparent>,
    /// How often it was asked in vain.
    pub attempts: i64,
    /// Goes up each time that it is raised anew: an answer from before that does not settle it.
    version: i64,
    /// Until when it is ours: whoever claims it later has another time.
    until_ms: i64,
}

/// The question what a customer has that was linked.
#[derive(Debug)]
pub struct OpenLink {
    /// The tenant that it was linked to.
    pub tenant: TenantId,
    /// The customer.
    pub customer: CustomerId,
    version: i64,
}

impl Store {
    /// Takes up to `most` questions that are due: half of them the longest due, half the latest, so that neither a buyer
    /// waits behind a thousand others nor anybody for ever. What is not settled or put off in time is due again: whoever
    /// claimed it has died.
    pub async fn claim_refreshes(&self, due: Due, most: u64) -> Result<Vec<ClaimedRefresh>, StoreError> {
        let is_due = refresh::Entity::find().filter(due.condition(refresh::Column::DueAtMs));
        let longest = is_due.clone().order_by_asc(refresh::Column::DueAtMs).limit(most / 2);
        let mut found = longest.all(&self.db).await?;
        let latest = is_due.order_by_desc(refresh::Column::DueAtMs).limit(most / 2);
        for row in latest.all(&self.db).await? {
            if found.iter().all(|other| other.subject != row.subject) {
                found.push(row);
            }
        }
        let mut claimed = Vec::new();
        for row in found {
            let claim = refresh::ActiveModel { due_at_ms: Set(due.until_ms), ..Default::default() };
            let claim = refresh::Entity::update_many()
                .set(claim)
                .filter(refresh::Column::Subject.eq(row.subject.as_str()))
                .filter(refresh::Column::DueAtMs.eq(row.due_at_ms));
            if claim.exec(&self.writer).await?.rows_affected == 1 {
                // One that another build wrote is left to it, and must not hold up the others.
                let unreadable =
                    |error: &StoreError| tracing::error!(%error, "a question to Stripe is left out");
                claimed.extend(read(&row, due.until_ms).inspect_err(unreadable));
            }
        }
        Ok(claimed)
    }

    /// Puts a question off that could not be answered.
    pub async fn put_off_refresh(
        &self,
        claimed: &ClaimedRefresh,
        attempts: i64,
        due_at_ms: i64,
    ) -> Result<(), StoreError> {
        let later =
            refresh::ActiveModel { due_at_ms: Set(due_at_ms), attempts: Set(attempts), ..Default::default() };
        refresh::Entity::update_many().set(later).filter(claimed.is_ours()).exec(&self.writer).await?;
        Ok(())
    }

    /// Takes a question back that has no answer.
    pub async fn drop_refresh(&self, claimed: &ClaimedRefresh, now_ms: i64) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        transaction.settle_refresh(claimed, now_ms).await?;
        transaction.commit().await
    }

    /// How many linked customers nobody has asked about yet.
    pub async fn count_open_links(&self) -> Result<u64, StoreError> {
        Ok(open_links().count(&self.db).await?)
    }

    /// Whether there is a question about all that the customer has: it is not known, then.
    pub async fn is_asked_about(&self, customer: &CustomerId) -> Result<bool, StoreError> {
        Ok(refresh::Entity::find_by_id(customer.as_str()).count(&self.db).await? > 0)
    }

    /// Linked customers that nobody has asked about yet, by their ids, from after one of them.
    pub async fn open_links(
        &self,
        after: Option<&CustomerId>,
        most: u64,
    ) -> Result<Vec<OpenLink>, StoreError> {
        let open = open_links()
            .filter(refresh::Column::Subject.gt(after.map(CustomerId::as_str).unwrap_or_default()))
            .order_by_asc(refresh::Column::Subject)
            .limit(most)
            .all(&self.db)
            .await?;
        let read = |row: &refresh::Model| {
            Ok(OpenLink {
                tenant: rows::tenant_id("refresh", &row.tenant_id)?,
                customer: rows::id("refresh", &row.customer_id)?,
                version: row.version,
            })
        };
        open.iter().map(read).collect()
    }

    /// Somebody has asked, whoever it was: takes the question back, unless it was raised anew since.
    pub async fn settle_link(&self, link: &OpenLink) -> Result<(), StoreError> {
        refresh::Entity::delete_many()
            .filter(refresh::Column::Subject.eq(link.customer.as_str()))
            .filter(refresh::Column::Version.eq(link.version))
            .exec(&self.writer)
            .await?;
        Ok(())
    }

    /// Leaves questions that are not asked already. `trace` is what raised them.
    pub async fn insert_new_refreshes(
        &self,
        refreshes: &[Refresh],
        trace: Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        if refreshes.is_empty() {
            return Ok(());
        }
        refresh::Entity::insert_many(refreshes.iter().map(|refresh| row(refresh, trace, now_ms)))
            .on_conflict_do_nothing_on([refresh::Column::Subject])
            .exec_without_returning(&self.writer)
            .await?;
        Ok(())
    }
}

impl Transaction {
    /// Inserts refreshes. One that is there already is repeated, and is due no sooner.
    pub(in crate::store) async fn insert_refreshes(
        &self,
        refreshes: impl Iterator<Item = &Refresh>,
        trace_of: impl Fn(Option<&EventId>) -> Option<Traceparent>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        use refresh::Column::{CustomerId, EventId, Reason, Subject, TenantId, Traceparent, Version};
        let rows = refreshes.map(|refresh| row(refresh, trace_of(refresh.event.as_ref()), now_ms));
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        let again = OnConflict::column(Subject)
            .update_columns([CustomerId, TenantId, Reason, EventId, Traceparent])
            .value(Version, Expr::col((refresh::Entity, Version)).add(1))
            .to_owned();
        refresh::Entity::insert_many(rows).on_conflict(again).exec_without_returning(&self.db).await?;
        Ok(())
    }

    /// The question is answered, unless it has been raised anew since: then it is due at once.
    pub async fn settle_refresh(&self, claimed: &ClaimedRefresh, now_ms: i64) -> Result<(), StoreError> {
        let settled = refresh::Entity::delete_many()
            .filter(claimed.is_ours())
            .filter(refresh::Column::Version.eq(claimed.version))
            .exec(&self.db)
            .await?;
        if settled.rows_affected == 0 {
            let at_once =
                refresh::ActiveModel { due_at_ms: Set(now_ms), attempts: Set(0), ..Default::default() };
            refresh::Entity::update_many().set(at_once).filter(claimed.is_ours()).exec(&self.db).await?;
        }
        Ok(())
    }
}

impl ClaimedRefresh {
    /// Whether the row is still as we claimed it: a claim that has ended may be another's, or the row another question.
    fn is_ours(&self) -> Condition {
        Condition::all()
            .add(refresh::Column::Subject.eq(self.refresh.subject.as_str()))
            .add(refresh::Column::DueAtMs.eq(self.until_ms))
    }
}

/// Only linking has somebody ask for this reason, and always about a customer.
fn open_links() -> Select<refresh::Entity> {
    refresh::Entity::find().filter(refresh::Column::Reason.eq(RefreshReason::Linked.as_str()))
}

fn read(row: &refresh::Model, until_ms: i64) -> Result<ClaimedRefresh, StoreError> {
    let table = "refresh";
    let subject = RefreshSubject::parse(&row.subject);
    let unreadable = |error| StoreError::unreadable(format_args!("a row of {table} has {error}"));
    let trace = |text: &str| rows::word(table, text, |text| Traceparent::parse(text).ok());
    Ok(ClaimedRefresh {
        refresh: Refresh {
            subject: subject.map_err(unreadable)?,
            customer: rows::id(table, &row.customer_id)?,
            tenant: rows::tenant_id(table, &row.tenant_id)?,
            reason: rows::word(table, &row.reason, RefreshReason::parse)?,
            event: row.event_id.as_deref().map(|text| rows::id(table, text)).transpose()?,
        },
        traceparent: row.traceparent.as_deref().map(trace).transpose()?,
        attempts: row.attempts,
        version: row.version,
        until_ms,
    })
}

fn row(refresh: &Refresh, trace: Option<Traceparent>, now_ms: i64) -> refresh::ActiveModel {
    let Refresh { subject, customer, tenant, reason, event } = refresh;
    refresh::ActiveModel {
        subject: Set(subject.to_string()),
        customer_id: Set(customer.to_string()),
        tenant_id: Set(tenant.to_string()),
        reason: Set(reason.as_str().to_owned()),
        event_id: Set(event.as_ref().map(ToString::to_string)),
        traceparent: Set(trace.map(|trace| trace.to_string())),
        version: Set(1),
        attempts: Set(0),
        due_at_ms: Set(now_ms),
    }
}
