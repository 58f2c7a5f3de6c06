//! What the stories are told with: the harness, both databases, the Stripe double, an identity provider, collectors, and
//! clients that write what no client writes. Start reading at `app`.

pub mod answer;
pub mod app;
pub mod authority;
pub mod collector;
pub mod database;
pub mod event_stream;
pub mod hangs;
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
