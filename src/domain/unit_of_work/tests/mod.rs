//! Stories of tenants and their customers, told event by event. Where nothing else is said the tenant is `acme`, its
//! customer `cus_acme`, its subscription `sub_1` for `price_pro`, and its checkout session `cs_1`.

mod announcements;
mod checkout;
mod deletion;
mod doubt;
mod journey;
mod life;
mod linking;
mod money;
mod order;
mod quarantine;
mod several;
mod stage;
mod unlinking;

use super::*;
use crate::domain::event::{CheckoutChange, Invoice, InvoiceChange, Session};
use crate::domain::subscription::SubscriptionChange;
use crate::domain::subscription::{Snapshot, Status};
use crate::domain::tags::Tags;
use crate::domain::tenant::CheckoutStatus;
use stage::{Draft, Stage};

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
