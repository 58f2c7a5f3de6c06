//! A subscription as Stripe sends it ([`Snapshot`]) and as it is stored ([`Subscription`]), and the
//! rule that decides whether a snapshot replaces the stored state ([`decide`]).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{CustomerId, InvoiceId, PriceId, SubscriptionId};
use super::metadata::Metadata;
use super::previous_attributes::{PreviousAttributes, PreviousValue};

/// The kind of a `customer.subscription.*` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionEventKind {
    /// `.created`. Its snapshot is the oldest of its second.
    Created,
    /// `.updated`, `.paused`, `.resumed`
    Changed,
    /// `.deleted`
    Deleted,
    /// `.trial_will_end`, `.pending_update_applied`, `.pending_update_expired`. The snapshot can be
    /// older than the event.
    Announced,
}

/// Stripe's status of a subscription
/// (<https://docs.stripe.com/billing/subscriptions/overview#subscription-statuses>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The first payment is pending.
    Incomplete,
    /// The first payment did not arrive in time. Final.
    IncompleteExpired,
    Trialing,
    Active,
    /// The payment of the latest invoice failed. Stripe retries it.
    PastDue,
    /// The payment of the latest invoice failed. Stripe no longer retries it.
    Unpaid,
    /// Final.
    Canceled,
    /// Paused by its owner, or because the trial ended without a payment method.
    Paused,
    /// A status that Stripe has added since. It grants no access.
    Other(Arc<str>),
}

/// Bytes. Stripe's longest status has 18.
const MAX_STATUS_LENGTH: usize = 64;

impl Status {
    /// `None` if the text is empty, longer than `MAX_STATUS_LENGTH`, or has other characters than
    /// letters, digits and `_`.
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
            other if (1..=MAX_STATUS_LENGTH).contains(&other.len()) && is_word(other) => {
                Self::Other(other.into())
            }
            _ => return None,
        })
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            known => known.known_name().unwrap_or_default(),
        }
    }

    /// `None` for [`Self::Other`].
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

    /// Whether the subscription has ended. Its id is never active again.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Canceled | Self::IncompleteExpired)
    }

    pub fn is_in_good_standing(&self) -> bool {
        matches!(self, Self::Active | Self::Trialing)
    }

    /// Whether the tenant cannot buy another subscription while it has one with this status: it is
    /// not final, and its first payment is not pending.
    pub fn blocks_checkout(&self) -> bool {
        !self.is_final() && *self != Self::Incomplete
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An item of a subscription. Comparison ignores the lookup key: it belongs to the price and can
/// move to another price while the subscription stays the same.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
pub struct Item {
    pub price: PriceId,
    pub lookup_key: Option<PriceId>,
    /// `None` for metered prices.
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

/// A field whose stored value differs from Stripe's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub field: &'static str,
    pub ours: FieldValue,
    pub theirs: FieldValue,
}

/// A value for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    Text(String),
    /// In Unix seconds.
    Time(Option<i64>),
}

/// The fields of Stripe's subscription that are stored. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub status: Status,
    /// Stripe's `created`.
    pub started_at: Option<i64>,
    pub items: Vec<Item>,
    /// If the items have different periods, the earliest end.
    pub current_period_end: Option<i64>,
    pub trial_end: Option<i64>,
    pub cancel_at: Option<i64>,
    pub cancel_at_period_end: bool,
    pub ended_at: Option<i64>,
}

impl State {
    /// Whether a cancellation is scheduled. The Customer Portal sets only `cancel_at` under
    /// flexible billing and both fields under classic billing. The API can set only
    /// `cancel_at_period_end`
    /// (<https://docs.stripe.com/billing/subscriptions/billing-mode/compare>).
    pub fn scheduled_cancel(&self) -> bool {
        !self.status.is_final() && (self.cancel_at_period_end || self.cancel_at.is_some())
    }

    pub fn differences(&self, theirs: &Self) -> Vec<Difference> {
        let items = |state: &Self| state.items.iter().map(Item::to_string).collect::<Vec<_>>().join(", ");
        let text = |field, ours, theirs| Difference {
            field,
            ours: FieldValue::Text(ours),
            theirs: FieldValue::Text(theirs),
        };
        let time = |field, ours, theirs| Difference {
            field,
            ours: FieldValue::Time(ours),
            theirs: FieldValue::Time(theirs),
        };
        let items_differ = self.items != theirs.items;
        let fields = [
            text("status", self.status.to_string(), theirs.status.to_string()),
            time("started_at", self.started_at, theirs.started_at),
            text("items", items(self), if items_differ { items(theirs) } else { items(self) }),
            time("current_period_end", self.current_period_end, theirs.current_period_end),
            time("trial_end", self.trial_end, theirs.trial_end),
            time("cancel_at", self.cancel_at, theirs.cancel_at),
            text(
                "cancel_at_period_end",
                self.cancel_at_period_end.to_string(),
                theirs.cancel_at_period_end.to_string(),
            ),
            time("ended_at", self.ended_at, theirs.ended_at),
        ];
        fields.into_iter().filter(|difference| difference.ours != difference.theirs).collect()
    }

    /// The scheduled end, also if the subscription has ended already.
    pub fn ends_at(&self) -> Option<i64> {
        self.cancel_at.or(if self.cancel_at_period_end { self.current_period_end } else { None })
    }
}

/// A subscription as Stripe sends it in an event or an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub id: SubscriptionId,
    pub customer: CustomerId,
    pub state: State,
    pub metadata: Metadata,
    /// The event's `previous_attributes`, if it has any.
    pub previous: Option<PreviousAttributes>,
    /// Stripe truncates lists inside objects, to ten entries by default, and sets `has_more`
    /// (<https://docs.stripe.com/api/expanding_objects>).
    pub has_all_items: bool,
    pub latest_invoice: Option<InvoiceId>,
}

impl Snapshot {
    /// `customer.subscription.deleted` always ends the subscription, whatever status its snapshot
    /// has.
    #[must_use]
    pub fn ended_if_deleted(mut self, kind: SubscriptionEventKind) -> Self {
        if kind == SubscriptionEventKind::Deleted && !self.state.status.is_final() {
            self.state.status = Status::Canceled;
        }
        self
    }

    /// Whether all items are present, or the subscription has ended and grants no plan.
    pub fn can_determine_plan(&self) -> bool {
        self.has_all_items || self.state.status.is_final()
    }

    /// The prices of the items and of the items that the update replaced.
    pub fn prices(&self) -> impl Iterator<Item = &PriceId> {
        self.state.items.iter().chain(self.replaced_items()).map(|item| &item.price)
    }

    /// The items before the update, if it changed them.
    pub fn replaced_items(&self) -> &[Item] {
        match self.previous.as_ref().map(|previous| &previous.items) {
            Some(PreviousValue::Was(Some(items))) => items,
            _ => &[],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentProblem {
    Failed,
    /// The customer must confirm the payment, for example with 3-D Secure.
    ActionRequired,
}

impl PaymentProblem {
    /// The value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "payment_failed",
            Self::ActionRequired => "payment_action_required",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Failed, Self::ActionRequired].into_iter().find(|problem| problem.as_str() == text)
    }
}

/// The `as_of` of a state that comes from an announcement: every other snapshot is newer.
const ANNOUNCED: i64 = i64::MIN;

/// A stored subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub customer: CustomerId,
    pub state: State,
    /// Stripe's time of the last applied event or answer, in Unix seconds. [`ANNOUNCED`] if the
    /// state comes from an announcement.
    pub as_of: i64,
    /// Incremented with every change. If it changes while a refresh is running, the refresh's
    /// answer is outdated.
    pub revision: i64,
    /// The checkout completed, but a delayed first payment is pending. Grants no access.
    pub awaiting_payment: bool,
    /// The problem of the latest payment.
    pub payment_problem: Option<PaymentProblem>,
    /// Stripe's time of the invoice event that set or cleared `payment_problem`.
    pub payment_noted_at: Option<i64>,
    /// Stripe's time of the last successful payment.
    pub paid_at: Option<i64>,
}

impl Subscription {
    pub fn new(snapshot: &Snapshot, as_of: i64) -> Self {
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

    /// Lets every other snapshot replace the state.
    pub fn mark_announced(&mut self) {
        self.as_of = ANNOUNCED;
    }

    pub fn is_from_announcement(&self) -> bool {
        self.as_of == ANNOUNCED
    }

    /// Notes the result of a payment, unless a later one is noted. Returns whether it was the
    /// latest. Within one second, a success is later than a required action, and a required action
    /// later than the failure that led to it.
    pub fn note_payment(&mut self, problem: Option<PaymentProblem>, at: i64) -> bool {
        let rank = |problem: Option<PaymentProblem>| match problem {
            Some(PaymentProblem::Failed) => 0,
            Some(PaymentProblem::ActionRequired) => 1,
            None => 2,
        };
        let is_latest = self
            .payment_noted_at
            .is_none_or(|noted| (at, rank(problem)) >= (noted, rank(self.payment_problem)));
        if problem.is_none() {
            self.mark_paid(at);
        }
        if is_latest {
            self.payment_problem = problem;
            self.payment_noted_at = Some(at);
            self.revision += 1;
        }
        is_latest
    }

    /// A payment succeeded, so the first payment is no longer pending.
    pub fn mark_paid(&mut self, at: i64) {
        if self.paid_at < Some(at) || self.awaiting_payment {
            self.paid_at = self.paid_at.max(Some(at));
            self.awaiting_payment = false;
            self.revision += 1;
        }
    }

    /// The first payment is pending, unless a payment has already succeeded: the event that reports
    /// it can be late.
    pub fn await_payment(&mut self) {
        if self.paid_at.is_none() && !self.awaiting_payment {
            self.awaiting_payment = true;
            self.revision += 1;
        }
    }

    /// `as_of` never decreases, except for a final state, which applies however old it is. Only
    /// other final states can follow, and they are compared with its time.
    pub fn set_state(&mut self, state: State, as_of: i64) {
        let is_end = state.status.is_final() && !self.state.status.is_final();
        self.as_of = if is_end { as_of } else { self.as_of.max(as_of) };
        self.state = state;
        self.revision += 1;
    }
}

/// What to do with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It replaces the current state.
    Apply,
    /// It equals the current state.
    Unchanged,
    /// The current state stays.
    Stale(StaleReason),
    /// It has the same second as the current state. [`latest`](super::same_second::latest) decides.
    SameSecond,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleReason {
    /// The subscription has ended.
    AlreadyFinal,
    /// The event is older than the stored state.
    Older,
    /// Another snapshot of the same second is later.
    SameSecond,
    /// An announcement never overwrites a stored state.
    Announcement,
    /// Stripe truncated the list of items.
    IncompleteItems,
    CustomerDeleted,
}

impl StaleReason {
    /// The value in logs and in the inbox.
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

/// The ordering rule: compares the snapshot of an event with the current state. `created` is the
/// event's. In order of precedence, with the numbers of `docs/ordering.md`:
///
/// - A final snapshot applies however old it is, and only another final one replaces it (rule 1).
/// - An announcement can carry an old snapshot, so it creates a subscription but never overwrites
///   one (rule 4).
/// - All snapshots of one second are compared (rule 3).
/// - An equal snapshot changes nothing, however old it is. Of the others a newer one applies, and
///   an older one is stale (rule 2).
pub fn decide(
    current: Option<&Subscription>,
    kind: SubscriptionEventKind,
    snapshot: &Snapshot,
    created: i64,
) -> Decision {
    let Some(current) = current else { return Decision::Apply };
    match (current.state.status.is_final(), snapshot.state.status.is_final()) {
        (true, false) => return Decision::Stale(StaleReason::AlreadyFinal),
        (false, true) => return Decision::Apply,
        (true, true) | (false, false) => {}
    }
    let is_equal = current.state == snapshot.state;
    if kind == SubscriptionEventKind::Announced {
        return if is_equal { Decision::Unchanged } else { Decision::Stale(StaleReason::Announcement) };
    }
    match created.cmp(&current.as_of) {
        Ordering::Equal => Decision::SameSecond,
        _ if is_equal => Decision::Unchanged,
        Ordering::Less => Decision::Stale(StaleReason::Older),
        Ordering::Greater => Decision::Apply,
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
            metadata: Metadata::default(),
            previous: None,
            has_all_items: true,
            latest_invoice: None,
        }
    }

    fn stored(status: &str, as_of: i64) -> Subscription {
        Subscription::new(&snapshot(status), as_of)
    }

    fn decision(stored: &Subscription, kind: SubscriptionEventKind, status: &str, created: i64) -> Decision {
        decide(Some(stored), kind, &snapshot(status), created)
    }

    #[test]
    fn first_snapshot_of_any_kind_is_applied() {
        for kind in [
            SubscriptionEventKind::Created,
            SubscriptionEventKind::Changed,
            SubscriptionEventKind::Deleted,
            SubscriptionEventKind::Announced,
        ] {
            assert_eq!(decide(None, kind, &snapshot("active"), 5), Decision::Apply);
        }
    }

    #[test]
    fn newer_snapshot_is_applied_and_older_one_is_stale() {
        let stored = stored("active", 10);
        assert_eq!(decision(&stored, SubscriptionEventKind::Changed, "past_due", 11), Decision::Apply);
        assert_eq!(
            decision(&stored, SubscriptionEventKind::Changed, "past_due", 9),
            Decision::Stale(StaleReason::Older)
        );
    }

    #[test]
    fn final_snapshot_is_applied_however_old_and_never_revived() {
        assert_eq!(
            decision(&stored("active", 10), SubscriptionEventKind::Deleted, "canceled", 3),
            Decision::Apply
        );
        assert_eq!(
            decision(&stored("canceled", 10), SubscriptionEventKind::Changed, "active", 99),
            Decision::Stale(StaleReason::AlreadyFinal)
        );
    }

    #[test]
    fn as_of_decreases_only_for_a_final_state() {
        let mut subscription = stored("active", 10);
        subscription.set_state(state("past_due"), 3);
        assert_eq!((subscription.as_of, subscription.revision), (10, 2));
        subscription.set_state(state("canceled"), 3);
        assert_eq!((subscription.as_of, subscription.revision), (3, 3));
    }

    #[test]
    fn snapshots_of_the_same_second_are_compared() {
        for kind in [SubscriptionEventKind::Created, SubscriptionEventKind::Changed] {
            assert_eq!(decision(&stored("active", 10), kind, "past_due", 10), Decision::SameSecond);
            assert_eq!(decision(&stored("active", 10), kind, "active", 10), Decision::SameSecond);
        }
    }

    #[test]
    fn announcement_never_overwrites() {
        assert_eq!(
            decision(&stored("active", 10), SubscriptionEventKind::Announced, "trialing", 11),
            Decision::Stale(StaleReason::Announcement)
        );
    }

    #[test]
    fn equal_snapshot_changes_nothing() {
        assert_eq!(
            decision(&stored("active", 10), SubscriptionEventKind::Changed, "active", 3),
            Decision::Unchanged
        );
    }

    #[test]
    fn either_cancel_field_schedules_an_end_until_it_has_ended() {
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
    fn differences_are_listed_by_field() {
        assert_eq!(state("active").differences(&state("active")), []);
        let mut theirs = state("past_due");
        theirs.cancel_at = Some(500);
        let item = |quantity| Item {
            price: PriceId::parse("price_a").expect("a price"),
            lookup_key: PriceId::parse("pro").ok(),
            quantity,
        };
        theirs.items = vec![item(Some(2)), item(None)];
        let text = |text: &str| FieldValue::Text(text.to_owned());
        let items = text("price_a (pro) x 2, price_a (pro)");
        assert_eq!(
            state("active").differences(&theirs),
            [
                Difference { field: "status", ours: text("active"), theirs: text("past_due") },
                Difference { field: "items", ours: text(""), theirs: items },
                Difference {
                    field: "cancel_at",
                    ours: FieldValue::Time(None),
                    theirs: FieldValue::Time(Some(500))
                },
            ]
        );
    }

    #[test]
    fn unknown_status_is_kept_verbatim() {
        assert_eq!(Status::parse("hibernating").map(|s| s.to_string()).as_deref(), Some("hibernating"));
        for bad in ["", "two words", &"x".repeat(65)] {
            assert_eq!(Status::parse(bad), None);
        }
    }
}
