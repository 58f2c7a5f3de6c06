//! Endurance tests: the service runs as a process under load, and is killed, restarted, attacked or
//! cut off from its database or disk. It must lose no acknowledged event, apply none twice, and
//! recover without help.
//!
//! Linux only: the tests use `/proc`, mount namespaces and `prlimit`.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test exports nothing")]

mod attacks;
mod cancellation;
mod connect;
mod crash;
mod eventually;
mod flood;
mod full_disk;
mod ledger;
mod lifecycle;
mod load;
mod load_balancer;
mod log_audit;
mod log_rotation;
mod outage;
mod postgres_server;
mod random;
mod rolling_restart;
mod service_process;
mod support;
mod tcp_proxy;
