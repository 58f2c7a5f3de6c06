//! `billhook openapi`

use super::{CommandError, say};

pub(super) fn run() -> Result<(), CommandError> {
    say(crate::http::contract())
}
