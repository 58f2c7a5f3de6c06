//! Statements of few lengths. A database prepares a statement for each number of places in it, which takes longer than to
//! carry it out, and a connection keeps only so many of them. So a list that is looked for is filled up to a power of two,
//! and rows are written in portions of such lengths.

use sea_orm::sea_query::{Condition, OnConflict};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, TryInsertResult, Value};

use super::{StoreError, Transaction};

/// The most places of a list, or rows, in one statement: a batch of events. Beyond it a longer statement saves little, and
/// each that is kept takes room.
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

impl Transaction {
    /// Inserts rows that are not there.
    pub(super) async fn insert<A: ActiveModelTrait + Send>(
        &self,
        rows: impl IntoIterator<Item = A>,
    ) -> Result<(), StoreError> {
        for portion in portions(rows) {
            A::Entity::insert_many(portion).exec_without_returning(&self.db).await?;
        }
        Ok(())
    }

    /// Inserts rows, and changes those that are there.
    pub(super) async fn upsert<A: ActiveModelTrait + Send>(
        &self,
        rows: impl IntoIterator<Item = A>,
        on_conflict: &OnConflict,
    ) -> Result<(), StoreError> {
        for portion in portions(rows) {
            A::Entity::insert_many(portion)
                .on_conflict(on_conflict.clone())
                .exec_without_returning(&self.db)
                .await?;
        }
        Ok(())
    }

    /// Inserts rows that are not there, or has lost a race if one is there after all.
    pub(super) async fn insert_new<A: ActiveModelTrait + Send>(
        &self,
        key: <A::Entity as EntityTrait>::Column,
        rows: impl IntoIterator<Item = A>,
        lost: &'static str,
    ) -> Result<(), StoreError> {
        for portion in portions(rows) {
            let expected = portion.len() as u64;
            let inserted = A::Entity::insert_many(portion)
                .on_conflict_do_nothing_on([key])
                .exec_without_returning(&self.db)
                .await?;
            if !matches!(inserted, TryInsertResult::Inserted(count) if count == expected) {
                return Err(StoreError::lost_race(lost));
            }
        }
        Ok(())
    }
}

/// The rows in order, in portions for a statement each.
fn portions<T>(rows: impl IntoIterator<Item = T>) -> Vec<Vec<T>> {
    let mut rows: Vec<T> = rows.into_iter().collect();
    let mut portions = Vec::new();
    while !rows.is_empty() {
        let rest = rows.split_off(portion(rows.len()));
        portions.push(std::mem::replace(&mut rows, rest));
    }
    portions
}

fn filled_up(length: usize) -> usize {
    if length <= LONGEST { length.next_power_of_two() } else { length.next_multiple_of(LONGEST) }
}

/// The longest that fits.
fn portion(length: usize) -> usize {
    if length < LONGEST { 1 << length.ilog2() } else { LONGEST }
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

    #[test]
    fn all_rows_are_written_in_their_order_and_none_twice() {
        for rows in 0..=3 * LONGEST {
            let portions = portions(0..rows);
            assert!(
                portions.iter().all(|portion| portion.len().is_power_of_two() && portion.len() <= LONGEST)
            );
            assert_eq!(portions.concat(), (0..rows).collect::<Vec<_>>());
        }
    }
}
