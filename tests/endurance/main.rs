//! The service as a process of its own, killed, or robbed of its database, or restarted as an upgrade does it, under load:
//! what it has acknowledged is never lost, nothing happens twice, and it recovers by itself.
//!
//! On Linux: the processes of a server that is made to stand still, a disk that one process sees, and the limits of a
//! running one are told and set in its ways.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test has no outside to hide from")]

mod attacks;
mod balancer;
mod chance;
mod connecting;
mod crash;
mod disk;
mod flood;
mod leaving;
mod ledger;
mod life;
mod outage;
mod postgres_server;
mod relay;
mod rolling;
mod rotation;
mod running;
mod sender;
mod support;
mod told;
mod waiting;
