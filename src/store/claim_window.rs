//! The times of a claim: which rows of a queue are due, and how long they belong to the claiming
//! replica.

use sea_orm::{ColumnTrait, Condition};

/// In Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct ClaimWindow {
    /// A row is due at this time or earlier.
    pub now_ms: i64,
    /// The end of the claim. Identifies it: no two claims of a row have the same.
    pub claimed_until_ms: i64,
    /// A row that is due later was written with a wrong clock, since no retry is delayed for so
    /// long. It counts as due.
    pub max_due_ms: i64,
}

impl ClaimWindow {
    /// A row without a time is due as well.
    pub(super) fn is_due(self, time: impl ColumnTrait) -> Condition {
        Condition::any().add(time.lte(self.now_ms)).add(time.gt(self.max_due_ms)).add(time.is_null())
    }
}
