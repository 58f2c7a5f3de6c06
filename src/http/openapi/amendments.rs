//! What poem-openapi cannot say, or says otherwise than we mean it.

use serde_json::{Map, Value, json};

use crate::domain::locale::Locale;

/// Puts the document right.
pub(super) fn amend(document: &mut Value) {
    let paths = take_object(&mut document["paths"]);
    document["paths"] = paths.into_iter().map(|(path, operations)| (with_slash(path), operations)).collect();
    say_what_may_be_null(schema(document, "Subscription"));
    bound_what_is_sent(document);
    for schema in members(&mut document["components"]["schemas"]) {
        give_examples_to_fields(schema);
        bound_times(schema);
    }
    let descriptions = descriptions(&document["components"]["schemas"]);
    for operation in operations(document) {
        say_who_needs_no_token(operation);
        bound_what_a_path_names(operation);
        for answer in members(&mut operation["responses"]) {
            name_media_types_plainly(answer);
            name_headers_as_everybody_does(answer);
            describe_by_what_it_bears(answer, &descriptions);
        }
    }
    document["paths"]["/api/billing/webhook/"]["post"]["parameters"] = json!([{
        "name": "Stripe-Signature", "in": "header", "required": true,
        "schema": { "type": "string", "example": "t=1796083200,v1=0123456789abcdef" },
        "description": "Stripe's signature over the raw body: `t=...,v1=...`.",
    }]);
    document["paths"]["/api/billing/create-checkout-session/"]["post"]["responses"]["200"]["links"] = json!({
        "refresh": {
            "operationId": "refreshCheckoutSession",
            "parameters": { "session_id": "$response.body#/session_id" },
            "description": "For the buyer who comes back from there.",
        },
    });
}

/// The framework takes the slash from the end of every path.
fn with_slash(path: String) -> String {
    if path.starts_with("/api/") { path + "/" } else { path }
}

/// Every field is there; the ones that the framework calls optional may be null.
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

/// What a body may say. The framework would hold to such bounds itself, but what it then answers helps nobody.
fn bound_what_is_sent(document: &mut Value) {
    // One slash at the start, then what RFC 3986 has for paths, queries and fragments; and Checkout's placeholder.
    let letter = |slash: &str| {
        format!("([A-Za-z0-9._~!$&'()*+,;=:@?{slash}-]|%[0-9A-Fa-f]{{2}}|\\{{CHECKOUT_SESSION_ID\\}})")
    };
    let (first, more) = (letter(""), letter("/"));
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
        let_be_null(&mut schema(document, name)["properties"][property]);
        // What a body says beside what it may is refused, or a misspelt field would be a default.
        schema(document, name)["additionalProperties"] = json!(false);
    }
    let_be_null(schema(document, "PortalFlow"));
}

/// What may be left out of a body may be null, too.
fn let_be_null(schema: &mut Value) {
    schema["nullable"] = json!(true);
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
}

/// The same for what stands in a path: what is beyond is not found.
fn bound_what_a_path_names(operation: &mut Value) {
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

/// The framework has an example for an object; generators and readers look for a field's beside the field.
fn give_examples_to_fields(schema: &mut Value) {
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

/// No time is shorter than RFC 3339's of a whole second in UTC.
fn bound_times(schema: &mut Value) {
    let properties = schema.get_mut("properties").into_iter().flat_map(members);
    for time in properties.filter(|property| property["format"] == "date-time") {
        time["minLength"] = json!("2026-12-01T00:00:00Z".len());
    }
}

/// An operation without a token says so, or it would look forgotten.
fn say_who_needs_no_token(operation: &mut Value) {
    if operation["security"].is_null() {
        operation["security"] = json!([]);
    }
}

/// JSON is UTF-8 (RFC 8259, section 8.1): the framework's `; charset=utf-8` would be part of the media type's name here.
fn name_media_types_plainly(answer: &mut Value) {
    if answer["content"].is_object() {
        let content = take_object(&mut answer["content"]);
        let plainly = |name: String| name.split(';').next().unwrap_or_default().to_owned();
        answer["content"] = content.into_iter().map(|(name, media)| (plainly(name), media)).collect();
    }
}

/// The framework writes the names of headers in capitals.
fn name_headers_as_everybody_does(answer: &mut Value) {
    if answer["headers"].is_object() {
        let headers = take_object(&mut answer["headers"]);
        let usual = |name: String| {
            let names = ["Cache-Control", "ETag", "X-Accel-Buffering"];
            names
                .into_iter()
                .find(|usual| usual.eq_ignore_ascii_case(&name))
                .map_or(name.clone(), str::to_owned)
        };
        answer["headers"] = headers.into_iter().map(|(name, header)| (usual(name), header)).collect();
    }
}

/// An answer that has no words of its own is what its body is.
fn describe_by_what_it_bears(answer: &mut Value, descriptions: &Map<String, Value>) {
    if answer["description"] == "" {
        let reference = answer["content"]["application/json"]["schema"]["$ref"].as_str().unwrap_or_default();
        let name = reference.rsplit('/').next().unwrap_or_default();
        answer["description"] = descriptions[name].clone();
    }
}

fn descriptions(schemas: &Value) -> Map<String, Value> {
    let schemas = schemas.as_object().into_iter().flatten();
    schemas.map(|(name, schema)| (name.clone(), schema["description"].clone())).collect()
}

fn schema<'a>(document: &'a mut Value, name: &str) -> &'a mut Value {
    &mut document["components"]["schemas"][name]
}

/// Adds to what is there already: a property that is not would be a name that has changed.
fn add(to: &mut Value, more: &Value) {
    let to = to.as_object_mut().expect("it is in the document");
    to.extend(more.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
}

fn take_object(value: &mut Value) -> Map<String, Value> {
    value.as_object_mut().map(std::mem::take).unwrap_or_default()
}

fn members(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(Map::values_mut)
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    members(&mut document["paths"]).flat_map(members)
}
