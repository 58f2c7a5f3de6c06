//! Which plan a price belongs to, which status grants access, and which of a tenant's subscriptions
//! determines its entitlement.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::ids::{PlanName, PriceId};
use super::known_prices::KnownPrices;
use super::subscription::{Item, Status, Subscription};
use super::tenant::BillingState;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub name: PlanName,
    /// Ids or lookup keys of its prices. Never empty. A checkout sells the first one.
    pub prices: Vec<PriceId>,
}

/// The configured plans.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// In ascending rank.
    plans: Vec<Plan>,
    past_due_grants: bool,
}

/// Why `BILLHOOK_PLANS` is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlans {
    #[error("has an empty entry between its semicolons")]
    EmptyEntry,
    #[error("has an entry that is not of the form `plan=price,price`")]
    NoPrices,
    #[error("names a plan that is not 1 to 63 of lower-case letters, digits, `_`, `-`, or that is `free`")]
    BadName,
    #[error("has an empty or unreadable price")]
    BadPrice,
    #[error("names a plan twice")]
    PlanTwice,
    #[error("names a price twice")]
    PriceTwice,
}

/// How the items of a subscription match a plan, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recognition {
    Unknown,
    /// Only by a lookup key that the price once had.
    FormerKey,
    /// By the price's id or its present lookup key.
    Current,
}

/// Why a subscription grants no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessDenial {
    Status,
    /// The checkout completed, but the first payment has not arrived.
    AwaitingPayment,
}

impl AccessDenial {
    /// The value in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::AwaitingPayment => "awaiting_payment",
        }
    }
}

/// A price that matches its plan only by a lookup key that it no longer has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormerKey {
    pub price: PriceId,
    pub lookup_key: PriceId,
    pub plan: PlanName,
}

/// What a tenant is entitled to now, and why. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entitlement {
    /// `None` is `free`.
    pub plan: Option<PlanName>,
    pub access: bool,
    pub status: Option<Status>,
    /// The price that grants the plan, else the first one.
    pub price: Option<PriceId>,
    pub quantity: Option<i64>,
    pub current_period_end: Option<i64>,
    pub trial_end: Option<i64>,
    pub scheduled_cancel: bool,
    /// The scheduled end.
    pub cancel_at: Option<i64>,
    /// Whether the tenant has a customer, so that it can open the Customer Portal. After the last
    /// subscription has ended, invoices can still be open.
    pub can_manage: bool,
    /// Stripe's time of the last applied change of any subscription.
    pub as_of: Option<i64>,
}

impl Catalog {
    /// Parses `BILLHOOK_PLANS`, which lists the best plan last.
    pub fn parse(text: &str, past_due_grants: bool) -> Result<Self, InvalidPlans> {
        let plans = text.split(';').map(parse_plan).collect::<Result<Vec<_>, _>>()?;
        if has_duplicates(plans.iter().map(|plan| &plan.name)) {
            return Err(InvalidPlans::PlanTwice);
        }
        if has_duplicates(plans.iter().flat_map(|plan| &plan.prices)) {
            return Err(InvalidPlans::PriceTwice);
        }
        Ok(Self { plans, past_due_grants })
    }

    /// Every price gives `free`.
    pub fn empty(past_due_grants: bool) -> Self {
        Self { plans: Vec::new(), past_due_grants }
    }

    /// In ascending rank.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    pub fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.name.as_str() == name)
    }

    /// The plan of a checkout that names none.
    pub fn default_plan(&self) -> Option<&Plan> {
        self.plans.first()
    }

    /// How well the best matching item is recognised.
    pub fn recognise(&self, items: &[Item], known: &KnownPrices) -> Recognition {
        let of_item = |item: &Item| match self.match_item(item, known) {
            None => Recognition::Unknown,
            Some((_, matched)) if *matched == item.price || Some(matched) == item.lookup_key.as_ref() => {
                Recognition::Current
            }
            Some(_) => Recognition::FormerKey,
        };
        items.iter().map(of_item).max().unwrap_or(Recognition::Unknown)
    }

    /// The prices of these subscriptions that are not configured by id, so that their plan depends
    /// on their lookup keys.
    pub fn prices_not_configured_by_id<'a>(
        &self,
        subscriptions: impl IntoIterator<Item = &'a Subscription>,
    ) -> BTreeSet<PriceId> {
        let items = subscriptions.into_iter().flat_map(|subscription| &subscription.state.items);
        items.map(|item| &item.price).filter(|price| self.rank_of_entry(price).is_none()).cloned().collect()
    }

    /// The prices that match a plan only by a former key. `holders` has the price that has each key
    /// now.
    pub fn former_keys(&self, known: &KnownPrices, holders: &BTreeMap<PriceId, PriceId>) -> Vec<FormerKey> {
        let former_key = |price: &PriceId| {
            let keys = known.keys_of(price);
            let (rank, lookup_key) = self.match_price(price, keys.into_iter())?;
            let is_former = lookup_key != price && holders.get(lookup_key) != Some(price);
            let plan = self.plans[rank].name.clone();
            is_former.then(|| FormerKey { price: price.clone(), lookup_key: lookup_key.clone(), plan })
        };
        known.prices().filter_map(former_key).collect()
    }

    pub fn grants(&self, subscription: &Subscription) -> bool {
        self.access_denial(subscription).is_none()
    }

    /// `None` if the subscription grants its plan.
    pub fn access_denial(&self, subscription: &Subscription) -> Option<AccessDenial> {
        let by_status = match subscription.state.status {
            Status::Trialing | Status::Active => true,
            Status::PastDue => self.past_due_grants,
            Status::Incomplete
            | Status::IncompleteExpired
            | Status::Unpaid
            | Status::Canceled
            | Status::Paused
            | Status::Other(_) => false,
        };
        if by_status {
            subscription.awaiting_payment.then_some(AccessDenial::AwaitingPayment)
        } else {
            Some(AccessDenial::Status)
        }
    }

    /// The subscription that determines the tenant's entitlement. Among those that grant access it
    /// is the one with the best plan, then one that is not past due, then the one with the latest
    /// period end. If none grants access, it is the newest. The smallest id breaks a tie, so that
    /// every replica gives the same answer.
    pub fn effective_subscription<'a>(
        &self,
        subscriptions: &'a [Subscription],
        known: &KnownPrices,
    ) -> Option<&'a Subscription> {
        subscriptions.iter().max_by_key(|subscription| {
            let grants = self.grants(subscription);
            let is_current = subscription.state.status != Status::PastDue;
            let by_merit = grants.then(|| {
                (self.best_rank(subscription, known), is_current, subscription.state.current_period_end)
            });
            let by_age = (!grants).then_some(subscription.state.started_at);
            (grants, by_merit, by_age, Reverse(&subscription.id))
        })
    }

    pub fn entitlement(&self, billing_state: &BillingState, known: &KnownPrices) -> Entitlement {
        let BillingState { has_customer: can_manage, ref subscriptions } = *billing_state;
        let Some(effective) = self.effective_subscription(subscriptions, known) else {
            return Entitlement { can_manage, ..Entitlement::default() };
        };
        let state = &effective.state;
        // Reversed, because `max_by_key` returns the last of equal items and the first is needed.
        let item = state.items.iter().rev().max_by_key(|item| self.rank_of(item, known));
        let access = self.grants(effective);
        Entitlement {
            plan: self
                .best_rank(effective, known)
                .filter(|_| access)
                .map(|rank| self.plans[rank].name.clone()),
            access,
            status: Some(state.status.clone()),
            price: item.map(|item| item.price.clone()),
            quantity: item.and_then(|item| item.quantity),
            current_period_end: state.current_period_end,
            trial_end: state.trial_end,
            scheduled_cancel: state.scheduled_cancel(),
            cancel_at: state.ends_at().filter(|_| state.scheduled_cancel()),
            can_manage,
            as_of: subscriptions.iter().map(|subscription| subscription.as_of).max(),
        }
    }

    fn best_rank(&self, subscription: &Subscription, known: &KnownPrices) -> Option<usize> {
        subscription.state.items.iter().filter_map(|item| self.rank_of(item, known)).max()
    }

    /// The rank of the plan that the item grants. An item with quantity 0 grants none; Stripe
    /// allows it (<https://docs.stripe.com/billing/subscriptions/change-price>).
    fn rank_of(&self, item: &Item, known: &KnownPrices) -> Option<usize> {
        let is_empty = item.quantity.is_some_and(|quantity| quantity <= 0);
        self.match_item(item, known).filter(|_| !is_empty).map(|(rank, _)| rank)
    }

    /// The rank of the item's plan, and the id or lookup key that matches.
    fn match_item<'a>(&self, item: &'a Item, known: &'a KnownPrices) -> Option<(usize, &'a PriceId)> {
        let keys = known.keys_of(&item.price).into_iter().chain(&item.lookup_key);
        self.match_price(&item.price, keys)
    }

    /// The price's id wins over its keys, and an earlier key over a later one.
    fn match_price<'a>(
        &self,
        price: &'a PriceId,
        mut keys: impl Iterator<Item = &'a PriceId>,
    ) -> Option<(usize, &'a PriceId)> {
        let by_id = self.rank_of_entry(price).map(|rank| (rank, price));
        by_id.or_else(|| keys.find_map(|key| Some((self.rank_of_entry(key)?, key))))
    }

    fn rank_of_entry(&self, entry: &PriceId) -> Option<usize> {
        self.plans.iter().position(|plan| plan.prices.contains(entry))
    }
}

fn parse_plan(entry: &str) -> Result<Plan, InvalidPlans> {
    let entry = entry.trim();
    if entry.is_empty() {
        return Err(InvalidPlans::EmptyEntry);
    }
    let (name, prices) = entry.split_once('=').ok_or(InvalidPlans::NoPrices)?;
    let name = PlanName::parse(name.trim()).map_err(|_| InvalidPlans::BadName)?;
    let prices = prices
        .split(',')
        .map(|price| PriceId::parse(price.trim()).map_err(|_| InvalidPlans::BadPrice))
        .collect::<Result<_, _>>()?;
    Ok(Plan { name, prices })
}

fn has_duplicates<'a, T: Ord + 'a>(values: impl Iterator<Item = &'a T>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    !values.into_iter().all(|value| seen.insert(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{CustomerId, SubscriptionId};
    use crate::domain::subscription::State;

    fn catalog() -> Catalog {
        Catalog::parse("pro=price_a,pro_yearly;team=price_c", true).expect("plans")
    }

    fn subscription(id: &str, status: &str, price: &str) -> Subscription {
        Subscription {
            id: SubscriptionId::parse(id).expect("an id"),
            customer: CustomerId::parse("cus_1").expect("an id"),
            state: State {
                status: Status::parse(status).expect("a status"),
                started_at: Some(100),
                items: vec![item(price)],
                current_period_end: Some(1000),
                trial_end: None,
                cancel_at: None,
                cancel_at_period_end: false,
                ended_at: None,
            },
            as_of: 100,
            revision: 1,
            awaiting_payment: false,
            payment_problem: None,
            payment_noted_at: None,
            paid_at: None,
        }
    }

    fn item(price: &str) -> Item {
        Item { price: PriceId::parse(price).expect("a price"), lookup_key: None, quantity: Some(1) }
    }

    fn entitlement(subscriptions: &[Subscription]) -> Entitlement {
        catalog().entitlement(&billing_state(subscriptions), &KnownPrices::default())
    }

    fn billing_state(subscriptions: &[Subscription]) -> BillingState {
        BillingState { has_customer: true, subscriptions: subscriptions.to_vec() }
    }

    fn price(text: &str) -> PriceId {
        PriceId::parse(text).expect("a price")
    }

    /// These prices have had these keys, in this order.
    fn known(keys: &[(&str, &str)]) -> KnownPrices {
        let mut known = KnownPrices::default();
        for ((id, key), seen_at) in keys.iter().zip(1..) {
            known.add(&price(id), &price(key), seen_at);
        }
        known
    }

    fn plan_of(catalog: &Catalog, subscriptions: &[Subscription]) -> Option<String> {
        catalog
            .entitlement(&billing_state(subscriptions), &KnownPrices::default())
            .plan
            .map(|plan| plan.to_string())
    }

    #[test]
    fn tenant_without_subscription_is_free() {
        let free = catalog().entitlement(&BillingState::default(), &KnownPrices::default());
        assert_eq!(free, Entitlement::default());
        assert_eq!(entitlement(&[]), Entitlement { can_manage: true, ..free }, "it has a customer");
    }

    #[test]
    fn access_depends_on_status() {
        for (status, grants) in [
            ("incomplete", false),
            ("incomplete_expired", false),
            ("trialing", true),
            ("active", true),
            ("past_due", true),
            ("unpaid", false),
            ("canceled", false),
            ("paused", false),
            ("hibernating", false),
        ] {
            let entitlement = entitlement(&[subscription("sub_1", status, "price_a")]);
            assert_eq!(entitlement.access, grants, "{status}");
            assert_eq!(entitlement.plan.is_some(), grants, "{status}");
        }
        let strict = Catalog::parse("pro=price_a", false).expect("plans");
        assert!(!strict.grants(&subscription("sub_1", "past_due", "price_a")));
    }

    #[test]
    fn subscription_awaiting_payment_grants_no_access() {
        let mut waiting = subscription("sub_1", "active", "price_a");
        waiting.awaiting_payment = true;
        assert!(!entitlement(&[waiting]).access);
    }

    #[test]
    fn price_is_matched_by_its_lookup_key() {
        let mut by_key = subscription("sub_1", "active", "price_unknown");
        by_key.state.items[0].lookup_key = PriceId::parse("pro_yearly").ok();
        assert_eq!(plan_of(&catalog(), &[by_key]).as_deref(), Some("pro"));
    }

    #[test]
    fn price_that_lost_its_key_keeps_its_plan() {
        let stored = [subscription("sub_1", "active", "price_old")];
        let known = known(&[("price_old", "pro_yearly"), ("price_new", "pro_yearly")]);
        let entitlement = catalog().entitlement(&billing_state(&stored), &known);
        assert_eq!(entitlement.plan.as_ref().map(PlanName::as_str), Some("pro"));
        assert_eq!(catalog().recognise(&stored[0].state.items, &known), Recognition::FormerKey);
        assert_eq!(catalog().prices_not_configured_by_id(&stored), [price("price_old")].into());
        let holders = [(price("pro_yearly"), price("price_new"))].into();
        let former: Vec<_> =
            catalog().former_keys(&known, &holders).into_iter().map(|one| one.price).collect();
        assert_eq!(former, [price("price_old")]);
    }

    #[test]
    fn price_id_wins_over_lookup_key() {
        let mut stored = subscription("sub_1", "active", "price_a");
        stored.state.items[0].lookup_key = Some(price("price_c"));
        let known = known(&[("price_a", "price_c")]);
        let entitlement = catalog().entitlement(&billing_state(std::slice::from_ref(&stored)), &known);
        assert_eq!(entitlement.plan.as_ref().map(PlanName::as_str), Some("pro"));
        assert_eq!(catalog().recognise(&stored.state.items, &known), Recognition::Current);
        assert!(catalog().prices_not_configured_by_id(&[stored]).is_empty());
        assert_eq!(catalog().former_keys(&known, &BTreeMap::new()), []);
    }

    #[test]
    fn first_lookup_key_wins_over_later_ones() {
        let catalog = Catalog::parse("pro=pro_key;team=team_key", true).expect("plans");
        let mut stored = subscription("sub_1", "active", "price_x");
        stored.state.items[0].lookup_key = Some(price("team_key"));
        for (keys, plan) in [
            (known(&[]), "team"),
            (known(&[("price_x", "team_key")]), "team"),
            (known(&[("price_x", "pro_key"), ("price_x", "team_key")]), "pro"),
            (known(&[("price_x", "draft"), ("price_x", "pro_key"), ("price_x", "team_key")]), "pro"),
        ] {
            let entitlement = catalog.entitlement(&billing_state(std::slice::from_ref(&stored)), &keys);
            assert_eq!(entitlement.plan.as_ref().map(PlanName::as_str), Some(plan), "{keys:?}");
        }
    }

    #[test]
    fn plan_is_that_of_the_best_item() {
        let mut several = subscription("sub_1", "active", "price_addon");
        several.state.items.push(item("price_c"));
        let entitlement = entitlement(&[several]);
        assert_eq!(entitlement.plan.map(|p| p.to_string()).as_deref(), Some("team"));
        assert_eq!(entitlement.price.map(|p| p.to_string()).as_deref(), Some("price_c"));
    }

    #[test]
    fn item_with_quantity_0_grants_no_plan() {
        let mut stored = subscription("sub_1", "active", "price_c");
        stored.state.items[0].quantity = Some(0);
        assert_eq!(entitlement(&[stored.clone()]).plan, None);
        let none = KnownPrices::default();
        assert_eq!(catalog().recognise(&stored.state.items, &none), Recognition::Current, "it is configured");
        stored.state.items.push(item("price_a"));
        let granted = entitlement(&[stored.clone()]);
        assert_eq!(granted.plan.as_ref().map(PlanName::as_str), Some("pro"));
        assert_eq!((granted.price, granted.quantity), (Some(price("price_a")), Some(1)));
        stored.state.items[0].quantity = None;
        assert_eq!(
            entitlement(&[stored]).plan.as_ref().map(PlanName::as_str),
            Some("team"),
            "a metered price"
        );
    }

    #[test]
    fn unconfigured_price_gives_free_and_is_unknown() {
        let unknown = subscription("sub_1", "active", "price_x");
        let none = KnownPrices::default();
        assert_eq!(catalog().recognise(&unknown.state.items, &none), Recognition::Unknown);
        let entitlement = entitlement(&[unknown]);
        assert_eq!((entitlement.plan, entitlement.access), (None, true));
    }

    #[test]
    fn best_plan_with_access_determines_entitlement() {
        let pro = subscription("sub_1", "active", "price_a");
        let team = subscription("sub_2", "active", "price_c");
        let ended_team = subscription("sub_3", "canceled", "price_c");
        assert_eq!(
            plan_of(&catalog(), &[pro.clone(), team.clone(), ended_team.clone()]).as_deref(),
            Some("team")
        );
        assert_eq!(plan_of(&catalog(), &[ended_team, pro]).as_deref(), Some("pro"));
    }

    #[test]
    fn equal_plans_are_ordered_by_standing_period_end_and_id() {
        let good = subscription("sub_2", "active", "price_a");
        let mut late = subscription("sub_1", "past_due", "price_a");
        late.state.current_period_end = Some(9000);
        let mut longer = subscription("sub_3", "active", "price_a");
        longer.state.current_period_end = Some(2000);
        let twin = subscription("sub_0", "active", "price_a");

        let effective = |subscriptions: &[Subscription]| {
            catalog()
                .effective_subscription(subscriptions, &KnownPrices::default())
                .expect("a subscription")
                .id
                .to_string()
        };
        assert_eq!(effective(&[late.clone(), good.clone()]), "sub_2");
        assert_eq!(effective(&[good.clone(), longer, late]), "sub_3");
        assert_eq!(effective(&[good.clone(), twin.clone()]), effective(&[twin, good]));
    }

    #[test]
    fn newest_subscription_counts_if_none_grants_access() {
        let mut newer = subscription("sub_1", "canceled", "price_a");
        newer.state.started_at = Some(500);
        let older = subscription("sub_2", "unpaid", "price_a");
        let both = [older, newer];
        assert_eq!(
            catalog()
                .effective_subscription(&both, &KnownPrices::default())
                .expect("a subscription")
                .id
                .as_str(),
            "sub_1"
        );
    }

    #[test]
    fn catalog_accepts_price_ids_from_before_2018() {
        let catalog = Catalog::parse("pro=Pro plan $69/month, Équipe-2016 ;team=a=b", true).expect("plans");
        let prices: Vec<_> = catalog.plans().iter().map(|plan| plan.prices.clone()).collect();
        assert_eq!(prices, [vec![price("Pro plan $69/month"), price("Équipe-2016")], vec![price("a=b")]]);
    }

    #[test]
    fn invalid_plans_are_rejected_with_the_reason() {
        assert_eq!(catalog().default_plan().map(|p| p.name.as_str()), Some("pro"));
        for (text, error) in [
            ("", InvalidPlans::EmptyEntry),
            ("pro=price_a;", InvalidPlans::EmptyEntry),
            ("pro", InvalidPlans::NoPrices),
            ("pro=", InvalidPlans::BadPrice),
            ("pro=a,,b", InvalidPlans::BadPrice),
            ("pro=a\u{7}", InvalidPlans::BadPrice),
            ("Pro=a", InvalidPlans::BadName),
            ("free=a", InvalidPlans::BadName),
            ("pro=a;pro=b", InvalidPlans::PlanTwice),
            ("pro=a;team=a", InvalidPlans::PriceTwice),
        ] {
            assert_eq!(Catalog::parse(text, true).expect_err(text), error, "{text}");
        }
    }
}
