//! The test harness: the service, both databases, the Stripe double, an identity provider, trace
//! collectors and low-level HTTP clients. Start reading at `app`.

pub mod api_response;
pub mod app;
pub mod certificate_authority;
pub mod collector;
pub mod command_output;
pub mod database;
pub mod event_stream;
pub mod hanging_test;
pub mod http2_frames;
pub mod issuer;
pub mod proxy;
pub mod random_cases;
pub mod raw_http;
pub mod replica;
pub mod rotel;
pub mod span_store;
pub mod stripe;
pub mod test_slot;
