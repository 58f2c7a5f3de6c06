//! The hosted pages for customers: checkout, portal and invoice. They need no scripts. Start with
//! the routes below.

mod checkout;
mod html;
mod invoice;
mod portal;
mod subscription;

use std::sync::Arc;

use poem::http::StatusCode;
use poem::{Endpoint, EndpointExt, Request, Response, Route, get};
use serde::Deserialize;

use html::Page;

/// The fields of all forms. Only the portal sends `subscription` and `price`.
#[derive(Deserialize)]
struct ActionForm {
    action: String,
    #[serde(default)]
    subscription: String,
    #[serde(default)]
    price: String,
}

/// Forms have at most three short fields.
const MAX_FORM_BYTES: usize = 4 * 1024;

pub(crate) fn routes() -> impl Endpoint<Output = Response> {
    Route::new()
        .at("/c/pay/:session", get(checkout::show).post(checkout::act))
        .at("/i/:account/:invoice", get(invoice::show).post(invoice::act))
        .at("/p/session/:session", get(portal::show).post(portal::act))
        .around(limit_body)
        .catch_all_error(error_page)
}

async fn limit_body<E: Endpoint>(next: Arc<E>, mut request: Request) -> poem::Result<E::Output> {
    let body = request.take_body().into_bytes_limit(MAX_FORM_BYTES).await?;
    request.set_body(body);
    next.call(request).await
}

/// Shows the framework's errors as pages.
async fn error_page(error: poem::Error) -> Response {
    let page = match error.status() {
        StatusCode::NOT_FOUND => Page::message(
            "Page not found",
            "The sandbox has pages for checkouts, portal sessions and invoices. Open them from the application.",
            "",
        ),
        _ => Page::message(
            "Invalid request",
            "Go back to the page, reload it, and use one of its buttons.",
            "",
        ),
    };
    page.with_status(error.status()).into_response()
}
