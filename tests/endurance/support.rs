//! What the stories of the service are told with, too.

#[path = "../service/support/answer.rs"]
#[allow(dead_code, reason = "the service tests use more of it")]
pub mod answer;
#[path = "../service/support/database.rs"]
#[allow(dead_code, reason = "the service tests use more of it")]
pub mod database;
#[path = "../service/support/http2_frames.rs"]
pub mod http2_frames;
#[path = "../service/support/test_slot.rs"]
pub mod test_slot;
