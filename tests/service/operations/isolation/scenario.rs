//! A random scenario: what two tenants and others do, what happens at Stripe, and when its webhooks
//! are delivered.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

#[derive(Debug, Clone)]
pub struct Scenario {
    pub names: TenantNames,
    pub start: [StartState; 2],
    pub steps: Vec<Step>,
}

/// How the two tenants' names resemble each other.
#[derive(Debug, Clone, Copy)]
pub enum TenantNames {
    /// One is a prefix of the other.
    Prefix,
    Case,
    Punctuation,
    /// `_` matches any character in an SQL pattern.
    Wildcard,
    /// One looks like the end of the idempotency key for the other's customer.
    Generation,
    /// Both have the maximum length and differ in the last character.
    Longest,
}

impl TenantNames {
    /// The names, which differ from those of any other `unique`.
    pub fn of(self, unique: &str) -> [String; 2] {
        match self {
            Self::Prefix => [format!("acme{unique}"), format!("acme{unique}2")],
            Self::Case => [format!("acme{unique}"), format!("Acme{unique}")],
            Self::Punctuation => [format!("acme.{unique}"), format!("acme-{unique}")],
            Self::Wildcard => [format!("acme_{unique}"), format!("acmes{unique}")],
            Self::Generation => [format!("acme{unique}"), format!("acme{unique}-0")],
            Self::Longest => {
                let long = format!("{:a<62}", format!("acme{unique}"));
                [format!("{long}1"), format!("{long}2")]
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum StartState {
    Nothing,
    AtCheckout,
    Subscribed,
}

#[derive(Debug, Clone)]
pub struct Step {
    /// The tenant's index.
    pub who: usize,
    /// Whether the request names the other tenant in every place that could hold a tenant.
    pub names_other: bool,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub enum Action {
    // The tenant's user.
    CheckOut,
    OpenPortal(Option<&'static str>),
    RefreshCheckout(SessionOwner),
    Read(KnownEtag),
    Follow(KnownEtag),
    ReadOtherTenant,
    /// Names the other tenant and its ids in bodies.
    Impersonate,
    ExceedRateLimit,

    // Other callers.
    ReadAsService(KnownEtag),
    CallUserEndpointsAsService,
    /// A tenant without billing, and callers without a valid token.
    SendAsStrangers,
    /// The link command, with the other tenant's customer.
    LinkToOtherCustomer,
    /// The link command, with a customer that has subscribed without Billhook's checkout.
    LinkToNewCustomer,
    Restart,

    // At Stripe.
    Pay(&'static str),
    Settle(bool),
    Change(Change),
    CancelInPortal,
    /// A payment link whose `client_reference_id` names the other tenant.
    BuyUnderOtherName,
    /// The tenant's customer buys with the other tenant's metadata.
    BuyWithOtherMetadata,
    DeleteCustomer,
    /// Removes the customer as if it had never existed.
    RemoveCustomer,

    // Webhooks.
    Deliver {
        newest_first: bool,
    },
    DeliverBoth,
    Redeliver(Index),
}

#[derive(Debug, Clone, Copy)]
pub enum SessionOwner {
    This,
    Other,
}

/// The ETags that a reader sends as known.
#[derive(Debug, Clone, Copy)]
pub enum KnownEtag {
    None,
    Own,
    Other,
    OtherAndOwn,
    Any,
}

#[derive(Debug, Clone, Copy)]
pub enum Change {
    Price,
    Quantity(u32),
    Renew,
    Status(&'static str),
    EndWithPeriod(bool),
    End,
}

pub fn scenario() -> BoxedStrategy<Scenario> {
    let names = select(
        &[
            TenantNames::Prefix,
            TenantNames::Case,
            TenantNames::Punctuation,
            TenantNames::Wildcard,
            TenantNames::Generation,
            TenantNames::Longest,
        ][..],
    );
    let start_state = || {
        prop_oneof![
            1 => Just(StartState::Nothing),
            1 => Just(StartState::AtCheckout),
            3 => Just(StartState::Subscribed)
        ]
    };
    (names, [start_state(), start_state()], vec(step(), 10..36))
        .prop_map(|(names, start, steps)| Scenario { names, start, steps })
        .boxed()
}

fn step() -> impl Strategy<Value = Step> {
    (0_usize..2, any::<bool>(), action()).prop_map(|(who, names_other, action)| Step {
        who,
        names_other,
        action,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let flow =
        [None, Some("payment_method_update"), Some("subscription_update"), Some("subscription_cancel")];
    let by_users = prop_oneof![
        4 => Just(Action::CheckOut),
        3 => select(flow.to_vec()).prop_map(Action::OpenPortal),
        3 => select(&[SessionOwner::This, SessionOwner::Other][..]).prop_map(Action::RefreshCheckout),
        4 => known().prop_map(Action::Read),
        3 => known().prop_map(Action::Follow),
        1 => Just(Action::ReadOtherTenant),
        1 => Just(Action::Impersonate),
        1 => Just(Action::ExceedRateLimit),
    ];
    let by_other_callers = prop_oneof![
        3 => known().prop_map(Action::ReadAsService),
        1 => Just(Action::CallUserEndpointsAsService),
        2 => Just(Action::SendAsStrangers),
        2 => Just(Action::LinkToOtherCustomer),
        1 => Just(Action::LinkToNewCustomer),
        2 => Just(Action::Restart),
    ];
    let at_stripe = prop_oneof![
        4 => select(&["ok", "ok", "delayed"][..]).prop_map(Action::Pay),
        1 => any::<bool>().prop_map(Action::Settle),
        9 => change().prop_map(Action::Change),
        2 => Just(Action::CancelInPortal),
        2 => Just(Action::BuyUnderOtherName),
        2 => Just(Action::BuyWithOtherMetadata),
        2 => Just(Action::DeleteCustomer),
        1 => Just(Action::RemoveCustomer),
    ];
    let webhooks = prop_oneof![
        4 => any::<bool>().prop_map(|newest_first| Action::Deliver { newest_first }),
        3 => Just(Action::DeliverBoth),
        1 => any::<Index>().prop_map(Action::Redeliver),
    ];
    prop_oneof![5 => by_users, 2 => by_other_callers, 5 => at_stripe, 5 => webhooks]
}

fn known() -> impl Strategy<Value = KnownEtag> {
    select(&[KnownEtag::None, KnownEtag::Own, KnownEtag::Other, KnownEtag::OtherAndOwn, KnownEtag::Any][..])
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => Just(Change::Price),
        2 => (1_u32..9).prop_map(Change::Quantity),
        1 => Just(Change::Renew),
        2 => select(&["active", "past_due", "unpaid"][..]).prop_map(Change::Status),
        2 => any::<bool>().prop_map(Change::EndWithPeriod),
        1 => Just(Change::End),
    ]
}
