//! Who makes room when a bound is reached.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::client_address::ClientAddress;

/// Something that a client holds, as [`oldest_of_largest_crowd`] compares it.
#[derive(Debug, Clone, Copy)]
pub struct Holding<R, K> {
    /// The client that holds it.
    pub client: ClientAddress,
    /// Whether it makes the client's crowd larger.
    pub counts: bool,
    /// Its age: the smallest is the oldest. `None` if it cannot be taken away.
    pub age: Option<R>,
    /// What it is called.
    pub key: K,
}

/// Picks what makes room for another client: of the client that holds the most, the oldest holding. So a crowd makes room for
/// others and not others for a crowd. A client whose crowd is smaller than `min_size`, or of which nothing can be taken away, is
/// passed over.
pub fn oldest_of_largest_crowd<R: Ord, K>(
    holdings: impl IntoIterator<Item = Holding<R, K>>,
    min_size: usize,
) -> Option<K> {
    let mut crowds = HashMap::<ClientAddress, (usize, Option<(R, K)>)>::new();
    for Holding { client, counts, age, key } in holdings {
        let (size, oldest) = crowds.entry(client).or_default();
        *size += usize::from(counts);
        if let Some(age) = age.filter(|age| oldest.as_ref().is_none_or(|(oldest, _)| age < oldest)) {
            *oldest = Some((age, key));
        }
    }
    let large = crowds.into_values().filter(|(size, _)| *size >= min_size);
    let oldest = large.filter_map(|(size, oldest)| oldest.map(|(age, key)| ((Reverse(size), age), key)));
    oldest.min_by(|(rank, _), (other, _)| rank.cmp(other)).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn holding(client: u32, age: Option<u32>) -> Holding<u32, u32> {
        let client = IpAddr::from(Ipv4Addr::from_bits(client)).into();
        Holding { client, counts: true, age, key: age.unwrap_or_default() }
    }

    #[test]
    fn oldest_of_the_client_with_the_most_is_picked() {
        let holdings = [holding(1, Some(1)), holding(2, Some(3)), holding(2, Some(2)), holding(3, Some(0))];
        assert_eq!(oldest_of_largest_crowd(holdings, 0), Some(2));
        assert_eq!(oldest_of_largest_crowd(holdings, 2), Some(2));
        assert_eq!(oldest_of_largest_crowd(holdings, 3), None);
        assert_eq!(
            oldest_of_largest_crowd(holdings[..2].iter().copied(), 0),
            Some(1),
            "of equals the oldest"
        );
    }

    #[test]
    fn client_of_which_nothing_can_be_taken_is_passed_over() {
        let holdings = [holding(1, Some(9)), holding(2, None), holding(2, None)];
        assert_eq!(oldest_of_largest_crowd(holdings, 0), Some(9));
    }

    #[test]
    fn holding_that_does_not_count_makes_no_crowd() {
        let silent = |age| Holding { counts: false, ..holding(1, Some(age)) };
        let holdings = [silent(0), silent(1), holding(2, Some(2))];
        assert_eq!(oldest_of_largest_crowd(holdings, 0), Some(2));
    }
}
