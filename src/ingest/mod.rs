//! From a verified event to a committed change.
//!
//! Start reading at `queue`: events wait there in lanes, each of which applies what is waiting in one transaction. `batch` is
//! that transaction, and `report` what follows the commit: log lines, metrics, spans, and the channel of tenants whose
//! entitlement may have changed. What an event means is decided in
//! [`crate::domain::unit_of_work`], and how rows are read and written in [`crate::store`].

mod batch;
mod delivery;
mod queue;
mod report;

pub use delivery::Delivery;
pub use queue::{Ingest, NotStored};
pub use report::Reporter;
