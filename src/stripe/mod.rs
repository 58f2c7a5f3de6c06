//! Stripe's API: async-stripe's typed requests over our own transport with deadlines, retries,
//! idempotency keys and the request ids that Stripe's support asks for.
//!
//! Responses are parsed with tolerant types of our own: async-stripe's would reject a good response
//! because of one new field.
//!
//! Start reading at [`Stripe`] in `client`, which sends a request and retries it. `error` has its
//! failures. The functions for the requests are in `requests`, `lists`, `prices`,
//! `webhook_endpoint` and `setup`. [`crate::billing`] decides when to send one.

mod client;
mod error;
mod lists;
mod prices;
mod requests;
mod setup;
mod webhook_endpoint;

pub use client::{Deadline, Stripe};
pub use error::{PortalRefusal, Rejection, StripeError};
pub use lists::{EventPage, FetchedSubscriptions, Window};
pub use prices::Price;
pub use requests::{
    ApiResponse, CheckoutParams, CustomerState, NewSession, PortalFlow, PortalParams, StripeCheckoutState,
};
pub use setup::{PERMISSION_CHECKS, PermissionCheck, PortalConfiguration, PortalSettings};
pub use webhook_endpoint::{NewEndpoint, WebhookEndpoint};
