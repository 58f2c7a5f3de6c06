use super::subscription::{Item, State, Status};

/// An update's `previous_attributes`, for the fields that we store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviousAttributes {
    pub status: PreviousValue<Status>,
    /// Stripe lists all items, not only the changed ones.
    pub items: PreviousValue<Vec<Item>>,
    pub current_period_end: PreviousValue<i64>,
    pub trial_end: PreviousValue<i64>,
    pub cancel_at: PreviousValue<i64>,
    pub cancel_at_period_end: PreviousValue<bool>,
    pub ended_at: PreviousValue<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PreviousValue<T> {
    #[default]
    Unchanged,
    /// The value before the update. `None` if it was empty or is not readable.
    Was(Option<T>),
}

impl<T: Clone> PreviousValue<T> {
    /// The value before the update, from the value after it.
    fn before(&self, after: Option<T>) -> Option<T> {
        match self {
            Self::Unchanged => after,
            Self::Was(before) => before.clone(),
        }
    }
}

impl PreviousAttributes {
    /// The state before the update that led to `after`. `None` if the update changed no field that
    /// we store, or if a required field is not readable.
    pub(super) fn state_before(&self, after: &State) -> Option<State> {
        if *self == Self::default() {
            return None;
        }
        Some(State {
            status: self.status.before(Some(after.status.clone()))?,
            started_at: after.started_at,
            items: self.items.before(Some(after.items.clone()))?,
            current_period_end: self.current_period_end.before(after.current_period_end),
            trial_end: self.trial_end.before(after.trial_end),
            cancel_at: self.cancel_at.before(after.cancel_at),
            cancel_at_period_end: self.cancel_at_period_end.before(Some(after.cancel_at_period_end))?,
            ended_at: self.ended_at.before(after.ended_at),
        })
    }
}
