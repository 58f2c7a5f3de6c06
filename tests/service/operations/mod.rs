//! Operations: commands, probes, metrics, traces, logs, shutdown and upgrades.

pub mod collectors;
pub mod database_copy;
pub mod doctor;
pub mod erase;
pub mod event_commands;
pub mod graceful_shutdown;
pub mod health;
pub mod isolation;
pub mod json_fields;
pub mod metrics;
pub mod reconcile;
pub mod response_rules;
pub mod retention;
pub mod schemathesis;
pub mod secrets;
pub mod stalled_logs;
pub mod start_log;
pub mod static_files;
pub mod table_width;
pub mod tenant_ids;
pub mod tenant_import;
pub mod timeline;
pub mod traces;
pub mod upgrade;
pub mod webhook_commands;
