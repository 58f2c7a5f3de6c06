//! The subscription's states, and the rule that says which of two snapshots stands.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{CustomerId, InvoiceId, PriceId, SubscriptionId};
use super::previous::{Previous, Replaced};
use super::tags::Tags;

/// Which of the `customer.subscription.*` types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionChange {
    /// `.created`: the first snapshot, and the oldest of its second.
    Created,
    /// `.updated`, `.paused`, `.resumed`: a snapshot of the moment.
    Changed,
    /// `.deleted`: the end.
    Deleted,
    /// `.trial_will_end`, `.pending_update_applied`, `.pending_update_expired`: the snapshot can be an old one.
    Announced,
}

/// Stripe's status of a subscription
/// (<https://docs.stripe.com/billing/subscriptions/overview#subscription-statuses>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The first payment is open.
    Incomplete,
    /// The first payment never came. Final.
    IncompleteExpired,
    /// In its trial.
    Trialing,
    /// Paid.
    Active,
    /// The latest invoice failed; Stripe tries again.
    PastDue,
    /// Stripe has stopped trying.
    Unpaid,
    /// Over. Final.
    Canceled,
    /// On hold, by its owner or for want of a payment method.
    Paused,
    /// A status that Stripe has added since. It grants nothing.
    Other(Arc<str>),
}

/// The longest status that is kept. Stripe's longest has 18 characters.
const STATUS_LENGTH: usize = 64;

impl Status {
    /// Reads Stripe's word. `None` for what no status could be: empty, too long, or not a word.
    pub fn parse(text: &str) -> Option<Self> {
        let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        Some(match text {
            "incomplete" => Self::Incomplete,
            "incomplete_expired" => Self::IncompleteExpired,
            "trialing" => Self::Trialing,
            "active" => Self::Active,
            "past_due" => Self::PastDue,
            "unpaid" => Self::Unpaid,
            "canceled" => Self::Canceled,
            "paused" => Self::Paused,
            other if (1..=STATUS_LENGTH).contains(&other.len()) && is_word(other) => {
                Self::Other(other.into())
            }
            _ => return None,
        })
    }

    /// Stripe's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            known => known.known_name().unwrap_or_default(),
        }
    }

    /// Stripe's word, for the statuses that we know.
    pub fn known_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Incomplete => "incomplete",
            Self::IncompleteExpired => "incomplete_expired",
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Unpaid => "unpaid",
            Self::Canceled => "canceled",
            Self::Paused => "paused",
            Self::Other(_) => return None,
        })
    }

    /// Whether that subscription id is over for good.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Canceled | Self::IncompleteExpired)
    }

    /// Whether it is paid, or in its trial.
    pub fn is_in_good_standing(&self) -> bool {
        matches!(self, Self::Active | Self::Trialing)
    }

    /// Whether a subscription in this status stands in the way of another one for the same tenant: everything but
    /// an end or a first payment that never came.
    pub fn blocks_checkout(&self) -> bool {
        !self.is_final() && *self != Self::Incomplete
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line of a subscription: a price and how many of it. Items are equal whatever their price is called: a lookup key is
/// the price's own, and can move to another price while the subscription stays as it is.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The price's id.
    pub price: PriceId,
    /// The name that the price's owner gave it, which outlives a change of amount.
    pub lookup_key: Option<PriceId>,
    /// How many; none for metered prices.
    pub quantity: Option<i64>,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        (&self.price, self.quantity) == (&other.price, other.quantity)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { price, lookup_key, quantity } = self;
        write!(f, "{price}")?;
        if let Some(key) = lookup_key {
            write!(f, " ({key})")?;
        }
        quantity.map_or(Ok(()), |quantity| write!(f, " x {quantity}"))
    }
}

/// One field of a subscription that is not the same here and at Stripe. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub field: &'static str,
    /// What we hold.
    pub ours: String,
    /// What Stripe says.
    pub theirs: String,
}

/// The part of a subscription that Stripe tells and we keep. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Stripe's status.
    pub status: Status,
    /// When Stripe made the subscription.
    pub started_at: Option<i64>,
    /// What is subscribed to.
    pub items: Vec<Item>,
    /// When the paid period ends; of several items, the earliest.
    pub current_period_end: Option<i64>,
    /// When the trial ends or ended.
    pub trial_end: Option<i64>,
    /// When it will end, if an end is set.
    pub cancel_at: Option<i64>,
    /// Whether it ends with its period.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub ended_at: Option<i64>,
}

impl State {
    /// Whether an end is set. The Customer Portal sets `cancel_at` alone under flexible billing and both fields under
    /// classic billing, the API possibly `cancel_at_period_end` alone
    /// (<https://docs.stripe.com/billing/subscriptions/billing-mode/compare>).
    pub fn scheduled_cancel(&self) -> bool {
        !self.status.is_final() && (self.cancel_at_period_end || self.cancel_at.is_some())
    }

    /// What Stripe says otherwise than we do.
    pub fn differences(&self, theirs: &Self) -> Vec<Difference> {
        let items = |state: &Self| state.items.iter().map(Item::to_string).collect::<Vec<_>>().join(", ");
        let time = |at: Option<i64>| at.map_or_else(|| "none".to_owned(), |at| at.to_string());
        let items_differ = self.items != theirs.items;
        [
            ("status", self.status.to_string(), theirs.status.to_string()),
            ("started_at", time(self.started_at), time(theirs.started_at)),
            ("items", items(self), if items_differ { items(theirs) } else { items(self) }),
            ("current_period_end", time(self.current_period_end), time(theirs.current_period_end)),
            ("trial_end", time(self.trial_end), time(theirs.trial_end)),
            ("cancel_at", time(self.cancel_at), time(theirs.cancel_at)),
            (
                "cancel_at_period_end",
                self.cancel_at_period_end.to_string(),
                theirs.cancel_at_period_end.to_string(),
            ),
            ("ended_at", time(self.ended_at), time(theirs.ended_at)),
        ]
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(field, ours, theirs)| Difference { field, ours, theirs })
        .collect()
    }

    /// When it will end or was to end.
    pub fn ends_at(&self) -> Option<i64> {
        self.cancel_at.or(if self.cancel_at_period_end { self.current_period_end } else { None })
    }
}

/// A subscription as Stripe drew it at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Which subscription.
    pub id: SubscriptionId,
    /// Who pays.
    pub customer: CustomerId,
    /// How it stood.
    pub state: State,
    /// What our checkout wrote into it.
    pub tags: Tags,
    /// What the event that brought it replaced, if the event says.
    pub previous: Option<Previous>,
    /// Whether its items are all there are. Lists inside objects are cut, to ten entries by default, and say so by `has_more`
    /// (<https://docs.stripe.com/api/expanding_objects>).
    pub has_all_items: bool,
    /// The invoice that Stripe made for it last.
    pub latest_invoice: Option<InvoiceId>,
}

impl Snapshot {
    /// Whether a plan can be judged by it: all of its items are there, or it is over and grants none.
    pub fn judges_plan(&self) -> bool {
        self.has_all_items || self.state.status.is_final()
    }

    /// The prices of its items, and of those that an update replaced.
    pub fn prices(&self) -> impl Iterator<Item = &PriceId> {
        self.state.items.iter().chain(self.replaced_items()).map(|item| &item.price)
    }

    /// The items that an update replaced, if it replaced them.
    pub fn replaced_items(&self) -> &[Item] {
        match self.previous.as_ref().map(|previous| &previous.items) {
            Some(Replaced::Value(Some(items))) => items,
            Some(Replaced::Value(None) | Replaced::Not) | None => &[],
        }
    }
}

/// Why a payment needs its owner's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentProblem {
    /// The charge failed.
    Failed,
    /// The bank wants its customer to confirm.
    ActionRequired,
}

impl PaymentProblem {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "payment_failed",
            Self::ActionRequired => "payment_action_required",
        }
    }

    /// Reads the word in the database.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Failed, Self::ActionRequired].into_iter().find(|problem| problem.as_str() == text)
    }
}

/// A subscription as we hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Which subscription.
    pub id: SubscriptionId,
    /// Who pays.
    pub customer: CustomerId,
    /// How it stands.
    pub state: State,
    /// Stripe's time of the last event or answer that was applied, in Unix seconds.
    pub as_of: i64,
    /// Goes up with every change, so that an answer from Stripe can tell whether it was overtaken.
    pub revision: i64,
    /// Its checkout completed with the money still on its way: it grants nothing yet.
    pub awaiting_payment: bool,
    /// The last payment's trouble, if it had any.
    pub payment_problem: Option<PaymentProblem>,
    /// Stripe's time of the invoice event that says so, or that the last payment had no trouble.
    pub payment_noted_at: Option<i64>,
    /// Stripe's time of the last that was heard of money having come.
    pub paid_at: Option<i64>,
}

impl Subscription {
    /// A subscription seen for the first time.
    pub fn first(snapshot: &Snapshot, as_of: i64) -> Self {
        Self {
            id: snapshot.id.clone(),
            customer: snapshot.customer.clone(),
            state: snapshot.state.clone(),
            as_of,
            revision: 1,
            awaiting_payment: false,
            payment_problem: None,
            payment_noted_at: None,
            paid_at: None,
        }
    }

    /// Notes how the last payment went, unless what is noted came later. Within a second a payment comes after its
    /// troubles, and the bank's question after the failure that it explains.
    pub fn note_payment(&mut self, problem: Option<PaymentProblem>, at: i64) -> bool {
        let rank = |problem: Option<PaymentProblem>| match problem {
            Some(PaymentProblem::Failed) => 0,
            Some(PaymentProblem::ActionRequired) => 1,
            None => 2,
        };
        let is_later = self
            .payment_noted_at
            .is_none_or(|noted| (at, rank(problem)) >= (noted, rank(self.payment_problem)));
        if problem.is_none() {
            self.mark_paid(at);
        }
        if is_later {
            self.payment_problem = problem;
            self.payment_noted_at = Some(at);
            self.revision += 1;
        }
        is_later
    }

    /// Money has come, at that time: the question whether its first has is answered.
    pub fn mark_paid(&mut self, at: i64) {
        if self.paid_at < Some(at) || self.awaiting_payment {
            self.paid_at = self.paid_at.max(Some(at));
            self.awaiting_payment = false;
            self.revision += 1;
        }
    }

    /// The money is still on its way, as far as whoever says so knew. Once any has come, the question is answered, however
    /// late it is asked.
    pub fn await_payment(&mut self) {
        if self.paid_at.is_none() && !self.awaiting_payment {
            self.awaiting_payment = true;
            self.revision += 1;
        }
    }

    /// Takes the state over. `as_of` goes back only for an end, which stands however old it is: after it only other ends
    /// count, and they compare with its own time.
    pub fn advance(&mut self, state: State, as_of: i64) {
        let ends = state.status.is_final() && !self.state.status.is_final();
        self.as_of = if ends { as_of } else { self.as_of.max(as_of) };
        self.state = state;
        self.revision += 1;
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It stands: take it over.
    Apply,
    /// It says what we hold already.
    Unchanged,
    /// What we hold stands.
    Stale(StaleReason),
    /// It is of the second of what we hold: all that second's snapshots decide together.
    SameSecond,
}

/// Why a snapshot does not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleReason {
    /// The subscription is over, and nothing revives its id.
    AlreadyFinal,
    /// Stripe made the event before the one we hold.
    Older,
    /// Another snapshot of the same second is later.
    SameSecond,
    /// Announcements can carry old snapshots: they never overwrite.
    Announcement,
    /// Its list of items was cut.
    IncompleteItems,
    /// Its customer was deleted.
    CustomerDeleted,
}

impl StaleReason {
    /// The word in logs and in the inbox.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyFinal => "already_final",
            Self::Older => "older",
            Self::SameSecond => "same_second",
            Self::Announcement => "announcement",
            Self::IncompleteItems => "incomplete_items",
            Self::CustomerDeleted => "customer_deleted",
        }
    }
}

/// Decides between the snapshot of an event made at `created` and the subscription that we hold.
pub fn decide(
    held: Option<&Subscription>,
    change: SubscriptionChange,
    snapshot: &Snapshot,
    created: i64,
) -> Decision {
    let Some(held) = held else { return Decision::Apply };
    let equal = held.state == snapshot.state;
    match (held.state.status.is_final(), snapshot.state.status.is_final()) {
        (true, false) => return Decision::Stale(StaleReason::AlreadyFinal),
        (false, true) => return Decision::Apply,
        (true, true) | (false, false) => {}
    }
    match (created.cmp(&held.as_of), change) {
        _ if equal && change == SubscriptionChange::Announced => Decision::Unchanged,
        (_, SubscriptionChange::Announced) => Decision::Stale(StaleReason::Announcement),
        (Ordering::Equal, _) => Decision::SameSecond,
        _ if equal => Decision::Unchanged,
        (Ordering::Less, _) => Decision::Stale(StaleReason::Older),
        (Ordering::Greater, _) => Decision::Apply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: &str) -> State {
        State {
            status: Status::parse(status).expect("a status"),
            started_at: Some(1),
            items: vec![],
            current_period_end: Some(1000),
            trial_end: None,
            cancel_at: None,
            cancel_at_period_end: false,
            ended_at: None,
        }
    }

    fn snapshot(status: &str) -> Snapshot {
        Snapshot {
            id: SubscriptionId::parse("sub_1").expect("an id"),
            customer: CustomerId::parse("cus_1").expect("an id"),
            state: state(status),
            tags: Tags::default(),
            previous: None,
            has_all_items: true,
            latest_invoice: None,
        }
    }

    fn held(status: &str, as_of: i64) -> Subscription {
        Subscription::first(&snapshot(status), as_of)
    }

    fn decided(held: &Subscription, change: SubscriptionChange, status: &str, created: i64) -> Decision {
        decide(Some(held), change, &snapshot(status), created)
    }

    #[test]
    fn the_first_snapshot_of_any_kind_makes_the_row() {
        for change in [
            SubscriptionChange::Created,
            SubscriptionChange::Changed,
            SubscriptionChange::Deleted,
            SubscriptionChange::Announced,
        ] {
            assert_eq!(decide(None, change, &snapshot("active"), 5), Decision::Apply);
        }
    }

    #[test]
    fn a_newer_snapshot_stands_and_an_older_one_does_not() {
        let held = held("active", 10);
        assert_eq!(decided(&held, SubscriptionChange::Changed, "past_due", 11), Decision::Apply);
        assert_eq!(
            decided(&held, SubscriptionChange::Changed, "past_due", 9),
            Decision::Stale(StaleReason::Older)
        );
    }

    #[test]
    fn a_final_snapshot_stands_however_old_and_nothing_revives_it() {
        assert_eq!(decided(&held("active", 10), SubscriptionChange::Deleted, "canceled", 3), Decision::Apply);
        assert_eq!(
            decided(&held("canceled", 10), SubscriptionChange::Changed, "active", 99),
            Decision::Stale(StaleReason::AlreadyFinal)
        );
    }

    #[test]
    fn an_end_has_its_own_time_and_nothing_else_turns_it_back() {
        let mut subscription = held("active", 10);
        subscription.advance(state("past_due"), 3);
        assert_eq!((subscription.as_of, subscription.revision), (10, 2));
        subscription.advance(state("canceled"), 3);
        assert_eq!((subscription.as_of, subscription.revision), (3, 3));
    }

    #[test]
    fn a_second_decides_as_a_whole() {
        for change in [SubscriptionChange::Created, SubscriptionChange::Changed] {
            assert_eq!(decided(&held("active", 10), change, "past_due", 10), Decision::SameSecond);
            assert_eq!(decided(&held("active", 10), change, "active", 10), Decision::SameSecond);
        }
    }

    #[test]
    fn an_announcement_never_overwrites() {
        assert_eq!(
            decided(&held("active", 10), SubscriptionChange::Announced, "trialing", 11),
            Decision::Stale(StaleReason::Announcement)
        );
    }

    #[test]
    fn an_equal_snapshot_changes_nothing() {
        assert_eq!(
            decided(&held("active", 10), SubscriptionChange::Changed, "active", 3),
            Decision::Unchanged
        );
    }

    #[test]
    fn an_end_is_scheduled_by_either_field_until_it_has_come() {
        let mut by_date = state("active");
        by_date.cancel_at = Some(500);
        assert!(by_date.scheduled_cancel());
        assert_eq!(by_date.ends_at(), Some(500));

        let mut by_period = state("active");
        by_period.cancel_at_period_end = true;
        assert!(by_period.scheduled_cancel());
        assert_eq!(by_period.ends_at(), Some(1000));

        assert!(!state("active").scheduled_cancel());
        by_date.status = Status::Canceled;
        assert!(!by_date.scheduled_cancel());
    }

    #[test]
    fn differences_are_told_field_by_field() {
        assert_eq!(state("active").differences(&state("active")), []);
        let mut theirs = state("past_due");
        theirs.cancel_at = Some(500);
        let item = |quantity| Item {
            price: PriceId::parse("price_a").expect("a price"),
            lookup_key: PriceId::parse("pro").ok(),
            quantity,
        };
        theirs.items = vec![item(Some(2)), item(None)];
        let told: Vec<String> = state("active")
            .differences(&theirs)
            .into_iter()
            .map(|Difference { field, ours, theirs }| format!("{field}: {ours} / {theirs}"))
            .collect();
        let items = "items:  / price_a (pro) x 2, price_a (pro)";
        assert_eq!(told, ["status: active / past_due", items, "cancel_at: none / 500"]);
    }

    #[test]
    fn a_status_that_stripe_adds_is_kept_word_for_word() {
        assert_eq!(Status::parse("hibernating").map(|s| s.to_string()).as_deref(), Some("hibernating"));
        for bad in ["", "two words", &"x".repeat(65)] {
            assert_eq!(Status::parse(bad), None);
        }
    }
}
