//! `/v1/account`

use super::Reply;
use super::form::Form;
use crate::world::World;

pub(super) fn retrieve(world: &World, form: Form) -> Reply {
    form.finish()?;
    Ok(world.account.clone())
}
