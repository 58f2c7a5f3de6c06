//! The lookup keys that prices have had.
//!
//! A lookup key can move to another price (`transfer_lookup_key`,
//! <https://docs.stripe.com/api/prices/update>). Subscriptions to the former price stay as they
//! are, but their later events show the price without a key. Therefore every key that a price was
//! seen with is kept.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::PriceId;

/// For each price its lookup keys, with Stripe's time of the first event that showed the key, in
/// Unix seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPrices(BTreeMap<PriceId, BTreeMap<PriceId, i64>>);

impl KnownPrices {
    /// Returns whether the key is new for the price, or was seen earlier than known.
    pub fn add(&mut self, price: &PriceId, lookup_key: &PriceId, seen_at: i64) -> bool {
        let keys = self.0.entry(price.clone()).or_default();
        if keys.get(lookup_key).is_some_and(|known| *known <= seen_at) {
            return false;
        }
        keys.insert(lookup_key.clone(), seen_at);
        true
    }

    pub fn merge(&mut self, others: &Self) {
        for (price, lookup_key, seen_at) in others.iter() {
            self.add(price, lookup_key, seen_at);
        }
    }

    /// Oldest first.
    pub fn keys_of(&self, price: &PriceId) -> Vec<&PriceId> {
        let mut keys: Vec<_> = self.0.get(price).into_iter().flatten().collect();
        keys.sort_by_key(|(lookup_key, seen_at)| (**seen_at, *lookup_key));
        keys.into_iter().map(|(lookup_key, _)| lookup_key).collect()
    }

    /// The part about these prices.
    #[must_use]
    pub fn of(&self, prices: &BTreeSet<PriceId>) -> Self {
        let known = prices.iter().filter_map(|price| self.0.get_key_value(price));
        Self(known.map(|(price, keys)| (price.clone(), keys.clone())).collect())
    }

    pub fn prices(&self) -> impl Iterator<Item = &PriceId> {
        self.0.keys()
    }

    /// Each price, key and time.
    pub fn iter(&self) -> impl Iterator<Item = (&PriceId, &PriceId, i64)> {
        self.0.iter().flat_map(|(price, keys)| {
            keys.iter().map(move |(lookup_key, seen_at)| (price, lookup_key, *seen_at))
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> PriceId {
        PriceId::parse(text).expect("a price")
    }

    #[test]
    fn keys_are_ordered_by_first_seen_time() {
        let mut known = KnownPrices::default();
        assert!(known.add(&price("price_a"), &price("later"), 20));
        assert!(known.add(&price("price_a"), &price("first"), 10));
        assert!(known.add(&price("price_a"), &price("also_first"), 10));
        assert_eq!(
            known.keys_of(&price("price_a")),
            [&price("also_first"), &price("first"), &price("later")]
        );
        assert_eq!(known.keys_of(&price("price_b")), Vec::<&PriceId>::new());
    }

    #[test]
    fn known_key_is_updated_only_by_an_earlier_time() {
        let mut known = KnownPrices::default();
        assert!(known.add(&price("price_a"), &price("pro"), 10));
        assert!(!known.add(&price("price_a"), &price("pro"), 11));
        assert!(known.add(&price("price_a"), &price("pro"), 9));
        assert_eq!(known.iter().collect::<Vec<_>>(), [(&price("price_a"), &price("pro"), 9)]);
    }
}
