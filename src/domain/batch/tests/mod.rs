//! Unless an event says otherwise, the tenant is `acme`, its customer `cus_acme`, its subscription
//! `sub_1` with `price_pro`, and its checkout session `cs_1`. `scenario` builds batches and events.

mod announcements;
mod any_order;
mod checkout;
mod delayed_payment;
mod deletion;
mod journey;
mod lifecycle;
mod linking;
mod quarantine;
mod refreshes;
mod scenario;
mod several_subscriptions;
mod unlinking;

use super::*;
use crate::domain::event::{CheckoutEventKind, Invoice, InvoiceEventKind, Session};
use crate::domain::ids::{AccountId, EventId};
use crate::domain::metadata::Metadata;
use crate::domain::mode::Mode;
use crate::domain::plan::Catalog;
use crate::domain::subscription::{Snapshot, Status, SubscriptionEventKind};
use crate::domain::tenant::CheckoutStatus;
use scenario::{Scenario, TestEvent};

fn customer_id(text: &str) -> CustomerId {
    CustomerId::parse(text).expect("a customer id")
}

fn session_id(text: &str) -> SessionId {
    SessionId::parse(text).expect("a session id")
}

fn subscription_id(text: &str) -> SubscriptionId {
    SubscriptionId::parse(text).expect("a subscription id")
}

fn tenant_id(text: &str) -> TenantId {
    TenantId::parse(text).expect("a tenant id")
}
