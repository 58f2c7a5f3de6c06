//! From a verified event to a committed change.
//!
//! Start reading at `queue`: events wait there in lanes. Each lane applies its waiting events in
//! one transaction, in `batch`. After the commit, `report` writes log lines, metrics and spans, and
//! notifies the streams. [`crate::domain::batch`] decides the effect of an event, and
//! [`crate::store`] reads and writes the rows.

mod batch;
mod delivery;
mod queue;
mod report;

pub use delivery::Delivery;
pub use queue::{Ingest, NotStored};
pub use report::Reporter;
