//! The contract: the OpenAPI document, and a page to try it.
//!
//! poem-openapi makes the document from the operations in `api` and `webhook`; `amendments` adds what it has no words for. The
//! document is also what spans, metrics, CORS and `Allow` know of a path.

mod amendments;

use std::sync::LazyLock;

use poem::endpoint::make_sync;
use poem::{Endpoint, IntoResponse, Response, get};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService, ServerObject, Tags};
use serde_json::{Map, Value, json};

use super::api::Tag;
use super::api::checkout::CheckoutApi;
use super::api::health::HealthApi;
use super::api::portal::PortalApi;
use super::api::stream::StreamApi;
use super::api::subscription::SubscriptionApi;
use super::middleware::security_headers;
use super::webhook::WebhookApi;

/// The document, as JSON that ends in a newline.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut document = serde_json::from_str(&service().spec()).expect("poem-openapi writes JSON");
    amendments::amend(&mut document);
    format!("{document:#}\n")
});

/// The page weighs more than a megabyte: it is made when somebody first opens it.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let service = service();
    service.swagger_ui_html().replace(&service.spec(), &DOCUMENT)
});

/// All that can be asked for but the page's files.
static ROUTES: LazyLock<Vec<KnownRoute>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(&DOCUMENT).expect("it was written as JSON");
    let paths = document["paths"].as_object().into_iter().flatten();
    let documented = paths.map(|(path, operations)| KnownRoute::new(path, operations));
    let ours = ["/openapi.json", "/docs"].map(|path| KnownRoute {
        template: path.into(),
        methods: READ.into(),
        is_for_users: false,
    });
    documented.chain(ours).collect()
});

/// A path that can be asked for.
pub(super) struct KnownRoute {
    /// As the document writes it, without the slash at the end: the name of the route in spans and metrics.
    pub(super) template: String,
    /// The methods that it takes, as the header `Allow` lists them.
    pub(super) methods: String,
    /// Whether it is an operation for a tenant's users.
    pub(super) is_for_users: bool,
}

impl KnownRoute {
    fn new(path: &str, operations: &Value) -> Self {
        let mut tags = operations.as_object().into_iter().flatten().map(|(_, operation)| &operation["tags"]);
        let is_for_users = tags.any(|tags| *tags == json!([Tag::Billing.name()]));
        let template = path.trim_end_matches('/').to_owned();
        Self { template, methods: methods_of(operations), is_for_users }
    }
}

/// The methods of what can only be read. Whatever answers `GET` answers `HEAD`.
pub(super) const READ: &str = "GET, HEAD";

fn methods_of(operations: &Value) -> String {
    let methods = operations.as_object().into_iter().flat_map(Map::keys);
    let methods = methods.map(|method| if method == "get" { READ.to_owned() } else { method.to_uppercase() });
    methods.collect::<Vec<_>>().join(", ")
}

/// The OpenAPI document, as JSON that ends in a newline.
pub fn contract() -> &'static str {
    &DOCUMENT
}

/// The route that a path fits, whatever becomes of the request.
pub(super) fn route(path: &str) -> Option<&'static KnownRoute> {
    let fits = |route: &&KnownRoute| {
        let (mut wanted, mut given) = (segments(&route.template), segments(path));
        let each = wanted
            .by_ref()
            .all(|segment| given.next().is_some_and(|given| segment.starts_with('{') || given == segment));
        each && given.next().is_none()
    };
    // Most are asked for as the document writes them.
    ROUTES
        .iter()
        .find(|route| route.template == path.trim_end_matches('/'))
        .or_else(|| ROUTES.iter().find(fits))
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// `GET /openapi.json`
pub(super) fn document() -> impl Endpoint + 'static {
    get(make_sync(|_| typed("application/json", contract())))
}

/// `GET /docs`
pub(super) fn page() -> impl Endpoint + 'static {
    get(make_sync(|_| {
        let mut page = typed("text/html; charset=utf-8", &PAGE);
        security_headers::protect(&mut page, security_headers::DOCS);
        page
    }))
}

fn typed(content_type: &'static str, body: &'static str) -> Response {
    body.with_content_type(content_type).into_response()
}

pub(super) fn service() -> OpenApiService<impl OpenApi, ()> {
    let apis = (PortalApi, CheckoutApi, SubscriptionApi, StreamApi, WebhookApi, HealthApi);
    OpenApiService::new(apis, "Billhook", env!("CARGO_PKG_VERSION"))
        .description(
            "Stripe billing for multi-tenant SaaS: checkout, the hosted Customer Portal, verified webhooks, and the \
             one answer that the rest of a product asks for: what is this tenant entitled to right now? Errors are \
             RFC 9457 problems with a stable `code`.",
        )
        .license(LicenseObject::new("MIT").url("https://opensource.org/license/mit"))
        .server(ServerObject::new("/").description("The service that this document comes from."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_users_says_so_in_the_contract() {
        for path in [
            "/api/billing/subscription",
            "/api/billing/subscription/events/",
            "/api/billing/checkout-sessions/cs_1/refresh",
            "/api/billing/create-portal-session",
        ] {
            assert!(route(path).is_some_and(|route| route.is_for_users), "{path}");
        }
        for path in [
            "/api/billing/tenants/acme/subscription",
            "/api/billing/webhook",
            "/api/billing/nothing",
            "/healthz",
            "/docs",
            "/",
        ] {
            assert!(!route(path).is_some_and(|route| route.is_for_users), "{path}");
        }
    }

    #[test]
    fn a_path_is_named_by_the_template_that_it_fits() {
        let tenants = "/api/billing/tenants/{tenant}/subscription";
        for (path, named) in [
            ("/api/billing/webhook/", Some("/api/billing/webhook")),
            ("//api//billing/webhook", Some("/api/billing/webhook")),
            ("/api/billing/tenants/acme/subscription", Some(tenants)),
            ("/api/billing/tenants/acme/subscription/more", None),
            ("/api/billing/tenants/acme", None),
            ("/docs", Some("/docs")),
            ("/docs/acme", None),
            ("/", None),
        ] {
            assert_eq!(route(path).map(|route| route.template.as_str()), named, "{path}");
        }
    }

    #[test]
    fn a_path_takes_the_methods_that_the_document_has_for_it() {
        for (path, taken) in [
            ("/api/billing/webhook", Some("POST")),
            ("/api/billing/tenants/acme/subscription/", Some(READ)),
            ("/docs", Some(READ)),
            ("/", None),
        ] {
            assert_eq!(route(path).map(|route| route.methods.as_str()), taken, "{path}");
        }
    }
}
