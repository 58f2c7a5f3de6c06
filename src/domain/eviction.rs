//! Which slot is freed when all are taken.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::client_address::ClientAddress;

/// A slot that a client occupies, as [`choose_eviction`] sees it.
#[derive(Debug, Clone, Copy)]
pub struct OccupiedSlot<R, K> {
    pub client: ClientAddress,
    /// Whether it counts towards the client's number of slots.
    pub is_counted: bool,
    /// The smallest is evicted first. `None`: must not be evicted.
    pub eviction_order: Option<R>,
    pub key: K,
}

/// Picks the slot to evict: the first in order among those of the client with the most slots. So a
/// client with many slots makes room for the others, never the other way round. Skips clients with
/// fewer than `min_count` slots, and clients none of whose slots can be evicted.
pub fn choose_eviction<R: Ord, K>(
    slots: impl IntoIterator<Item = OccupiedSlot<R, K>>,
    min_count: usize,
) -> Option<K> {
    let mut clients = HashMap::<ClientAddress, (usize, Option<(R, K)>)>::new();
    for OccupiedSlot { client, is_counted, eviction_order, key } in slots {
        let (count, first) = clients.entry(client).or_default();
        *count += usize::from(is_counted);
        if let Some(order) =
            eviction_order.filter(|order| first.as_ref().is_none_or(|(first, _)| order < first))
        {
            *first = Some((order, key));
        }
    }
    let eligible = clients.into_values().filter(|(count, _)| *count >= min_count);
    let candidates =
        eligible.filter_map(|(count, first)| first.map(|(order, key)| ((Reverse(count), order), key)));
    candidates.min_by(|(rank, _), (other, _)| rank.cmp(other)).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn slot(client: u32, eviction_order: Option<u32>) -> OccupiedSlot<u32, u32> {
        let client = IpAddr::from(Ipv4Addr::from_bits(client)).into();
        OccupiedSlot { client, is_counted: true, eviction_order, key: eviction_order.unwrap_or_default() }
    }

    #[test]
    fn eviction_picks_oldest_slot_of_client_with_most_slots() {
        let slots = [slot(1, Some(1)), slot(2, Some(3)), slot(2, Some(2)), slot(3, Some(0))];
        assert_eq!(choose_eviction(slots, 0), Some(2));
        assert_eq!(choose_eviction(slots, 2), Some(2));
        assert_eq!(choose_eviction(slots, 3), None);
        assert_eq!(
            choose_eviction(slots[..2].iter().copied(), 0),
            Some(1),
            "the oldest, if the counts are equal"
        );
    }

    #[test]
    fn eviction_skips_client_without_evictable_slot() {
        let slots = [slot(1, Some(9)), slot(2, None), slot(2, None)];
        assert_eq!(choose_eviction(slots, 0), Some(9));
    }

    #[test]
    fn eviction_ignores_uncounted_slots_in_count() {
        let uncounted = |order| OccupiedSlot { is_counted: false, ..slot(1, Some(order)) };
        let slots = [uncounted(0), uncounted(1), slot(2, Some(2))];
        assert_eq!(choose_eviction(slots, 0), Some(2));
    }
}
