//! The hosted pages: what a customer sees.

mod checkout;
mod html;
mod portal;

use poem::{Route, get};

/// The two pages, each answering its own buttons.
pub(crate) fn routes() -> Route {
    Route::new()
        .at("/c/pay/:session", get(checkout::show).post(checkout::act))
        .at("/p/session/:session", get(portal::show).post(portal::act))
}
