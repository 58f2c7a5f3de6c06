//! The hosted pages: what a customer sees.

mod checkout;
mod html;
mod invoice;
mod portal;
mod subscription;

use std::sync::Arc;

use poem::http::StatusCode;
use poem::{Endpoint, EndpointExt, Request, Response, Route, get};

use html::Page;

/// A form has three short fields at most.
const FORM_BYTES: usize = 4 * 1024;

/// The pages, each answering its own buttons.
pub(crate) fn routes() -> impl Endpoint<Output = Response> {
    Route::new()
        .at("/c/pay/:session", get(checkout::show).post(checkout::act))
        .at("/i/:account/:invoice", get(invoice::show).post(invoice::act))
        .at("/p/session/:session", get(portal::show).post(portal::act))
        .around(bounded)
        .catch_all_error(refused)
}

async fn bounded<E: Endpoint>(next: Arc<E>, mut request: Request) -> poem::Result<E::Output> {
    let body = request.take_body().into_bytes_limit(FORM_BYTES).await?;
    request.set_body(body);
    next.call(request).await
}

/// What the framework refuses is told on a page as well.
async fn refused(error: poem::Error) -> Response {
    let page = match error.status() {
        StatusCode::NOT_FOUND => Page::message(
            "There is no such page",
            "The sandbox has a checkout, a portal and invoices, each at an address of its own. The application leads there.",
            "",
        ),
        _ => Page::message(
            "That is not what this page's buttons send",
            "Go back to the page, load it again, and press one of its buttons.",
            "",
        ),
    };
    page.with_status(error.status()).answer()
}
