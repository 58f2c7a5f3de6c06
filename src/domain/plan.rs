//! Prices to plan, status to access, and which of a tenant's subscriptions speaks for it.

use std::cmp::Reverse;

use super::ids::{PlanName, PriceId};
use super::subscription::{Item, Status, Subscription};

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
    /// Whether there is a subscription that the Customer Portal can manage.
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

    /// Whether any item's price is configured; a subscription without one gives `free` and is worth a report.
    pub fn knows_a_price_of(&self, items: &[Item]) -> bool {
        items.iter().any(|item| self.rank(item).is_some())
    }

    /// Whether the subscription grants its plan.
    pub fn grants(&self, subscription: &Subscription) -> bool {
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
        by_status && !subscription.awaiting_payment
    }

    /// Which of a tenant's subscriptions speaks for it: of those that grant access the one with the best plan, then
    /// one in good standing, then the one that is paid for longest; if none grants, the newest. The id decides what
    /// is left, so that every replica answers the same.
    pub fn speaker<'a>(&self, subscriptions: &'a [Subscription]) -> Option<&'a Subscription> {
        subscriptions.iter().max_by_key(|subscription| {
            let grants = self.grants(subscription);
            let standing = subscription.state.status != Status::PastDue;
            let by_merit =
                grants.then(|| (self.best(subscription), standing, subscription.state.current_period_end));
            let by_age = (!grants).then_some(subscription.state.started_at);
            (grants, by_merit, by_age, Reverse(&subscription.id))
        })
    }

    /// What a tenant with these subscriptions is entitled to.
    pub fn entitlement(&self, subscriptions: &[Subscription]) -> Entitlement {
        let Some(speaker) = self.speaker(subscriptions) else { return Entitlement::default() };
        let state = &speaker.state;
        // Of equals the last is the greatest: backwards, so that it is the first.
        let item = state.items.iter().rev().max_by_key(|item| self.rank(item));
        let access = self.grants(speaker);
        Entitlement {
            plan: self.best(speaker).filter(|_| access).map(|rank| self.plans[rank].name.clone()),
            access,
            status: Some(state.status.clone()),
            price: item.map(|item| item.price.clone()),
            quantity: item.and_then(|item| item.quantity),
            current_period_end: state.current_period_end,
            trial_end: state.trial_end,
            scheduled_cancel: state.scheduled_cancel(),
            cancel_at: state.ends_at().filter(|_| state.scheduled_cancel()),
            can_manage: subscriptions.iter().any(|subscription| !subscription.state.status.is_final()),
            as_of: subscriptions.iter().map(|subscription| subscription.as_of).max(),
        }
    }

    fn best(&self, subscription: &Subscription) -> Option<usize> {
        subscription.state.items.iter().filter_map(|item| self.rank(item)).max()
    }

    /// The place of the item's plan in the configuration's order.
    fn rank(&self, item: &Item) -> Option<usize> {
        self.plans.iter().position(|plan| {
            plan.prices.iter().any(|price| *price == item.price || Some(price) == item.lookup_key.as_ref())
        })
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

    fn plan_of(catalog: &Catalog, subscriptions: &[Subscription]) -> Option<String> {
        catalog.entitlement(subscriptions).plan.map(|plan| plan.to_string())
    }

    #[test]
    fn without_a_subscription_a_tenant_is_free() {
        assert_eq!(catalog().entitlement(&[]), Entitlement::default());
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
            let entitlement = catalog().entitlement(&[subscription("sub_1", status, "price_a")]);
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
        assert!(!catalog().entitlement(&[waiting]).access);
    }

    #[test]
    fn a_lookup_key_matches_as_well_as_an_id() {
        let mut by_key = subscription("sub_1", "active", "price_unknown");
        by_key.state.items[0].lookup_key = PriceId::parse("pro_yearly").ok();
        assert_eq!(plan_of(&catalog(), &[by_key]).as_deref(), Some("pro"));
    }

    #[test]
    fn the_plan_may_be_on_any_item() {
        let mut several = subscription("sub_1", "active", "price_addon");
        several.state.items.push(item("price_c"));
        let entitlement = catalog().entitlement(&[several]);
        assert_eq!(entitlement.plan.map(|p| p.to_string()).as_deref(), Some("team"));
        assert_eq!(entitlement.price.map(|p| p.to_string()).as_deref(), Some("price_c"));
    }

    #[test]
    fn a_price_configured_nowhere_gives_free_and_is_known_to_be_unknown() {
        let unknown = subscription("sub_1", "active", "price_x");
        assert!(!catalog().knows_a_price_of(&unknown.state.items));
        let entitlement = catalog().entitlement(&[unknown]);
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
            catalog().speaker(subscriptions).expect("a speaker").id.to_string()
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
        assert_eq!(catalog().speaker(&both).expect("a speaker").id.as_str(), "sub_1");
        assert!(catalog().entitlement(&both).can_manage, "the unpaid one can be mended in the portal");
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
            ("Pro=a", InvalidPlans::BadName),
            ("free=a", InvalidPlans::BadName),
            ("pro=a;pro=b", InvalidPlans::PlanTwice),
            ("pro=a;team=a", InvalidPlans::PriceTwice),
        ] {
            assert_eq!(Catalog::parse(text, true).expect_err(text), error, "{text}");
        }
    }
}
