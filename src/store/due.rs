//! What is due, and until when it is whoever's who claims it.

use sea_orm::{ColumnTrait, Condition};

/// Which rows are due, and until when they are ours. All in Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// What was to be done by now is due.
    pub now_ms: i64,
    /// Until when what is claimed is ours. No two claims of a row have the same.
    pub until_ms: i64,
    /// What is to be done only after this was written by a clock that was wrong, and is due too: nothing is put off for so
    /// long.
    pub latest_ms: i64,
}

impl Due {
    /// Rows whose time has come, that have none, or whose time is a mistake.
    pub(super) fn condition(self, time: impl ColumnTrait) -> Condition {
        Condition::any().add(time.lte(self.now_ms)).add(time.gt(self.latest_ms)).add(time.is_null())
    }
}
