//! What operators do and see: commands, probes, metrics, traces, logs, upgrades.

pub mod answers;
pub mod collectors;
pub mod database_copy;
pub mod doctor;
pub mod documented;
pub mod erase;
pub mod events;
pub mod health;
pub mod import;
pub mod isolation;
pub mod metrics;
pub mod reconcile;
pub mod register;
pub mod retention;
pub mod schemathesis;
pub mod secrets;
pub mod stalled_logs;
pub mod start_log;
pub mod static_files;
pub mod stopping;
pub mod tenant_ids;
pub mod timeline;
pub mod traces;
pub mod upgrade;
