//! The double from outside, over HTTP.

mod calls;
mod clock;
mod control;
mod deliveries;
mod events;
mod faults;
mod idempotency;
mod pages;
mod payments;
mod receiver;
mod stage;
