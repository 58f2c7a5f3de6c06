//! Checkout sessions.

use serde_json::{Value, json};

use super::customer::CustomerFields;
use super::subscription::NewSubscription;
use super::{Metadata, State, catalog, insert, text};
use crate::ids;

/// The parameters of a new session.
pub(crate) struct NewSession {
    pub(crate) customer: Option<String>,
    pub(crate) client_reference_id: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) subscription_metadata: Metadata,
    pub(crate) trial_days: Option<i64>,
    /// Price ids with their quantities. Metered prices have no quantity.
    pub(crate) items: Vec<(String, Option<i64>)>,
    pub(crate) success_url: String,
    pub(crate) cancel_url: Option<String>,
    pub(crate) locale: Option<String>,
    pub(crate) allow_promotion_codes: Option<bool>,
    pub(crate) expires_at: i64,
    pub(crate) payment_method_collection: String,
}

/// How the bank answers a payment.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Card {
    Ok,
    Declined,
    /// A delayed debit: the bank answers days later.
    Delayed,
}

/// Why a call did not change a session.
pub(crate) enum Refusal {
    NoSuchSession,
    /// Complete or expired.
    NotOpen,
    Declined,
    NothingToSettle,
}

/// The field of a session object for data that the API does not return.
const HIDDEN: &str = "_sandbox";

/// The session as the API returns it.
pub(crate) fn visible(session: &Value) -> Value {
    let mut session = session.clone();
    if let Some(fields) = session.as_object_mut() {
        fields.remove(HIDDEN);
    }
    session
}

/// Price ids with their quantities.
pub(crate) fn line_items(session: &Value) -> Vec<(String, Option<i64>)> {
    serde_json::from_value(session[HIDDEN]["items"].clone()).unwrap_or_default()
}

pub(crate) fn trial_days(session: &Value) -> Option<i64> {
    session[HIDDEN]["trial_days"].as_i64()
}

/// Whether the session's `expires_at` has passed.
pub(crate) fn is_overdue(session: &Value, now: i64) -> bool {
    session["expires_at"].as_i64().is_some_and(|expires_at| expires_at <= now)
}

pub(crate) fn success_url(session: &Value) -> String {
    text(session, "success_url").replace("{CHECKOUT_SESSION_ID}", text(session, "id"))
}

impl State {
    pub(crate) fn create_session(&mut self, new: &NewSession) -> Value {
        let id = format!("cs_test_a1{}", ids::random(56));
        let url = format!("{}/c/pay/{id}", self.base_url);
        let amounts = new.items.iter().filter_map(|(price, quantity)| {
            Some(catalog::unit_amount(self.prices.get(price)?) * quantity.unwrap_or(0))
        });
        let total: i64 = if new.trial_days.is_some() { 0 } else { amounts.sum() };
        let session = insert(&mut self.sessions, session(&id, &url, total, new, self.clock.now()));
        visible(&session)
    }

    pub(crate) fn expire_session(&mut self, id: &str) -> Result<Value, Refusal> {
        self.open_session(id)?;
        let expired = self.edit_session(id, |session| {
            session["status"] = "expired".into();
            session["url"] = Value::Null;
        });
        self.emit("checkout.session.expired", &expired);
        Ok(expired)
    }

    /// Pays an open session and returns the URL to redirect the customer to.
    pub(crate) fn pay(&mut self, id: &str, card: Card) -> Result<String, Refusal> {
        let session = self.open_session(id)?.clone();
        if card == Card::Declined {
            return Err(Refusal::Declined);
        }
        let customer = self.session_customer(&session);
        let new = self.new_subscription(&session, &customer);
        let invoice_status = if card == Card::Ok { "paid" } else { "open" };
        let (subscription, invoice) = self.create_subscription(&new, invoice_status);
        let completed = self.edit_session(id, |session| {
            session["status"] = "complete".into();
            session["payment_status"] = payment_status(card, &subscription).into();
            session["customer"] = customer.into();
            session["subscription"] = subscription["id"].clone();
            session["invoice"] = invoice["id"].clone();
            session["url"] = Value::Null;
        });
        self.emit("checkout.session.completed", &completed);
        if card == Card::Ok {
            self.emit("invoice.paid", &invoice);
        }
        Ok(success_url(&completed))
    }

    /// Settles a delayed debit: `ok` says whether the bank has paid.
    pub(crate) fn settle(&mut self, id: &str, ok: bool) -> Result<Value, Refusal> {
        let session = self.sessions.get(id).ok_or(Refusal::NoSuchSession)?;
        let is_unsettled = text(session, "status") == "complete"
            && text(session, "payment_status") == "unpaid"
            && session[HIDDEN]["settled"] != true;
        if !is_unsettled {
            return Err(Refusal::NothingToSettle);
        }
        let settled = self.edit_session(id, |session| {
            session[HIDDEN]["settled"] = true.into();
            if ok {
                session["payment_status"] = "paid".into();
            }
        });
        if ok {
            self.emit("checkout.session.async_payment_succeeded", &settled);
            self.pay_invoice(text(&settled, "invoice"));
        } else {
            self.emit("checkout.session.async_payment_failed", &settled);
        }
        Ok(settled)
    }

    fn open_session(&self, id: &str) -> Result<&Value, Refusal> {
        let session = self.sessions.get(id).ok_or(Refusal::NoSuchSession)?;
        let is_open = text(session, "status") == "open" && !is_overdue(session, self.now());
        if is_open { Ok(session) } else { Err(Refusal::NotOpen) }
    }

    fn edit_session(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some(session) = self.sessions.get_mut(id) else { return Value::Null };
        edit(session);
        visible(session)
    }

    /// The session's customer. A session without one creates a new customer.
    fn session_customer(&mut self, session: &Value) -> String {
        match session["customer"].as_str() {
            Some(customer) => customer.to_owned(),
            None => text(&self.create_customer(CustomerFields::default()), "id").to_owned(),
        }
    }

    fn new_subscription(&self, session: &Value, customer: &str) -> NewSubscription {
        let items = line_items(session).into_iter();
        NewSubscription {
            customer: customer.to_owned(),
            items: items
                .filter_map(|(id, quantity)| Some((self.prices.get(&id)?.clone(), quantity)))
                .collect(),
            metadata: session[HIDDEN]["metadata"].as_object().cloned().unwrap_or_default(),
            trial_days: trial_days(session),
        }
    }
}

fn payment_status(card: Card, subscription: &Value) -> &'static str {
    if text(subscription, "status") == "trialing" {
        "no_payment_required"
    } else if card == Card::Delayed {
        "unpaid"
    } else {
        "paid"
    }
}

fn session(id: &str, url: &str, total: i64, new: &NewSession, now: i64) -> Value {
    json!({
        "id": id,
        "object": "checkout.session",
        "adaptive_pricing": null,
        "after_expiration": null,
        "allow_promotion_codes": new.allow_promotion_codes,
        "allowed_payment_method_types": null,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null},
        "billing_address_collection": null,
        "cancel_url": new.cancel_url,
        "client_reference_id": new.client_reference_id,
        "client_secret": null,
        "collected_information": null,
        "consent": null,
        "consent_collection": null,
        "created": now,
        "currency": "usd",
        "currency_conversion": null,
        "custom_fields": [],
        "custom_text": {
            "after_submit": null,
            "shipping_address": null,
            "submit": null,
            "terms_of_service_acceptance": null,
        },
        "customer": new.customer,
        "customer_account": null,
        "customer_creation": null,
        "customer_details": null,
        "customer_email": null,
        "discounts": null,
        "expires_at": new.expires_at,
        "integration_identifier": null,
        "invoice": null,
        "invoice_creation": null,
        "livemode": false,
        "locale": new.locale,
        "managed_payments": null,
        "metadata": new.metadata,
        "mode": "subscription",
        "origin_context": null,
        "payment_intent": null,
        "payment_link": null,
        "payment_method_collection": new.payment_method_collection,
        "payment_method_configuration_details": null,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": null,
        "phone_number_collection": {"enabled": false},
        "recovered_from": null,
        "saved_payment_method_options": null,
        "setup_intent": null,
        "shipping_address_collection": null,
        "shipping_cost": null,
        "shipping_options": [],
        "status": "open",
        "submit_type": null,
        "subscription": null,
        "success_url": new.success_url,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": url,
        "wallet_options": null,
        HIDDEN: {
            "items": new.items,
            "metadata": new.subscription_metadata,
            "trial_days": new.trial_days,
        },
    })
}
