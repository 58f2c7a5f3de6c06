//! The contract: the OpenAPI document, and a page to try it.

use std::sync::LazyLock;

use poem::endpoint::make_sync;
use poem::{Endpoint, IntoResponse, Response};
use poem_openapi::{OpenApi, OpenApiService};

use super::api::checkout::CheckoutApi;
use super::api::health::HealthApi;
use super::api::portal::PortalApi;
use super::api::subscription::SubscriptionApi;
use super::webhook::WebhookApi;

/// The document, as JSON that ends in a newline.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| with_trailing_slashes(&service().spec()));

/// The page weighs more than a megabyte: it is made when somebody first opens it.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let service = service();
    service.swagger_ui_html().replace(&service.spec(), &DOCUMENT)
});

/// The OpenAPI document, as JSON that ends in a newline.
pub fn contract() -> &'static str {
    &DOCUMENT
}

/// `GET /openapi.json`
pub(super) fn document() -> impl Endpoint + 'static {
    make_sync(|_| typed("application/json", contract()))
}

/// `GET /docs`
pub(super) fn page() -> impl Endpoint + 'static {
    make_sync(|_| typed("text/html; charset=utf-8", &PAGE))
}

fn typed(content_type: &'static str, body: &'static str) -> Response {
    body.with_content_type(content_type).into_response()
}

pub(super) fn service() -> OpenApiService<impl OpenApi, ()> {
    let apis = (PortalApi, CheckoutApi, SubscriptionApi, WebhookApi, HealthApi);
    OpenApiService::new(apis, "Billhook", env!("CARGO_PKG_VERSION"))
        .summary("Stripe billing for multi-tenant SaaS")
        .description(
            "Checkout, the hosted Customer Portal, verified webhooks, and the one answer that the rest of a product \
             asks for: what is this tenant entitled to right now? Errors are RFC 9457 problems with a stable `code`.",
        )
}

/// Puts the slash back that poem-openapi takes from the end of every path: the contract names the paths as they are
/// given. The service takes both forms.
fn with_trailing_slashes(document: &str) -> String {
    let path_of = |line: &str| {
        let path = line.strip_suffix("\": {")?;
        path.trim_start().starts_with("\"/api/").then(|| format!("{path}/\": {{\n"))
    };
    document.lines().map(|line| path_of(line).unwrap_or_else(|| format!("{line}\n"))).collect()
}
