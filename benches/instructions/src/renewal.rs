//! The webhook of a subscription's renewal, and the rows that it is applied to.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::batch::{Batch, OwnAccount, OwnedSubscription, Policy};
use crate::domain::event::{Event, Subject};
use crate::domain::ids::{CustomerId, DeploymentId, TenantId};
use crate::domain::journey::{Journey, Traceparent};
use crate::domain::mode::Mode;
use crate::domain::plan::Catalog;
use crate::domain::tenant::Tenant;

/// About 5 KB, with placeholders. The benchmark of the service uses it, too.
const EVENT_TEMPLATE: &str = include_str!("../../webhooks/event.json");

/// The renewal's `created`, in Unix seconds.
pub(crate) const CREATED: i64 = 1_790_000_000;

const MONTH_SECONDS: i64 = 2_592_000;

/// As long as Stripe's secrets.
pub(crate) const SECRET: &str = "whsec_0123456789abcdef0123456789abcdef";

pub(crate) fn body(created: i64) -> String {
    EVENT_TEMPLATE
        .replace("@NUMBER____@", &format!("{created:012}"))
        .replace("@SUBSCRIPTION__@", "1000000000000000")
        .replace("@CREATED_@", &created.to_string())
        .replace("@ENDED___@", &created.to_string())
        .replace("@RENEWED_@", &(created + MONTH_SECONDS).to_string())
}

/// The `Stripe-Signature` header.
pub(crate) fn signature(body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{CREATED}.{body}").as_bytes());
    format!("t={CREATED},v1={}", hex::encode(mac.finalize().into_bytes()))
}

pub(crate) fn policy() -> Policy {
    let catalog = Catalog::parse("pro=price_pro_monthly", true).expect("a plan");
    let account = OwnAccount::default();
    let deployment = DeploymentId::parse("bench").expect("a deployment");
    Policy { mode: Some(Mode::Test), account, deployment, trust_client_reference: false, catalog }
}

pub(crate) fn journey() -> Journey {
    let origin = Traceparent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    Journey { origin: origin.expect("a traceparent"), started_at_ms: CREATED * 1000 }
}

/// The tenant and its subscription, as the previous renewal left them.
pub(crate) struct Rows {
    tenant: Tenant,
    subscription: OwnedSubscription,
}

impl Rows {
    pub(crate) fn before_renewal() -> Self {
        let event = Event::read(body(CREATED - MONTH_SECONDS).as_bytes()).expect("an event");
        let Subject::Subscription(_, snapshot) = &event.subject else { panic!("not a subscription") };
        let id = TenantId::parse("tenant-1000000000000000").expect("a tenant id");
        let customer = Some(CustomerId::parse("cus_1000000000000000").expect("a customer id"));
        let mut batch = Batch::new([], [Tenant { customer, ..Tenant::new(id.clone()) }], [], []);
        batch.apply(&event, Some(journey()), &policy());
        Self {
            tenant: batch.tenant(&id).expect("the tenant exists").clone(),
            subscription: batch.subscription(&snapshot.id).expect("the subscription is stored").clone(),
        }
    }

    pub(crate) fn to_batch(&self) -> Batch {
        Batch::new([], [self.tenant.clone()], [self.subscription.clone()], [])
    }
}
