//! Checkout: creating, reusing and refreshing sessions, and what happens while Stripe fails.

pub mod checkout_refresh;
pub mod customer_key;
pub mod full_journey;
pub mod metered;
pub mod open_checkout;
pub mod return_paths;
pub mod sessions;
pub mod stripe_failures;
