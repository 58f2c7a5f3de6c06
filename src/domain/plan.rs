//! Prices to plan, status to access, and which of a tenant's subscriptions speaks for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::ids::{PlanName, PriceId};
use super::known_prices::KnownPrices;
use super::subscription::{Item, Status, Subscription};
use super::tenant::Holdings;

/// A plan and the prices that mean it. An entry matches a price's id or its lookup key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub name: PlanName,
    /// Its prices, never empty; the first is what a checkout sells.
    pub prices: Vec<PriceId>,
}

/// The configured plans, worst first, and what `past_due` means for access.
#[derive(Debug, Clone)]
pub struct Catalog {
    plans: Vec<Plan>,
    past_due_grants: bool,
}

/// Why a text is not a list of plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlans {
    /// Nothing between two semicolons, or at an end.
    #[error("has an empty entry between its semicolons")]
    EmptyEntry,
    /// An entry is not `name=price,price`.
    #[error("has an entry that is not of the form `plan=price,price`")]
    NoPrices,
    /// A name that no plan can have.
    #[error("names a plan that is not 1 to 63 of lower-case letters, digits, `_`, `-`, or that is `free`")]
    BadName,
    /// A price that no price can be.
    #[error("has an empty or unreadable price")]
    BadPrice,
    /// The same plan twice.
    #[error("names a plan twice")]
    PlanTwice,
    /// The same price in two plans, or twice in one.
    #[error("names a price twice")]
    PriceTwice,
}

/// How the price of a subscription's item leads to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognition {
    /// By its id, or by the lookup key that it has now.
    Current,
    /// Only by a lookup key that it once had.
    FormerKey,
    /// Not at all.
    Unknown,
}

/// Why a subscription does not grant its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// Its status does not.
    Status,
    /// Its checkout was completed, and its first payment has not arrived.
    AwaitingPayment,
}

impl Withheld {
    /// The word for tools.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::AwaitingPayment => "awaiting_payment",
        }
    }
}

/// A price that leads to its plan only by a lookup key that another price has now, or none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormerKey {
    /// The price.
    pub price: PriceId,
    /// The key that it once had.
    pub lookup_key: PriceId,
    /// The plan that has this key.
    pub plan: PlanName,
}

/// What a tenant is entitled to right now, and the facts behind it. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entitlement {
    /// The plan; none is `free`.
    pub plan: Option<PlanName>,
    /// Whether the subscription that speaks grants its plan.
    pub access: bool,
    /// Stripe's status.
    pub status: Option<Status>,
    /// The price that gives the plan, else the first.
    pub price: Option<PriceId>,
    /// How many of it.
    pub quantity: Option<i64>,
    /// When the paid period ends.
    pub current_period_end: Option<i64>,
    /// When the trial ends or ended.
    pub trial_end: Option<i64>,
    /// Whether an end is set.
    pub scheduled_cancel: bool,
    /// The end that is set.
    pub cancel_at: Option<i64>,
    /// Whether there is a customer, so that the Customer Portal can be opened. Invoices can be open after the last
    /// subscription has ended.
    pub can_manage: bool,
    /// The last change that was applied.
    pub as_of: Option<i64>,
}

impl Catalog {
    /// Makes a catalog from plans as `BILLHOOK_PLANS` lists them, the best one last.
    pub fn parse(text: &str, past_due_grants: bool) -> Result<Self, InvalidPlans> {
        let plans = text.split(';').map(parse_plan).collect::<Result<Vec<_>, _>>()?;
        if has_twins(plans.iter().map(|plan| &plan.name)) {
            return Err(InvalidPlans::PlanTwice);
        }
        if has_twins(plans.iter().flat_map(|plan| &plan.prices)) {
            return Err(InvalidPlans::PriceTwice);
        }
        Ok(Self { plans, past_due_grants })
    }

    /// A catalog in which every price means `free`.
    pub fn empty(past_due_grants: bool) -> Self {
        Self { plans: Vec::new(), past_due_grants }
    }

    /// The plans, worst first.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// The plan of that name.
    pub fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.name.as_str() == name)
    }

    /// The plan that a checkout sells unless it is told otherwise.
    pub fn default_plan(&self) -> Option<&Plan> {
        self.plans.first()
    }

    /// How a subscription with these items leads to a plan. One that does not gives `free` and is worth a report.
    pub fn recognise(&self, items: &[Item], known: &KnownPrices) -> Recognition {
        let of_item = |item: &Item| match self.find(item, known) {
            None => Recognition::Unknown,
            Some((_, matched)) if *matched == item.price || Some(matched) == item.lookup_key.as_ref() => {
                Recognition::Current
            }
            Some(_) => Recognition::FormerKey,
        };
        let recognitions: Vec<_> = items.iter().map(of_item).collect();
        [Recognition::Current, Recognition::FormerKey]
            .into_iter()
            .find(|one| recognitions.contains(one))
            .unwrap_or(Recognition::Unknown)
    }

    /// The prices of these subscriptions that can have a plan only by a lookup key: what is known of their keys decides.
    pub fn prices_found_by_key<'a>(
        &self,
        subscriptions: impl IntoIterator<Item = &'a Subscription>,
    ) -> BTreeSet<PriceId> {
        let items = subscriptions.into_iter().flat_map(|subscription| &subscription.state.items);
        items.map(|item| &item.price).filter(|price| self.position_of(price).is_none()).cloned().collect()
    }

    /// The prices that have a plan only by a key that they once had. `holders` says which price has which key now.
    pub fn former_keys(&self, known: &KnownPrices, holders: &BTreeMap<PriceId, PriceId>) -> Vec<FormerKey> {
        let former_key = |price: &PriceId| {
            let keys = known.keys_of(price);
            let (position, lookup_key) = self.position(price, keys.into_iter())?;
            let is_former = lookup_key != price && holders.get(lookup_key) != Some(price);
            let plan = self.plans[position].name.clone();
            is_former.then(|| FormerKey { price: price.clone(), lookup_key: lookup_key.clone(), plan })
        };
        known.prices().filter_map(former_key).collect()
    }

    /// Whether the subscription grants its plan.
    pub fn grants(&self, subscription: &Subscription) -> bool {
        self.withheld(subscription).is_none()
    }

    /// Why the subscription does not grant its plan, if it does not.
    pub fn withheld(&self, subscription: &Subscription) -> Option<Withheld> {
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
        match (by_status, subscription.awaiting_payment) {
            (false, _) => Some(Withheld::Status),
            (true, true) => Some(Withheld::AwaitingPayment),
            (true, false) => None,
        }
    }

    /// Which of a tenant's subscriptions speaks for it: of those that grant access the one with the best plan, then
    /// one in good standing, then the one that is paid for longest; if none grants, the newest. The id decides what
    /// is left, so that every replica answers the same.
    pub fn speaker<'a>(
        &self,
        subscriptions: &'a [Subscription],
        known: &KnownPrices,
    ) -> Option<&'a Subscription> {
        subscriptions.iter().max_by_key(|subscription| {
            let grants = self.grants(subscription);
            let standing = subscription.state.status != Status::PastDue;
            let by_merit = grants
                .then(|| (self.best(subscription, known), standing, subscription.state.current_period_end));
            let by_age = (!grants).then_some(subscription.state.started_at);
            (grants, by_merit, by_age, Reverse(&subscription.id))
        })
    }

    /// What a tenant that has this is entitled to. `known` says which lookup keys the prices have had.
    pub fn entitlement(&self, holdings: &Holdings, known: &KnownPrices) -> Entitlement {
        let Holdings { has_customer: can_manage, ref subscriptions } = *holdings;
        let Some(speaker) = self.speaker(subscriptions, known) else {
            return Entitlement { can_manage, ..Entitlement::default() };
        };
        let state = &speaker.state;
        // Of equals the last is the greatest: backwards, so that it is the first.
        let item = state.items.iter().rev().max_by_key(|item| self.rank(item, known));
        let access = self.grants(speaker);
        Entitlement {
            plan: self.best(speaker, known).filter(|_| access).map(|rank| self.plans[rank].name.clone()),
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

    fn best(&self, subscription: &Subscription, known: &KnownPrices) -> Option<usize> {
        subscription.state.items.iter().filter_map(|item| self.rank(item, known)).max()
    }

    /// The position of the plan that the item grants. Stripe allows a quantity of 0, which is nothing
    /// (<https://docs.stripe.com/billing/subscriptions/change-price>).
    fn rank(&self, item: &Item, known: &KnownPrices) -> Option<usize> {
        let is_empty = item.quantity.is_some_and(|quantity| quantity <= 0);
        self.find(item, known).filter(|_| !is_empty).map(|(position, _)| position)
    }

    /// The position of the item's plan, and the id or lookup key by which it was found.
    fn find<'a>(&self, item: &'a Item, known: &'a KnownPrices) -> Option<(usize, &'a PriceId)> {
        let keys = known.keys_of(&item.price).into_iter().chain(&item.lookup_key);
        self.position(&item.price, keys)
    }

    /// An explicit id wins over a key, and the first key over later ones.
    fn position<'a>(
        &self,
        price: &'a PriceId,
        mut keys: impl Iterator<Item = &'a PriceId>,
    ) -> Option<(usize, &'a PriceId)> {
        let by_id = self.position_of(price).map(|position| (position, price));
        by_id.or_else(|| keys.find_map(|key| Some((self.position_of(key)?, key))))
    }

    /// The position of the plan that has this id or lookup key in the configuration's order.
    fn position_of(&self, entry: &PriceId) -> Option<usize> {
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

fn has_twins<'a, T: Ord + 'a>(values: impl Iterator<Item = &'a T>) -> bool {
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
        catalog().entitlement(&holdings(subscriptions), &KnownPrices::default())
    }

    fn holdings(subscriptions: &[Subscription]) -> Holdings {
        Holdings { has_customer: true, subscriptions: subscriptions.to_vec() }
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
            .entitlement(&holdings(subscriptions), &KnownPrices::default())
            .plan
            .map(|plan| plan.to_string())
    }

    #[test]
    fn without_a_subscription_a_tenant_is_free() {
        let free = catalog().entitlement(&Holdings::default(), &KnownPrices::default());
        assert_eq!(free, Entitlement::default());
        assert_eq!(entitlement(&[]), Entitlement { can_manage: true, ..free }, "it has a customer");
    }

    #[test]
    fn a_status_grants_or_it_does_not() {
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
    fn money_still_on_its_way_grants_nothing() {
        let mut waiting = subscription("sub_1", "active", "price_a");
        waiting.awaiting_payment = true;
        assert!(!entitlement(&[waiting]).access);
    }

    #[test]
    fn a_lookup_key_matches_as_well_as_an_id() {
        let mut by_key = subscription("sub_1", "active", "price_unknown");
        by_key.state.items[0].lookup_key = PriceId::parse("pro_yearly").ok();
        assert_eq!(plan_of(&catalog(), &[by_key]).as_deref(), Some("pro"));
    }

    #[test]
    fn price_that_lost_its_key_keeps_its_plan() {
        let held = [subscription("sub_1", "active", "price_old")];
        let known = known(&[("price_old", "pro_yearly"), ("price_new", "pro_yearly")]);
        let entitlement = catalog().entitlement(&holdings(&held), &known);
        assert_eq!(entitlement.plan.as_ref().map(PlanName::as_str), Some("pro"));
        assert_eq!(catalog().recognise(&held[0].state.items, &known), Recognition::FormerKey);
        assert_eq!(catalog().prices_found_by_key(&held), [price("price_old")].into());
        let holders = [(price("pro_yearly"), price("price_new"))].into();
        let former: Vec<_> =
            catalog().former_keys(&known, &holders).into_iter().map(|one| one.price).collect();
        assert_eq!(former, [price("price_old")]);
    }

    #[test]
    fn explicit_id_wins_over_key() {
        let mut held = subscription("sub_1", "active", "price_a");
        held.state.items[0].lookup_key = Some(price("price_c"));
        let known = known(&[("price_a", "price_c")]);
        let entitlement = catalog().entitlement(&holdings(std::slice::from_ref(&held)), &known);
        assert_eq!(entitlement.plan.as_ref().map(PlanName::as_str), Some("pro"));
        assert_eq!(catalog().recognise(&held.state.items, &known), Recognition::Current);
        assert!(catalog().prices_found_by_key(&[held]).is_empty());
        assert_eq!(catalog().former_keys(&known, &BTreeMap::new()), []);
    }

    #[test]
    fn first_key_of_a_plan_wins_over_later_ones() {
        let catalog = Catalog::parse("pro=pro_key;team=team_key", true).expect("plans");
        let mut held = subscription("sub_1", "active", "price_x");
        held.state.items[0].lookup_key = Some(price("team_key"));
        for (keys, plan) in [
            (known(&[]), "team"),
            (known(&[("price_x", "team_key")]), "team"),
            (known(&[("price_x", "pro_key"), ("price_x", "team_key")]), "pro"),
            (known(&[("price_x", "draft"), ("price_x", "pro_key"), ("price_x", "team_key")]), "pro"),
        ] {
            let entitlement = catalog.entitlement(&holdings(std::slice::from_ref(&held)), &keys);
            assert_eq!(entitlement.plan.as_ref().map(PlanName::as_str), Some(plan), "{keys:?}");
        }
    }

    #[test]
    fn the_plan_may_be_on_any_item() {
        let mut several = subscription("sub_1", "active", "price_addon");
        several.state.items.push(item("price_c"));
        let entitlement = entitlement(&[several]);
        assert_eq!(entitlement.plan.map(|p| p.to_string()).as_deref(), Some("team"));
        assert_eq!(entitlement.price.map(|p| p.to_string()).as_deref(), Some("price_c"));
    }

    #[test]
    fn item_of_quantity_0_grants_nothing() {
        let mut held = subscription("sub_1", "active", "price_c");
        held.state.items[0].quantity = Some(0);
        assert_eq!(entitlement(&[held.clone()]).plan, None);
        let none = KnownPrices::default();
        assert_eq!(catalog().recognise(&held.state.items, &none), Recognition::Current, "it is configured");
        held.state.items.push(item("price_a"));
        let granted = entitlement(&[held.clone()]);
        assert_eq!(granted.plan.as_ref().map(PlanName::as_str), Some("pro"));
        assert_eq!((granted.price, granted.quantity), (Some(price("price_a")), Some(1)));
        held.state.items[0].quantity = None;
        assert_eq!(entitlement(&[held]).plan.as_ref().map(PlanName::as_str), Some("team"), "a metered price");
    }

    #[test]
    fn a_price_configured_nowhere_gives_free_and_is_known_to_be_unknown() {
        let unknown = subscription("sub_1", "active", "price_x");
        let none = KnownPrices::default();
        assert_eq!(catalog().recognise(&unknown.state.items, &none), Recognition::Unknown);
        let entitlement = entitlement(&[unknown]);
        assert_eq!((entitlement.plan, entitlement.access), (None, true));
    }

    #[test]
    fn the_best_granting_subscription_speaks() {
        let pro = subscription("sub_1", "active", "price_a");
        let team = subscription("sub_2", "active", "price_c");
        let dead_team = subscription("sub_3", "canceled", "price_c");
        assert_eq!(
            plan_of(&catalog(), &[pro.clone(), team.clone(), dead_team.clone()]).as_deref(),
            Some("team")
        );
        assert_eq!(plan_of(&catalog(), &[dead_team, pro]).as_deref(), Some("pro"));
    }

    #[test]
    fn good_standing_then_the_longer_period_then_the_id_decides() {
        let good = subscription("sub_2", "active", "price_a");
        let mut late = subscription("sub_1", "past_due", "price_a");
        late.state.current_period_end = Some(9000);
        let mut longer = subscription("sub_3", "active", "price_a");
        longer.state.current_period_end = Some(2000);
        let twin = subscription("sub_0", "active", "price_a");

        let speaks = |subscriptions: &[Subscription]| {
            catalog().speaker(subscriptions, &KnownPrices::default()).expect("a speaker").id.to_string()
        };
        assert_eq!(speaks(&[late.clone(), good.clone()]), "sub_2");
        assert_eq!(speaks(&[good.clone(), longer, late]), "sub_3");
        assert_eq!(speaks(&[good.clone(), twin.clone()]), speaks(&[twin, good]));
    }

    #[test]
    fn if_none_grants_the_newest_speaks() {
        let mut newer = subscription("sub_1", "canceled", "price_a");
        newer.state.started_at = Some(500);
        let older = subscription("sub_2", "unpaid", "price_a");
        let both = [older, newer];
        assert_eq!(
            catalog().speaker(&both, &KnownPrices::default()).expect("a speaker").id.as_str(),
            "sub_1"
        );
    }

    #[test]
    fn price_ids_from_before_2018_can_be_named() {
        let catalog = Catalog::parse("pro=Pro plan $69/month, Équipe-2016 ;team=a=b", true).expect("plans");
        let prices: Vec<_> = catalog.plans().iter().map(|plan| plan.prices.clone()).collect();
        assert_eq!(prices, [vec![price("Pro plan $69/month"), price("Équipe-2016")], vec![price("a=b")]]);
    }

    #[test]
    fn a_list_of_plans_is_read_or_told_what_is_wrong_with_it() {
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
