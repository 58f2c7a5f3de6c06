//! A subscription that is renewed: the webhook that says so, and the rows that it finds.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::event::{Event, Subject};
use crate::domain::ids::{CustomerId, DeploymentId, TenantId};
use crate::domain::journey::{Journey, Traceparent};
use crate::domain::mode::Mode;
use crate::domain::plan::Catalog;
use crate::domain::tenant::Tenant;
use crate::domain::unit_of_work::{Held, OwnAccount, Policy, UnitOfWork};

/// What Stripe posts, some 5 KB, with gaps: the same as in the benchmark of the whole service.
const EVENT: &str = include_str!("../../webhooks/event.json");

/// When it is renewed, in Unix seconds.
pub(crate) const AT: i64 = 1_790_000_000;

const MONTH_SECONDS: i64 = 2_592_000;

/// As long as Stripe's are.
pub(crate) const SECRET: &str = "whsec_0123456789abcdef0123456789abcdef";

/// The body of the renewal at that time.
pub(crate) fn body(at: i64) -> String {
    EVENT
        .replace("@NUMBER____@", &format!("{at:012}"))
        .replace("@SUBSCRIPTION__@", "1000000000000000")
        .replace("@CREATED_@", &at.to_string())
        .replace("@RENEWED_@", &(at + MONTH_SECONDS).to_string())
}

/// `Stripe-Signature` for it, as Stripe writes it.
pub(crate) fn signature(body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{AT}.{body}").as_bytes());
    format!("t={AT},v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// A configuration that knows the price.
pub(crate) fn policy() -> Policy {
    let catalog = Catalog::parse("pro=price_pro_monthly", true).expect("a plan");
    let account = OwnAccount::default();
    let deployment = DeploymentId::parse("bench").expect("a deployment");
    Policy { mode: Some(Mode::Test), account, deployment, trust_client_reference: false, catalog }
}

/// The trace in which the event is processed.
pub(crate) fn journey() -> Journey {
    let origin = Traceparent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    Journey { origin: origin.expect("a traceparent"), began_at_ms: AT * 1000 }
}

/// What the store has locked for the event: the tenant and its subscription, as the renewal before left them.
pub(crate) struct Rows {
    tenant: Tenant,
    held: Held,
}

impl Rows {
    pub(crate) fn before() -> Self {
        let event = Event::read(body(AT - MONTH_SECONDS).as_bytes()).expect("an event");
        let Subject::Subscription(_, snapshot) = &event.subject else { panic!("not of a subscription") };
        let id = TenantId::parse("tenant-1000000000000000").expect("a tenant id");
        let customer = Some(CustomerId::parse("cus_1000000000000000").expect("a customer id"));
        let mut work = UnitOfWork::begin([], [Tenant { customer, ..Tenant::new(id.clone()) }], [], []);
        work.apply(&event, Some(journey()), &policy());
        Self {
            tenant: work.tenant(&id).expect("the tenant is there").clone(),
            held: work.held(&snapshot.id).expect("the subscription is held").clone(),
        }
    }

    pub(crate) fn begin(&self) -> UnitOfWork {
        UnitOfWork::begin([], [self.tenant.clone()], [self.held.clone()], [])
    }
}
