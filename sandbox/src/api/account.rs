//! `/v1/account`

use super::ApiResult;
use super::form::Form;
use crate::state::State;

pub(super) fn retrieve(state: &State, form: Form) -> ApiResult {
    form.finish()?;
    Ok(state.account.clone())
}
