//! `/v1/billing_portal`

use serde_json::{Value, json};

use super::error::StripeError;
use super::form::Form;
use super::page::Page;
use super::{Reply, locale};
use crate::world::portal::{NewConfiguration, NewPortalSession, allows};
use crate::world::{World, text};

const FLOWS: &[&str] = &["payment_method_update", "subscription_cancel", "subscription_update"];

const NO_CONFIGURATION: &str = "No configuration provided and your test mode default configuration has not been \
    created. Provide a configuration or create your default by saving your customer portal settings in test mode at \
    https://dashboard.stripe.com/test/settings/billing/portal.";

pub(super) fn create(world: &mut World, mut form: Form) -> Reply {
    let customer = form.text("customer")?;
    let customer = form.required("customer", customer)?;
    if world.living_customer(&customer).is_none() {
        return Err(StripeError::no_such_referenced("customer", &customer, "customer"));
    }
    let configuration = configuration(world, &mut form)?;
    let return_url = form.url("return_url")?;
    let locale = form.one_of("locale", locale::PORTAL)?;
    let flow = form.hash("flow_data", |flow| read_flow(world, &customer, configuration, flow))?;
    form.finish()?;
    let new = NewPortalSession {
        configuration: text(configuration, "id").to_owned(),
        return_url: return_url.or_else(|| configuration["default_return_url"].as_str().map(str::to_owned)),
        customer,
        locale,
        flow: flow.unwrap_or_default(),
    };
    Ok(world.create_portal_session(&new))
}

pub(super) fn list_configurations(world: &World, mut form: Form) -> Reply {
    let page = Page::read(&mut form)?;
    let active = form.flag("active")?;
    let is_default = form.flag("is_default")?;
    form.finish()?;
    page.cut("/v1/billing_portal/configurations", world.configurations.values(), |configuration| {
        active.is_none_or(|active| configuration["active"] == active)
            && is_default.is_none_or(|is_default| configuration["is_default"] == is_default)
    })
}

pub(super) fn create_configuration(world: &mut World, mut form: Form) -> Reply {
    let features = form.hash("features", read_features)?;
    let features = form.required("features", features)?;
    let profile = form.hash("business_profile", |profile| {
        Ok(json!({
            "headline": profile.text("headline")?,
            "privacy_policy_url": profile.url("privacy_policy_url")?,
            "terms_of_service_url": profile.url("terms_of_service_url")?,
        }))
    })?;
    let new = NewConfiguration {
        features,
        business_profile: profile.unwrap_or_else(
            || json!({"headline": null, "privacy_policy_url": null, "terms_of_service_url": null}),
        ),
        default_return_url: form.url("default_return_url")?,
        metadata: form.metadata(&Value::Null)?.unwrap_or_default(),
        name: form.text("name")?,
    };
    form.finish()?;
    Ok(world.create_configuration(&new))
}

fn configuration<'a>(world: &'a World, form: &mut Form) -> Result<&'a Value, StripeError> {
    match form.text("configuration")? {
        Some(id) => {
            let named = world.configurations.get(&id);
            named.ok_or_else(|| StripeError::no_such_referenced("configuration", &id, "configuration"))
        }
        None => world.default_configuration().ok_or_else(|| StripeError::invalid(NO_CONFIGURATION)),
    }
}

fn read_flow(world: &World, customer: &str, configuration: &Value, flow: &mut Form) -> Reply {
    let kind = flow.one_of("type", FLOWS)?;
    let kind = flow.required("type", kind)?;
    if !allows(configuration, &kind) {
        let message = format!("The portal configuration of this session has the {kind} feature disabled.");
        return Err(StripeError::invalid_param(flow.name("type"), message));
    }
    let mut answer = json!({
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
        let details = flow.hash(&kind, |details| read_subscription(world, customer, details))?;
        answer[&kind] = json!({"subscription": flow.required(&kind, details)?});
    }
    Ok(answer)
}

fn read_subscription(world: &World, customer: &str, details: &mut Form) -> Result<String, StripeError> {
    let id = details.text("subscription")?;
    let id = details.required("subscription", id)?;
    let owned = world.subscriptions_of(customer).any(|subscription| text(subscription, "id") == id);
    if owned {
        Ok(id)
    } else {
        Err(StripeError::no_such_referenced("subscription", &id, details.name("subscription")))
    }
}

fn read_after_completion(after: &mut Form) -> Reply {
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

fn read_features(features: &mut Form) -> Reply {
    let plain = |features: &mut Form, name: &str| -> Reply {
        let enabled = features.hash(name, |feature| {
            let enabled = feature.flag("enabled")?;
            feature.required("enabled", enabled)
        })?;
        Ok(json!({"enabled": enabled.unwrap_or(false)}))
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
    Ok(json!({
        "customer_update": {"allowed_updates": [], "enabled": false},
        "invoice_history": history,
        "payment_method_update": card,
        "subscription_cancel": cancel.unwrap_or_else(|| json!({"enabled": false})),
        "subscription_update": update.unwrap_or_else(|| json!({"enabled": false})),
    }))
}
