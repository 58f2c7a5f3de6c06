//! The OpenAPI document, and a Swagger UI page for it.
//!
//! poem-openapi generates the document from the operations in `api` and `webhook`, and `amendments`
//! corrects it. Spans, metrics, CORS and `Allow` look up paths in the document.

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

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut document = serde_json::from_str(&service().spec()).expect("poem-openapi writes JSON");
    amendments::amend(&mut document);
    format!("{document:#}\n")
});

/// More than a megabyte, so it is built at the first request.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let service = service();
    service.swagger_ui_html().replace(&service.spec(), &DOCUMENT)
});

/// All paths except those of the frontend's files.
static ROUTES: LazyLock<Vec<KnownRoute>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(&DOCUMENT).expect("the document is JSON");
    let paths = document["paths"].as_object().into_iter().flatten();
    let documented =
        paths.filter_map(|(path, operations)| Some(KnownRoute::new(path, operations.as_object()?)));
    let undocumented = ["/openapi.json", "/docs"].map(|path| KnownRoute {
        template: path.into(),
        methods: GET_METHODS.into(),
        is_for_users: false,
    });
    documented.chain(undocumented).collect()
});

pub(super) struct KnownRoute {
    /// The path in the document without its trailing slash: the route's name in spans and metrics.
    pub(super) template: String,
    /// The value of `Allow`.
    pub(super) methods: String,
    /// Whether the operation is for a tenant's users.
    pub(super) is_for_users: bool,
}

impl KnownRoute {
    fn new(path: &str, operations: &Map<String, Value>) -> Self {
        let is_for_users = operations.values().any(|one| one["tags"] == json!([Tag::Billing.name()]));
        let methods = operations.keys();
        let methods =
            methods.map(|one| if one == "get" { GET_METHODS.to_owned() } else { one.to_uppercase() });
        let methods = methods.collect::<Vec<_>>().join(", ");
        Self { template: path.trim_end_matches('/').to_owned(), methods, is_for_users }
    }
}

/// poem answers `HEAD` wherever it answers `GET`.
pub(super) const GET_METHODS: &str = "GET, HEAD";

/// The document as JSON, with a newline at the end.
pub fn openapi_document() -> &'static str {
    &DOCUMENT
}

/// Finds the route of a path. The request may still fail.
pub(super) fn route(path: &str) -> Option<&'static KnownRoute> {
    let fits = |route: &&KnownRoute| {
        let (mut template, mut given) = (segments(&route.template), segments(path));
        let all_match = template
            .all(|segment| given.next().is_some_and(|given| segment.starts_with('{') || given == segment));
        all_match && given.next().is_none()
    };
    // The fast path: most requests use the document's spelling.
    ROUTES
        .iter()
        .find(|route| route.template == path.trim_end_matches('/'))
        .or_else(|| ROUTES.iter().find(fits))
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

pub(super) fn document() -> impl Endpoint + 'static {
    get(make_sync(|_| typed("application/json", openapi_document())))
}

pub(super) fn swagger_page() -> impl Endpoint + 'static {
    get(make_sync(|_| {
        let mut page = typed("text/html; charset=utf-8", &PAGE);
        security_headers::protect(&mut page, security_headers::DOCS_CSP);
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
            "Stripe billing for multi-tenant SaaS: checkout, the hosted Customer Portal, verified webhooks, and each \
             tenant's current entitlements. Errors are RFC 9457 problems with a stable `code`.",
        )
        .license(LicenseObject::new("MIT").url("https://opensource.org/license/mit"))
        .server(ServerObject::new("/").description("The service that served this document."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_for_users_are_recognised() {
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
    fn path_is_matched_to_its_template() {
        let tenants = "/api/billing/tenants/{tenant}/subscription";
        for (path, template) in [
            ("/api/billing/webhook/", Some("/api/billing/webhook")),
            ("//api//billing/webhook", Some("/api/billing/webhook")),
            ("/api/billing/tenants/acme/subscription", Some(tenants)),
            ("/api/billing/tenants/acme/subscription/more", None),
            ("/api/billing/tenants/acme", None),
            ("/docs", Some("/docs")),
            ("/docs/acme", None),
            ("/", None),
        ] {
            assert_eq!(route(path).map(|route| route.template.as_str()), template, "{path}");
        }
    }

    #[test]
    fn path_has_the_methods_of_the_document() {
        for (path, methods) in [
            ("/api/billing/webhook", Some("POST")),
            ("/api/billing/tenants/acme/subscription/", Some(GET_METHODS)),
            ("/docs", Some(GET_METHODS)),
            ("/", None),
        ] {
            assert_eq!(route(path).map(|route| route.methods.as_str()), methods, "{path}");
        }
    }
}
