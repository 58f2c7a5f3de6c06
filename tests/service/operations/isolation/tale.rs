//! What two tenants do, what happens to them at Stripe, and when the service hears of it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

#[derive(Debug, Clone)]
pub struct Tale {
    pub names: Names,
    pub begin: [Beginning; 2],
    pub steps: Vec<Step>,
}

/// How the two tenants' names are alike.
#[derive(Debug, Clone, Copy)]
pub enum Names {
    /// One is the beginning of the other.
    Prefix,
    Case,
    Punctuation,
    /// `_` stands for any character where SQL compares by pattern.
    Wildcard,
    /// The other's looks like what the first's customer is made under.
    Generation,
    /// They differ in the last of as many characters as there may be.
    Longest,
}

impl Names {
    /// The names, which nobody else has whose `unique` is another.
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
pub enum Beginning {
    Nothing,
    AtCheckout,
    Subscribed,
}

#[derive(Debug, Clone)]
pub struct Step {
    /// Which of the two.
    pub who: usize,
    /// Whether the request names the other one wherever a request can name somebody.
    pub names_the_other: bool,
    pub act: Act,
}

#[derive(Debug, Clone)]
pub enum Act {
    // By the tenant's user.
    CheckOut,
    OpenPortal(Option<&'static str>),
    AskAfterCheckout(Whose),
    Read(Known),
    Follow(Known),
    /// Reads the other by its path.
    Trespass,
    /// Names the other, and what is its, in bodies.
    Impersonate,
    /// Asks until it is turned away for asking too often.
    Exhaust,

    // By somebody else.
    ReadAsService(Known),
    OverreachAsService,
    /// A tenant without billing, and somebody without a token.
    Strangers,
    /// At the command line: to the customer that the other has.
    LinkToTheOthers,
    /// At the command line: to a customer that bought elsewhere.
    LinkToItsOwn,
    Restart,

    // At Stripe.
    Pay(&'static str),
    Settle(bool),
    Change(Change),
    CancelInPortal,
    /// On a payment link, into whose URL the buyer wrote the other tenant's name.
    BuyInTheOthersName,
    /// For the tenant's customer, with the other's name and journey in all metadata.
    BuyWithTheOthersTags,
    DeleteCustomer,
    /// Stripe has never heard of the tenant's customer.
    ForgetCustomer,

    // Webhooks.
    Deliver {
        newest_first: bool,
    },
    DeliverBoth,
    Redeliver(Index),
}

#[derive(Debug, Clone, Copy)]
pub enum Whose {
    Own,
    Others,
}

/// Whose state a reader says that it has already.
#[derive(Debug, Clone, Copy)]
pub enum Known {
    Nothing,
    Own,
    Others,
    OthersAndOwn,
    Anything,
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

pub fn tale() -> BoxedStrategy<Tale> {
    let names = select(
        &[Names::Prefix, Names::Case, Names::Punctuation, Names::Wildcard, Names::Generation, Names::Longest]
            [..],
    );
    let beginning = || {
        prop_oneof![
            1 => Just(Beginning::Nothing),
            1 => Just(Beginning::AtCheckout),
            3 => Just(Beginning::Subscribed)
        ]
    };
    (names, [beginning(), beginning()], vec(step(), 10..36))
        .prop_map(|(names, begin, steps)| Tale { names, begin, steps })
        .boxed()
}

fn step() -> impl Strategy<Value = Step> {
    (0_usize..2, any::<bool>(), act()).prop_map(|(who, names_the_other, act)| Step {
        who,
        names_the_other,
        act,
    })
}

fn act() -> impl Strategy<Value = Act> {
    let flow =
        [None, Some("payment_method_update"), Some("subscription_update"), Some("subscription_cancel")];
    let by_users = prop_oneof![
        4 => Just(Act::CheckOut),
        3 => select(flow.to_vec()).prop_map(Act::OpenPortal),
        3 => select(&[Whose::Own, Whose::Others][..]).prop_map(Act::AskAfterCheckout),
        4 => known().prop_map(Act::Read),
        3 => known().prop_map(Act::Follow),
        1 => Just(Act::Trespass),
        1 => Just(Act::Impersonate),
        1 => Just(Act::Exhaust),
    ];
    let by_others = prop_oneof![
        3 => known().prop_map(Act::ReadAsService),
        1 => Just(Act::OverreachAsService),
        2 => Just(Act::Strangers),
        2 => Just(Act::LinkToTheOthers),
        1 => Just(Act::LinkToItsOwn),
        2 => Just(Act::Restart),
    ];
    let at_stripe = prop_oneof![
        4 => select(&["ok", "ok", "delayed"][..]).prop_map(Act::Pay),
        1 => any::<bool>().prop_map(Act::Settle),
        9 => change().prop_map(Act::Change),
        2 => Just(Act::CancelInPortal),
        2 => Just(Act::BuyInTheOthersName),
        2 => Just(Act::BuyWithTheOthersTags),
        2 => Just(Act::DeleteCustomer),
        1 => Just(Act::ForgetCustomer),
    ];
    let webhooks = prop_oneof![
        4 => any::<bool>().prop_map(|newest_first| Act::Deliver { newest_first }),
        3 => Just(Act::DeliverBoth),
        1 => any::<Index>().prop_map(Act::Redeliver),
    ];
    prop_oneof![5 => by_users, 2 => by_others, 5 => at_stripe, 5 => webhooks]
}

fn known() -> impl Strategy<Value = Known> {
    select(&[Known::Nothing, Known::Own, Known::Others, Known::OthersAndOwn, Known::Anything][..])
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
