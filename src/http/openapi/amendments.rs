//! Corrections to the OpenAPI document that poem-openapi cannot express.

use serde_json::{Map, Value, json};

use crate::domain::locale::Locale;

pub(super) fn amend(document: &mut Value) {
    // poem-openapi removes the trailing slash of every path.
    let add_slash = |path: String| if path.starts_with("/api/") { path + "/" } else { path };
    rename_keys(document.get_mut("paths"), add_slash);
    mark_nullable_fields(schema(document, "Subscription"));
    constrain_request_bodies(document);
    for schema in members(&mut document["components"]["schemas"]) {
        move_examples_to_fields(schema);
        constrain_times(schema);
    }
    let descriptions = descriptions(&document["components"]["schemas"]);
    for operation in operations(document) {
        mark_as_public_without_token(operation);
        constrain_path_parameters(operation);
        for response in members(&mut operation["responses"]) {
            remove_media_type_parameters(response);
            fix_header_case(response);
            add_missing_description(response, &descriptions);
        }
    }
    document["paths"]["/api/billing/webhook/"]["post"]["parameters"] = json!([{
        "name": "Stripe-Signature", "in": "header", "required": true,
        "schema": { "type": "string", "example": "t=1796083200,v1=0123456789abcdef" },
        "description": "Stripe's signature of the raw body: `t=...,v1=...`.",
    }]);
    document["paths"]["/api/billing/create-checkout-session/"]["post"]["responses"]["200"]["links"] = json!({
        "refresh": {
            "operationId": "refreshCheckoutSession",
            "parameters": { "session_id": "$response.body#/session_id" },
            "description": "For a buyer who returns from Checkout.",
        },
    });
}

/// All fields are present. Those that poem-openapi calls optional may be null.
fn mark_nullable_fields(schema: &mut Value) {
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

/// poem-openapi could enforce these constraints itself, but its error messages do not help a
/// caller.
fn constrain_request_bodies(document: &mut Value) {
    // One slash at the start, then RFC 3986's characters of paths, queries and fragments, and
    // Checkout's placeholder.
    let character = |slash: &str| {
        format!("([A-Za-z0-9._~!$&'()*+,;=:@?{slash}-]|%[0-9A-Fa-f]{{2}}|\\{{CHECKOUT_SESSION_ID\\}})")
    };
    let (first, more) = (character(""), character("/"));
    let pattern = format!("^/({first}{more}*)?(#{more}*)?$");
    let path = json!({ "pattern": pattern, "minLength": 1, "maxLength": 1024 });
    let plan = json!({ "pattern": "^[a-z0-9_-]+$", "minLength": 1, "maxLength": 63 });
    for (name, property, bounds) in [
        ("CheckoutSessionRequest", "plan", &plan),
        ("CheckoutSessionRequest", "success_path", &path),
        ("CheckoutSessionRequest", "cancel_path", &path),
        ("PortalSessionRequest", "return_path", &path),
        ("PortalSessionRequest", "locale", &json!({ "enum": &Locale::TAGS[..] })),
    ] {
        add(&mut schema(document, name)["properties"][property], bounds);
        make_nullable(&mut schema(document, name)["properties"][property]);
        // Unknown fields are rejected: a misspelt field would otherwise silently get its default.
        schema(document, name)["additionalProperties"] = json!(false);
    }
    make_nullable(schema(document, "PortalFlow"));
}

/// Fields that may be omitted may also be null.
fn make_nullable(schema: &mut Value) {
    schema["nullable"] = json!(true);
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.push(Value::Null);
    }
}

/// A path with any other parameter is 404.
fn constrain_path_parameters(operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let bounds = match parameter["name"].as_str() {
            Some("tenant") => json!({ "pattern": "^[A-Za-z0-9._-]+$", "minLength": 1, "maxLength": 63 }),
            Some("session_id") => json!({ "pattern": "^cs_[A-Za-z0-9_]+$", "maxLength": 255 }),
            _ => continue,
        };
        add(&mut parameter["schema"], &bounds);
    }
}

/// poem-openapi has one example per object. Generators and readers look for it beside each field.
fn move_examples_to_fields(schema: &mut Value) {
    let examples = schema.as_object_mut().and_then(|schema| schema.remove("example"));
    let Some(Value::Object(examples)) = examples else { return };
    for (name, example) in examples {
        let property = &mut schema["properties"][&name];
        let is_scalar = property["type"].as_str().is_some_and(|kind| kind != "array");
        if is_scalar {
            property["example"] = example;
        }
    }
}

/// The shortest RFC 3339 time is a whole second in UTC.
fn constrain_times(schema: &mut Value) {
    let properties = schema.get_mut("properties").into_iter().flat_map(members);
    for time in properties.filter(|property| property["format"] == "date-time") {
        time["minLength"] = json!("2026-12-01T00:00:00Z".len());
    }
}

/// States explicitly that an operation needs no token.
fn mark_as_public_without_token(operation: &mut Value) {
    if operation["security"].is_null() {
        operation["security"] = json!([]);
    }
}

/// Removes poem-openapi's `; charset=utf-8`, which OpenAPI reads as part of the media type. JSON is
/// always UTF-8 (RFC 8259, section 8.1).
fn remove_media_type_parameters(response: &mut Value) {
    let media_type = |name: String| name.split(';').next().unwrap_or_default().to_owned();
    rename_keys(response.get_mut("content"), media_type);
}

/// poem-openapi writes header names in capitals.
fn fix_header_case(response: &mut Value) {
    rename_keys(response.get_mut("headers"), |name| {
        let mut usual = ["Cache-Control", "ETag", "X-Accel-Buffering"].into_iter();
        usual.find(|usual| usual.eq_ignore_ascii_case(&name)).map_or(name, str::to_owned)
    });
}

/// A response without a description gets that of its body's schema.
fn add_missing_description(response: &mut Value, descriptions: &Map<String, Value>) {
    if response["description"] == "" {
        let reference =
            response["content"]["application/json"]["schema"]["$ref"].as_str().unwrap_or_default();
        let name = reference.rsplit('/').next().unwrap_or_default();
        response["description"] = descriptions[name].clone();
    }
}

fn descriptions(schemas: &Value) -> Map<String, Value> {
    let schemas = schemas.as_object().into_iter().flatten();
    schemas.map(|(name, schema)| (name.clone(), schema["description"].clone())).collect()
}

fn schema<'a>(document: &'a mut Value, name: &str) -> &'a mut Value {
    &mut document["components"]["schemas"][name]
}

/// Panics if `to` does not exist: then a name has changed.
fn add(to: &mut Value, more: &Value) {
    let to = to.as_object_mut().expect("the schema is in the document");
    to.extend(more.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
}

fn rename_keys(object: Option<&mut Value>, rename: impl Fn(String) -> String) {
    if let Some(object) = object.and_then(Value::as_object_mut) {
        *object = std::mem::take(object).into_iter().map(|(name, value)| (rename(name), value)).collect();
    }
}

fn members(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(Map::values_mut)
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    members(&mut document["paths"]).flat_map(members)
}
