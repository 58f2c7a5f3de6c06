//! Lists of few lengths. A database prepares a statement for each number of places in it, which takes longer than to carry it
//! out, and a connection keeps only so many of them. So a list that is looked for is filled up to a power of two.

use sea_orm::sea_query::Condition;
use sea_orm::{ColumnTrait, Value};

/// The length from which a list is filled up to a multiple of it: that of a batch of events.
const LONGEST: usize = 64;

/// Whether a column is one of these; none if there are none.
pub(super) fn one_of<V: Into<Value>>(
    column: impl ColumnTrait,
    values: impl IntoIterator<Item = V>,
) -> Option<Condition> {
    any_of([(column, list(values))])
}

/// Whether any of the columns is one of its list; none if all lists are empty. All have the same length, or each combination
/// of lengths were a statement of its own. One that is empty is left out: a condition that nothing can meet, beside others,
/// would keep PostgreSQL from a plan by their indexes that holds for any values, and have it plan the statement each time.
pub(super) fn any_of<C: ColumnTrait>(lists: impl IntoIterator<Item = (C, Vec<Value>)>) -> Option<Condition> {
    let lists: Vec<_> = lists.into_iter().filter(|(_, values)| !values.is_empty()).collect();
    let length = filled_up(lists.iter().map(|(_, values)| values.len()).max()?);
    let is_one_of = |(column, mut values): (C, Vec<Value>)| {
        // To look for one of them twice finds it once.
        let last = values.last().cloned();
        values.extend(last.into_iter().cycle().take(length - values.len()));
        column.is_in(values)
    };
    Some(lists.into_iter().map(is_one_of).fold(Condition::any(), Condition::add))
}

/// A list for [`any_of`].
pub(super) fn list<V: Into<Value>>(values: impl IntoIterator<Item = V>) -> Vec<Value> {
    values.into_iter().map(Into::into).collect()
}

fn filled_up(length: usize) -> usize {
    if length <= LONGEST { length.next_power_of_two() } else { length.next_multiple_of(LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_of_few_lengths() {
        let lengths: std::collections::BTreeSet<usize> = (1..=LONGEST).map(filled_up).collect();
        assert!(lengths.iter().copied().eq([1, 2, 4, 8, 16, 32, 64]));
        assert_eq!([65, 128, 129].map(filled_up), [128, 128, 192]);
    }
}
