//! The contract: the OpenAPI document, and a page to try it.

use std::collections::HashMap;
use std::sync::LazyLock;

use poem::endpoint::make_sync;
use poem::{Endpoint, IntoResponse, Response};
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use super::api::checkout::CheckoutApi;
use super::api::health::HealthApi;
use super::api::portal::PortalApi;
use super::api::subscription::SubscriptionApi;
use super::webhook::WebhookApi;

/// The document, as JSON that ends in a newline.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut document = serde_json::from_str(&service().spec()).expect("poem-openapi writes JSON");
    say_what_the_framework_cannot(&mut document);
    format!("{document:#}\n")
});

/// The page weighs more than a megabyte: it is made when somebody first opens it.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let service = service();
    service.swagger_ui_html().replace(&service.spec(), &DOCUMENT)
});

/// How the framework writes each path, which numbers its parameters, and how the document does, which names them.
static TEMPLATES: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(&DOCUMENT).expect("it was written as JSON");
    let paths = document["paths"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let others = ["/openapi.json", "/docs"];
    paths
        .chain(others)
        .map(|path| path.trim_end_matches('/').to_owned())
        .map(|path| (numbered(&path), path))
        .collect()
});

/// The OpenAPI document, as JSON that ends in a newline.
pub fn contract() -> &'static str {
    &DOCUMENT
}

/// The path's template as the document writes it, for a pattern of the framework's: the name of a route in spans and
/// metrics.
pub(super) fn template(pattern: &str) -> Option<&'static str> {
    TEMPLATES.get(pattern).map(String::as_str)
}

fn numbered(path: &str) -> String {
    let mut number = 0;
    let segments = path.split('/').map(|segment| {
        if !segment.starts_with('{') {
            return segment.to_owned();
        }
        number += 1;
        format!(":param{}", number - 1)
    });
    segments.collect::<Vec<_>>().join("/")
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
    OpenApiService::new(apis, "Billhook", env!("CARGO_PKG_VERSION")).description(
        "Stripe billing for multi-tenant SaaS: checkout, the hosted Customer Portal, verified webhooks, and the one \
         answer that the rest of a product asks for: what is this tenant entitled to right now? Errors are RFC 9457 \
         problems with a stable `code`.",
    )
}

/// poem-openapi takes the slash from the end of every path, calls a field that may be null optional, and knows no
/// header that an operation reads or writes by hand.
fn say_what_the_framework_cannot(document: &mut Value) {
    let paths = document["paths"].as_object_mut().map(std::mem::take).unwrap_or_default();
    document["paths"] = paths.into_iter().map(|(path, operations)| (with_slash(path), operations)).collect();
    say_what_may_be_null(&mut document["components"]["schemas"]["Subscription"]);
    document["paths"]["/api/billing/webhook/"]["post"]["parameters"] = json!([{
        "name": "Stripe-Signature", "in": "header", "required": true, "schema": { "type": "string" },
        "description": "Stripe's signature over the raw body: `t=...,v1=...`.",
    }]);
    for operation in operations(document) {
        for status in ["429", "503"] {
            if let Some(answer) = operation["responses"].get_mut(status) {
                answer["headers"]["Retry-After"] = json!({
                    "description": "After how many seconds to come back, where that is known.",
                    "schema": { "type": "integer" },
                });
            }
        }
    }
}

fn with_slash(path: String) -> String {
    if path.starts_with("/api/") { path + "/" } else { path }
}

/// Every field is there; the ones that poem-openapi calls optional may be null.
fn say_what_may_be_null(schema: &mut Value) {
    let required = schema["required"].take();
    let is_required =
        |name: &str| required.as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let Some(properties) = schema["properties"].as_object_mut() else { return };
    for (name, property) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
        debug_assert!(property["type"].is_string(), "{name} is a plain value");
        property["nullable"] = json!(true);
    }
    let names: Vec<String> = properties.keys().cloned().collect();
    schema["required"] = json!(names);
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut)
}
