//! Helpers shared with the service tests.

#[path = "../service/support/api_response.rs"]
#[allow(dead_code, reason = "the service tests use more of it")]
pub mod api_response;
#[path = "../service/support/database.rs"]
#[allow(dead_code, reason = "the service tests use more of it")]
pub mod database;
#[path = "../service/support/http2_frames.rs"]
pub mod http2_frames;
#[path = "../service/support/test_slot.rs"]
pub mod test_slot;
