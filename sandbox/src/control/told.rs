//! What the body of a control call says.

use poem::{FromRequest, Request, RequestBody};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The body, read as JSON whatever its content type: `curl -d` is enough.
pub(super) struct Told<T>(pub(super) T);

impl<'a, T: DeserializeOwned + Send> FromRequest<'a> for Told<T> {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> poem::Result<Self> {
        let bytes = Vec::<u8>::from_request(request, body).await?;
        let told = serde_json::from_slice(&bytes).map_err(|error| Problem::bad_request(error.to_string()))?;
        Ok(Told(told))
    }
}
