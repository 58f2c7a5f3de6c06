use poem::{FromRequest, Request, RequestBody};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// A JSON request body of any content type, so that plain `curl -d` works.
pub(super) struct ControlBody<T>(pub(super) T);

impl<'a, T: DeserializeOwned + Send> FromRequest<'a> for ControlBody<T> {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> poem::Result<Self> {
        let bytes = Vec::<u8>::from_request(request, body).await?;
        let body = serde_json::from_slice(&bytes).map_err(|error| Problem::bad_request(error.to_string()))?;
        Ok(ControlBody(body))
    }
}
