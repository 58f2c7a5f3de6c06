//! The state before an update: what `previous_attributes` says.

use super::subscription::{Item, State, Status};

/// What an update says of a field that it may have replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replaced<T> {
    /// It left the field alone.
    #[default]
    Not,
    /// It replaced this value, or an empty field.
    Value(Option<T>),
}

impl<T: Clone> Replaced<T> {
    /// The field before the update, which left it like this. Nothing if we cannot read what it was.
    fn undo(&self, after: T) -> Option<T> {
        match self {
            Self::Not => Some(after),
            Self::Value(before) => before.clone(),
        }
    }

    /// The same, for a field that can be empty.
    fn undo_optional(&self, after: Option<T>) -> Option<T> {
        match self {
            Self::Not => after,
            Self::Value(before) => before.clone(),
        }
    }
}

/// The values that an update replaced, for the fields that we keep: what `previous_attributes` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Previous {
    /// Stripe's status.
    pub status: Replaced<Status>,
    /// What was subscribed to; Stripe shows such lists whole.
    pub items: Replaced<Vec<Item>>,
    /// When the paid period was to end.
    pub current_period_end: Replaced<i64>,
    /// When the trial was to end.
    pub trial_end: Replaced<i64>,
    /// The end that was set.
    pub cancel_at: Replaced<i64>,
    /// Whether it was to end with its period.
    pub cancel_at_period_end: Replaced<bool>,
    /// When it had ended.
    pub ended_at: Replaced<i64>,
}

impl Previous {
    /// The state that an update was made to, from the one it led to. None if it says nothing of the fields that we keep,
    /// or nothing that we can read.
    pub(super) fn undo(&self, after: &State) -> Option<State> {
        if *self == Self::default() {
            return None;
        }
        Some(State {
            status: self.status.undo(after.status.clone())?,
            started_at: after.started_at,
            items: self.items.undo(after.items.clone())?,
            current_period_end: self.current_period_end.undo_optional(after.current_period_end),
            trial_end: self.trial_end.undo_optional(after.trial_end),
            cancel_at: self.cancel_at.undo_optional(after.cancel_at),
            cancel_at_period_end: self.cancel_at_period_end.undo(after.cancel_at_period_end)?,
            ended_at: self.ended_at.undo_optional(after.ended_at),
        })
    }
}
