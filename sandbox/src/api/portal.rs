//! `/v1/billing_portal`

use serde_json::{Map, Value, json};

use super::error::StripeError;
use super::form::Form;
use super::pagination::Pagination;
use super::{ApiResult, locale};
use crate::state::portal::{NewConfiguration, NewPortalSession, is_feature_enabled};
use crate::state::subscription::{is_final, is_set_to_cancel, items};
use crate::state::{State, text};

const FLOWS: &[&str] = &["payment_method_update", "subscription_cancel", "subscription_update"];

const NO_CONFIGURATION: &str = "No configuration provided and your test mode default configuration has not been \
    created. Provide a configuration or create your default by saving your customer portal settings in test mode at \
    https://dashboard.stripe.com/test/settings/billing/portal.";

pub(super) fn create(state: &mut State, mut form: Form) -> ApiResult {
    let customer = form.text("customer")?;
    let customer = form.required("customer", customer)?;
    if state.existing_customer(&customer).is_none() {
        return Err(StripeError::no_such_referenced("customer", &customer, "customer"));
    }
    let configuration = configuration(state, &mut form)?;
    let return_url = form.url("return_url")?;
    let locale = form.one_of("locale", locale::PORTAL)?;
    let flow = form.hash("flow_data", |flow| read_flow(state, &customer, configuration, flow))?;
    form.finish()?;
    let new = NewPortalSession {
        configuration: text(configuration, "id").to_owned(),
        return_url: return_url.or_else(|| configuration["default_return_url"].as_str().map(str::to_owned)),
        customer,
        locale,
        flow: flow.unwrap_or_default(),
    };
    Ok(state.create_portal_session(&new))
}

pub(super) fn list_configurations(state: &State, mut form: Form) -> ApiResult {
    let page = Pagination::read(&mut form)?;
    let active = form.flag("active")?;
    let is_default = form.flag("is_default")?;
    form.finish()?;
    page.paginate("/v1/billing_portal/configurations", state.configurations.values(), |configuration| {
        active.is_none_or(|active| configuration["active"] == active)
            && is_default.is_none_or(|is_default| configuration["is_default"] == is_default)
    })
}

pub(super) fn retrieve_configuration(state: &State, id: &str, form: Form) -> ApiResult {
    form.finish()?;
    state.configurations.get(id).cloned().ok_or_else(|| StripeError::no_such("configuration", id))
}

/// Changes only the features that the call contains.
pub(super) fn update_configuration(state: &mut State, id: &str, mut form: Form) -> ApiResult {
    let active = form.flag("active")?;
    let features = form.hash("features", read_features)?.unwrap_or_default();
    form.finish()?;
    if !state.configurations.contains_key(id) {
        return Err(StripeError::no_such("configuration", id));
    }
    Ok(state.edit_configuration(id, |configuration| {
        if let Some(active) = active {
            configuration["active"] = active.into();
        }
        for (name, feature) in features {
            for (field, value) in feature.as_object().into_iter().flatten() {
                configuration["features"][&name][field] = value.clone();
            }
        }
    }))
}

pub(super) fn create_configuration(state: &mut State, mut form: Form) -> ApiResult {
    let features = form.hash("features", read_features)?;
    let features = form.required("features", features)?;
    let profile = form.hash("business_profile", |profile| {
        Ok(json!({
            "headline": profile.text("headline")?,
            "privacy_policy_url": profile.url("privacy_policy_url")?,
            "terms_of_service_url": profile.url("terms_of_service_url")?,
        }))
    })?;
    let mut all: Map<String, Value> =
        FEATURES.iter().map(|name| ((*name).to_owned(), json!({"enabled": false}))).collect();
    all.extend(features);
    let new = NewConfiguration {
        features: all.into(),
        business_profile: profile.unwrap_or_else(
            || json!({"headline": null, "privacy_policy_url": null, "terms_of_service_url": null}),
        ),
        default_return_url: form.url("default_return_url")?,
        metadata: form.metadata(&Value::Null)?.unwrap_or_default(),
        name: form.text("name")?,
    };
    form.finish()?;
    Ok(state.create_configuration(&new))
}

fn configuration<'a>(state: &'a State, form: &mut Form) -> Result<&'a Value, StripeError> {
    let Some(id) = form.text("configuration")? else {
        return state.default_configuration().ok_or_else(|| StripeError::invalid(NO_CONFIGURATION));
    };
    let Some(named) = state.configurations.get(&id) else {
        return Err(StripeError::no_such_referenced("configuration", &id, "configuration"));
    };
    if named["active"] == true {
        return Ok(named);
    }
    // Our own text: Stripe's is not published.
    let message = format!("The portal configuration `{id}` is inactive.");
    Err(StripeError::invalid_param("configuration", message))
}

fn read_flow(state: &State, customer: &str, configuration: &Value, flow: &mut Form) -> ApiResult {
    let kind = flow.one_of("type", FLOWS)?;
    let kind = flow.required("type", kind)?;
    if !is_feature_enabled(configuration, &kind) {
        return Err(StripeError::invalid(feature_disabled(&kind)));
    }
    let mut result = json!({
        "after_completion": flow.hash("after_completion", read_after_completion)?
            .unwrap_or_else(|| json!({"hosted_confirmation": null, "redirect": null, "type": "portal_homepage"})),
        "customer_update": null,
        "subscription_cancel": null,
        "subscription_pause": null,
        "subscription_update": null,
        "subscription_update_confirm": null,
        "type": kind,
    });
    if kind != "payment_method_update" {
        let details = flow.hash(&kind, |details| read_subscription(state, customer, &kind, details))?;
        result[&kind] = json!({"subscription": flow.required(&kind, details)?});
    }
    Ok(result)
}

/// The text for `subscription_update` is Stripe's. Stripe's texts for the others are not published.
fn feature_disabled(kind: &str) -> &'static str {
    match kind {
        "subscription_update" => {
            "This subscription cannot be updated because the subscription update feature in the portal \
             configuration is disabled."
        }
        "subscription_cancel" => {
            "This subscription cannot be canceled because the subscription cancellation feature in the portal \
             configuration is disabled."
        }
        _ => "The payment method update feature in the portal configuration is disabled.",
    }
}

fn read_subscription(
    state: &State,
    customer: &str,
    kind: &str,
    details: &mut Form,
) -> Result<String, StripeError> {
    let id = details.text("subscription")?;
    let id = details.required("subscription", id)?;
    let mut theirs = state.subscriptions_of(customer);
    let Some(subscription) = theirs.find(|subscription| text(subscription, "id") == id) else {
        return Err(StripeError::no_such_referenced("subscription", &id, details.name("subscription")));
    };
    // Only the text for a subscription that is set to cancel is Stripe's.
    if is_final(subscription) {
        return Err(StripeError::invalid(format!("The subscription {id} is already canceled.")));
    }
    match kind {
        "subscription_cancel" if is_set_to_cancel(subscription) => {
            let message = format!("The subscription {id} is already set to be canceled at period end.");
            Err(StripeError::invalid(message))
        }
        "subscription_update" if items(subscription).len() > 1 => {
            let message = format!("The subscription {id} has multiple items and cannot be updated.");
            Err(StripeError::invalid(message))
        }
        _ => Ok(id),
    }
}

fn read_after_completion(after: &mut Form) -> ApiResult {
    let kind = after.one_of("type", &["redirect", "hosted_confirmation", "portal_homepage"])?;
    let kind = after.required("type", kind)?;
    let redirect = after.hash("redirect", |redirect| {
        let return_url = redirect.url("return_url")?;
        Ok(json!({"return_url": redirect.required("return_url", return_url)?}))
    })?;
    if kind == "redirect" {
        after.required("redirect", redirect.as_ref())?;
    }
    let confirmation = after.hash("hosted_confirmation", |confirmation| {
        Ok(json!({"custom_message": confirmation.text("custom_message")?}))
    })?;
    Ok(json!({"hosted_confirmation": confirmation, "redirect": redirect, "type": kind}))
}

const FEATURES: [&str; 5] = [
    "customer_update",
    "invoice_history",
    "payment_method_update",
    "subscription_cancel",
    "subscription_update",
];

/// Returns the features that the call contains.
fn read_features(features: &mut Form) -> Result<Map<String, Value>, StripeError> {
    let plain = |features: &mut Form, name: &str| {
        features.hash(name, |feature| {
            let enabled = feature.flag("enabled")?;
            Ok(json!({"enabled": feature.required("enabled", enabled)?}))
        })
    };
    let card = plain(features, "payment_method_update")?;
    let history = plain(features, "invoice_history")?;
    let cancel = features.hash("subscription_cancel", |cancel| {
        let enabled = cancel.flag("enabled")?;
        let mode = cancel.one_of("mode", &["at_period_end", "immediately"])?;
        Ok(json!({
            "enabled": cancel.required("enabled", enabled)?,
            "mode": mode.unwrap_or_else(|| "at_period_end".to_owned()),
            "proration_behavior": "none",
        }))
    })?;
    let update = features.hash("subscription_update", |update| {
        let enabled = update.flag("enabled")?;
        Ok(json!({
            "enabled": update.required("enabled", enabled)?,
            "default_allowed_updates": update.texts("default_allowed_updates")?,
            "proration_behavior": "none",
        }))
    })?;
    let features = [
        ("invoice_history", history),
        ("payment_method_update", card),
        ("subscription_cancel", cancel),
        ("subscription_update", update),
    ];
    Ok(features.into_iter().filter_map(|(name, feature)| Some((name.to_owned(), feature?))).collect())
}
