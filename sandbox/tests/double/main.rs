//! Tests of the double over HTTP. `test_double.rs` starts one for each test; `receiver.rs` is a
//! webhook endpoint.

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
mod test_double;
