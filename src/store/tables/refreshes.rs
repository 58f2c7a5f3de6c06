//! Refreshes: what to read from Stripe. They are rows, so that none is lost at a restart.

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
use crate::store::{ClaimWindow, Store, StoreError, Transaction};

/// A refresh that this replica has claimed, so that only one replica runs it.
#[derive(Debug, Clone)]
pub struct RefreshJob {
    pub refresh: Refresh,
    /// The trace that requested it.
    pub traceparent: Option<Traceparent>,
    /// Failed attempts.
    pub attempts: i64,
    /// Increases with each new request. A response from before the request does not complete it.
    version: i64,
    /// The end of the claim, which identifies it.
    claimed_until_ms: i64,
}

/// The refresh of a customer that was linked.
#[derive(Debug)]
pub struct LinkRefresh {
    pub tenant: TenantId,
    pub customer: CustomerId,
    version: i64,
}

impl Store {
    /// Half of the claimed refreshes are the oldest, half the newest, so that a new buyer does not
    /// wait behind a thousand others and no refresh waits forever. A refresh that is not completed
    /// or postponed before the end of the claim is due again.
    pub async fn claim_refreshes(
        &self,
        window: ClaimWindow,
        limit: u64,
    ) -> Result<Vec<RefreshJob>, StoreError> {
        let due = refresh::Entity::find().filter(window.is_due(refresh::Column::DueAtMs));
        let oldest = due.clone().order_by_asc(refresh::Column::DueAtMs).limit(limit / 2);
        let mut found = oldest.all(&self.db).await?;
        let latest = due.order_by_desc(refresh::Column::DueAtMs).limit(limit / 2);
        for row in latest.all(&self.db).await? {
            if found.iter().all(|other| other.subject != row.subject) {
                found.push(row);
            }
        }
        let mut jobs = Vec::new();
        for row in found {
            let claim =
                refresh::ActiveModel { due_at_ms: Set(window.claimed_until_ms), ..Default::default() };
            let claim = refresh::Entity::update_many()
                .set(claim)
                .filter(refresh::Column::Subject.eq(row.subject.as_str()))
                .filter(refresh::Column::DueAtMs.eq(row.due_at_ms));
            if claim.exec(&self.writer).await?.rows_affected == 1 {
                // Another build wrote it. It must not block the others.
                let log =
                    |error: &StoreError| tracing::error!(%error, "could not read a refresh; skipping it");
                jobs.extend(read(&row, window.claimed_until_ms).inspect_err(log));
            }
        }
        Ok(jobs)
    }

    pub async fn postpone_refresh(
        &self,
        job: &RefreshJob,
        attempts: i64,
        due_at_ms: i64,
    ) -> Result<(), StoreError> {
        let postponed =
            refresh::ActiveModel { due_at_ms: Set(due_at_ms), attempts: Set(attempts), ..Default::default() };
        refresh::Entity::update_many().set(postponed).filter(job.is_claimed()).exec(&self.writer).await?;
        Ok(())
    }

    /// Completes a refresh that Stripe has no response for.
    pub async fn cancel_refresh(&self, job: &RefreshJob, now_ms: i64) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        transaction.complete_refresh(job, now_ms).await?;
        transaction.commit().await
    }

    /// The number of linked customers that were not refreshed yet.
    pub async fn count_pending_link_refreshes(&self) -> Result<u64, StoreError> {
        Ok(pending_link_refreshes().count(&self.db).await?)
    }

    /// Whether a refresh of the customer is pending, so that its subscriptions may not be known.
    pub async fn has_customer_refresh(&self, customer: &CustomerId) -> Result<bool, StoreError> {
        Ok(refresh::Entity::find_by_id(customer.as_str()).count(&self.db).await? > 0)
    }

    /// Linked customers that were not refreshed yet, by id.
    pub async fn pending_link_refreshes(
        &self,
        after: Option<&CustomerId>,
        limit: u64,
    ) -> Result<Vec<LinkRefresh>, StoreError> {
        let pending = pending_link_refreshes()
            .filter(refresh::Column::Subject.gt(after.map(CustomerId::as_str).unwrap_or_default()))
            .order_by_asc(refresh::Column::Subject)
            .limit(limit)
            .all(&self.db)
            .await?;
        let read = |row: &refresh::Model| {
            Ok(LinkRefresh {
                tenant: rows::tenant_id("refresh", &row.tenant_id)?,
                customer: rows::id("refresh", &row.customer_id)?,
                version: row.version,
            })
        };
        pending.iter().map(read).collect()
    }

    /// Called after the customer was refreshed in another way. Does nothing if the refresh was
    /// requested again in the meantime.
    pub async fn complete_link_refresh(&self, link: &LinkRefresh) -> Result<(), StoreError> {
        refresh::Entity::delete_many()
            .filter(refresh::Column::Subject.eq(link.customer.as_str()))
            .filter(refresh::Column::Version.eq(link.version))
            .exec(&self.writer)
            .await?;
        Ok(())
    }

    /// Skips refreshes that are pending already. `trace` requested them.
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
    /// A pending refresh gets a new version and keeps its due time.
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
        let requested_again = OnConflict::column(Subject)
            .update_columns([CustomerId, TenantId, Reason, EventId, Traceparent])
            .value(Version, Expr::col((refresh::Entity, Version)).add(1))
            .to_owned();
        refresh::Entity::insert_many(rows)
            .on_conflict(requested_again)
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }

    /// Deletes the refresh. If it was requested again in the meantime, it is due at once.
    pub async fn complete_refresh(&self, job: &RefreshJob, now_ms: i64) -> Result<(), StoreError> {
        let deleted = refresh::Entity::delete_many()
            .filter(job.is_claimed())
            .filter(refresh::Column::Version.eq(job.version))
            .exec(&self.db)
            .await?;
        if deleted.rows_affected == 0 {
            let due_now =
                refresh::ActiveModel { due_at_ms: Set(now_ms), attempts: Set(0), ..Default::default() };
            refresh::Entity::update_many().set(due_now).filter(job.is_claimed()).exec(&self.db).await?;
        }
        Ok(())
    }
}

impl RefreshJob {
    /// Whether the row still has this claim. After its end another replica may have claimed or
    /// replaced the row.
    fn is_claimed(&self) -> Condition {
        Condition::all()
            .add(refresh::Column::Subject.eq(self.refresh.subject.as_str()))
            .add(refresh::Column::DueAtMs.eq(self.claimed_until_ms))
    }
}

/// Only linking uses this reason, and always for a customer.
fn pending_link_refreshes() -> Select<refresh::Entity> {
    refresh::Entity::find().filter(refresh::Column::Reason.eq(RefreshReason::Linked.as_str()))
}

fn read(row: &refresh::Model, claimed_until_ms: i64) -> Result<RefreshJob, StoreError> {
    let table = "refresh";
    let subject = RefreshSubject::parse(&row.subject);
    let unreadable = |error| StoreError::rejected(format_args!("a row of {table} has {error}"));
    let trace = |text: &str| rows::word(table, text, |text| Traceparent::parse(text).ok());
    Ok(RefreshJob {
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
        claimed_until_ms,
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
