//! Stripe's API: async-stripe's typed requests over our own thin transport, which has a deadline, retries, idempotency
//! keys and the request ids that an operator needs to ask Stripe's support about a call.
//!
//! Replies are read with our own tolerant types: async-stripe's are strict enough to lose a good answer over one new
//! field.
//!
//! Start reading at [`Stripe`] in `client`, which sends a request and retries it; `error` says what went wrong. `requests`, `lists`,
//! `endpoints` and `setup` are what is asked. When something is asked is decided in [`crate::billing`].

mod client;
mod endpoints;
mod error;
mod lists;
mod requests;
mod setup;

pub use client::{Deadline, Stripe};
pub use endpoints::{NewEndpoint, WebhookEndpoint};
pub use error::{PortalRefusal, Rejection, StripeError};
pub use lists::{EventPage, Subscriptions, Window};
pub use requests::{
    Answer, CheckoutOrder, CustomerStanding, NewSession, PortalFlow, PortalOrder, SessionView,
};
pub use setup::{PortalConfiguration, PortalSettings, Price, TRIALS, Trial};
