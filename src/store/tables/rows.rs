//! Converts rows to domain types and back. A row that the domain cannot read is an error that names
//! its table.

use entity::{checkout, subscription, tenant};
use sea_orm::ActiveValue::Set;

use crate::domain::batch::OwnedSubscription;
use crate::domain::ids::{InvalidId, TenantId};
use crate::domain::journey::{Journey, Traceparent};
use crate::domain::subscription::{PaymentProblem, State, Status, Subscription};
use crate::domain::tenant::{Checkout, CheckoutStatus, Tenant};
use crate::store::StoreError;

pub(in crate::store) fn id<T: std::str::FromStr<Err = InvalidId>>(
    table: &str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|error| StoreError::rejected(format_args!("a row of {table} has {error}")))
}

pub(in crate::store) fn tenant_id(table: &str, text: &str) -> Result<TenantId, StoreError> {
    let id = TenantId::parse_stored(text);
    id.map_err(|error| StoreError::rejected(format_args!("a row of {table} has {error}")))
}

pub(in crate::store) fn word<T>(
    table: &str,
    text: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, StoreError> {
    parse(text)
        .ok_or_else(|| StoreError::rejected(format_args!("a row of {table} has the unknown value {text:?}")))
}

fn journey(table: &str, origin: &str, started_at_ms: i64) -> Result<Journey, StoreError> {
    let origin = word(table, origin, |text| Traceparent::parse(text).ok())?;
    Ok(Journey { origin, started_at_ms })
}

pub(in crate::store) fn tenant(row: &tenant::Model) -> Result<Tenant, StoreError> {
    let began = row.journey_traceparent.as_deref().zip(row.journey_began_at_ms);
    Ok(Tenant {
        id: tenant_id("tenant", &row.id)?,
        customer: row.stripe_customer_id.as_deref().map(|text| id("tenant", text)).transpose()?,
        generation: row.customer_generation,
        journey: began.map(|(origin, at_ms)| journey("tenant", origin, at_ms)).transpose()?,
    })
}

pub(in crate::store) fn tenant_row(tenant: &Tenant, now_ms: i64) -> tenant::ActiveModel {
    tenant::ActiveModel {
        id: Set(tenant.id.to_string()),
        stripe_customer_id: Set(tenant.customer.as_ref().map(ToString::to_string)),
        customer_generation: Set(tenant.generation),
        journey_id: Set(tenant.journey.map(|journey| journey.id().to_string())),
        journey_traceparent: Set(tenant.journey.map(|journey| journey.origin.to_string())),
        journey_began_at_ms: Set(tenant.journey.map(|journey| journey.started_at_ms)),
        created_at_ms: Set(now_ms),
        updated_at_ms: Set(now_ms),
    }
}

pub(in crate::store) fn subscription(row: &subscription::Model) -> Result<OwnedSubscription, StoreError> {
    let table = "subscription";
    let items = serde_json::from_str(&row.items)
        .map_err(|_| StoreError::rejected("a row of subscription has unreadable items"))?;
    let problem = row.payment_problem.as_deref();
    Ok(OwnedSubscription {
        tenant: tenant_id(table, &row.tenant_id)?,
        subscription: Subscription {
            id: id(table, &row.id)?,
            customer: id(table, &row.customer_id)?,
            state: State {
                status: word(table, &row.status, Status::parse)?,
                started_at: row.started_at,
                items,
                current_period_end: row.current_period_end,
                trial_end: row.trial_end,
                cancel_at: row.cancel_at,
                cancel_at_period_end: row.cancel_at_period_end,
                ended_at: row.ended_at,
            },
            as_of: row.as_of,
            revision: row.revision,
            awaiting_payment: row.awaiting_payment,
            payment_problem: problem.map(|text| word(table, text, PaymentProblem::parse)).transpose()?,
            payment_noted_at: row.payment_noted_at,
            paid_at: row.paid_at,
        },
    })
}

pub(in crate::store) fn subscription_row(
    owned: &OwnedSubscription,
    now_ms: i64,
) -> Result<subscription::Model, StoreError> {
    let Subscription {
        id,
        customer,
        state,
        as_of,
        revision,
        awaiting_payment,
        payment_problem,
        payment_noted_at,
        paid_at,
    } = &owned.subscription;
    Ok(subscription::Model {
        id: id.to_string(),
        customer_id: customer.to_string(),
        tenant_id: owned.tenant.to_string(),
        status: state.status.to_string(),
        started_at: state.started_at,
        items: serde_json::to_string(&state.items).map_err(StoreError::rejected)?,
        current_period_end: state.current_period_end,
        trial_end: state.trial_end,
        cancel_at: state.cancel_at,
        cancel_at_period_end: state.cancel_at_period_end,
        ended_at: state.ended_at,
        as_of: *as_of,
        revision: *revision,
        awaiting_payment: *awaiting_payment,
        payment_problem: payment_problem.map(|problem| problem.as_str().to_owned()),
        payment_noted_at: *payment_noted_at,
        paid_at: *paid_at,
        updated_at_ms: now_ms,
    })
}

pub(in crate::store) fn checkout(row: &checkout::Model) -> Result<Checkout, StoreError> {
    let table = "checkout";
    Ok(Checkout {
        session: id(table, &row.session_id)?,
        tenant: tenant_id(table, &row.tenant_id)?,
        customer: id(table, &row.customer_id)?,
        plan: id(table, &row.plan)?,
        price: row.price_id.as_deref().map(|text| id(table, text)).transpose()?,
        status: word(table, &row.status, CheckoutStatus::parse)?,
        subscription: row.subscription_id.as_deref().map(|text| id(table, text)).transpose()?,
        journey: journey(table, &row.traceparent, row.created_at_ms)?,
        success_path: row.success_path.clone(),
        cancel_path: row.cancel_path.clone(),
    })
}

pub(in crate::store) fn checkout_row(checkout: &Checkout, now_ms: i64) -> checkout::ActiveModel {
    checkout::ActiveModel {
        session_id: Set(checkout.session.to_string()),
        tenant_id: Set(checkout.tenant.to_string()),
        customer_id: Set(checkout.customer.to_string()),
        plan: Set(checkout.plan.to_string()),
        price_id: Set(checkout.price.as_ref().map(ToString::to_string)),
        success_path: Set(checkout.success_path.clone()),
        cancel_path: Set(checkout.cancel_path.clone()),
        status: Set(checkout.status.as_str().to_owned()),
        subscription_id: Set(checkout.subscription.as_ref().map(ToString::to_string)),
        journey_id: Set(checkout.journey.id().to_string()),
        traceparent: Set(checkout.journey.origin.to_string()),
        created_at_ms: Set(checkout.journey.started_at_ms),
        updated_at_ms: Set(now_ms),
    }
}
