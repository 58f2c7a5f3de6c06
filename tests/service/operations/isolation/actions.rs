//! Actions at Stripe, on the command line and of the service, and the delivery of webhooks.

use std::process::Output;

use futures_util::future::join_all;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::leak_detector::IMPOSTOR;
use super::scenario::{Action, Change, Step};
use super::simulation::{Affected, Simulation};
use super::stream_reader::StreamReader;
use crate::support::event_stream::STREAM;

const CONCURRENT_DELIVERIES: usize = 8;

impl Simulation {
    /// On SQLite streams are not notified of a command: they find the change at their next poll,
    /// which `advance` allows.
    async fn link(&self, who: usize, customer: &str) -> Output {
        let linked = self.app.run_command(&["tenant", "link", &self.tenants[who].name, customer]);
        self.advance(5).await;
        linked
    }

    pub async fn act(&mut self, step: &Step) -> Result<Affected, String> {
        let who = step.who;
        match &step.action {
            Action::CheckOut => self.check_out(step).await,
            Action::OpenPortal(flow) => self.open_portal(step, *flow).await,
            Action::RefreshCheckout(owner) => self.refresh_checkout(step, *owner).await,
            Action::Read(known) => self.read(step, *known).await,
            Action::Follow(known) => self.follow(step, *known).await,
            Action::ReadOtherTenant => self.read_other_tenant(step).await,
            Action::Impersonate => self.impersonate(step).await,
            Action::ExceedRateLimit => self.exceed_rate_limit(step).await,
            Action::ReadAsService(known) => self.read_as_service(step, *known).await,
            Action::CallUserEndpointsAsService => self.call_user_endpoints_as_service(step).await,
            Action::SendAsStrangers => self.send_as_strangers(step).await,
            Action::LinkToOtherCustomer => self.link_to_other_customer(who).await,
            Action::LinkToNewCustomer => self.link_to_new_customer(who).await,
            Action::Restart => self.restart().await,
            Action::Pay(card) => Ok(self.pay(who, card).await),
            Action::Settle(ok) => Ok(self.settle(who, *ok).await),
            Action::Change(change) => Ok(self.change(who, *change).await),
            Action::CancelInPortal => Ok(self.cancel_in_portal(who).await),
            Action::BuyUnderOtherName => self.buy_under_other_name(who).await,
            Action::BuyWithOtherMetadata => Ok(self.buy_with_other_metadata(who).await),
            Action::DeleteCustomer => Ok(self.delete_customer(who).await),
            Action::RemoveCustomer => Ok(self.remove_customer(who).await),
            Action::Deliver { newest_first } => self.deliver(who, *newest_first).await,
            Action::DeliverBoth => self.deliver_both().await,
            Action::Redeliver(index) => self.redeliver(who, index).await,
        }
    }

    // --- at Stripe. No tenant is affected before a webhook is delivered.

    async fn pay(&self, who: usize, card: &str) -> Affected {
        if let Some(session) = self.tenants[who].sessions.last() {
            self.app
                .stripe
                .try_control(&format!("/_sandbox/checkout/{session}/pay"), &json!({ "card": card }))
                .await;
        }
        Affected::None
    }

    async fn settle(&self, who: usize, ok: bool) -> Affected {
        if let Some(session) = self.tenants[who].sessions.last() {
            self.app
                .stripe
                .try_control(&format!("/_sandbox/checkout/{session}/settle"), &json!({ "ok": ok }))
                .await;
        }
        Affected::None
    }

    async fn change(&self, who: usize, change: Change) -> Affected {
        let tenant = &self.tenants[who];
        let Some(subscription) = self.open_subscriptions(who).await.pop() else { return Affected::None };
        let price = subscription["items"]["data"][0]["price"]["id"].as_str();
        let another = tenant.prices.iter().find(|other| Some(**other) != price).unwrap_or(&tenant.prices[0]);
        let change = match change {
            Change::Price => json!({ "price": another }),
            Change::Quantity(more) => json!({ "quantity": tenant.first_quantity + more }),
            Change::Renew => json!({ "renew": true }),
            Change::Status(status) => json!({ "status": status }),
            Change::EndWithPeriod(ends) => json!({ "cancel_at_period_end": ends }),
            Change::End => json!({ "status": "canceled" }),
        };
        let id = subscription["id"].as_str().expect("an id");
        self.app.stripe.try_control(&format!("/_sandbox/subscriptions/{id}"), &change).await;
        Affected::None
    }

    async fn cancel_in_portal(&self, who: usize) -> Affected {
        let subscription = self.open_subscriptions(who).await.pop();
        if let (Some(url), Some(subscription)) = (&self.tenants[who].portal_url, subscription) {
            let id = subscription["id"].as_str().expect("an id");
            self.app.stripe.try_to_cancel_in_portal(url, id).await;
        }
        Affected::None
    }

    /// The session names the other tenant only in `client_reference_id`, which anyone with a
    /// payment link can set.
    async fn buy_under_other_name(&mut self, who: usize) -> Result<Affected, String> {
        let form = format!("client_reference_id={}", self.tenants[1 - who].name);
        self.buy_without_checkout(IMPOSTOR, self.tenants[who].prices[0], &form).await;
        self.collect_events().await;
        self.deliver(IMPOSTOR, false).await.map(|_| Affected::None)
    }

    /// The customer is linked already, so metadata must not move it to the other tenant.
    async fn buy_with_other_metadata(&mut self, who: usize) -> Affected {
        let Some(customer) = self.customer_of(who).await else { return Affected::None };
        let exists = !self.tenants[who].removed_customers.contains(&customer)
            && self.exists_at_stripe(&customer).await;
        let Some(session) = self.tenants[1 - who].sessions.last().filter(|_| exists) else {
            return Affected::None;
        };
        let session = self.app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
        let metadata = session["metadata"].as_object().expect("metadata").iter().map(|(name, value)| {
            let value = value.as_str().expect("metadata is text");
            format!("&metadata[{name}]={value}&subscription_data[metadata][{name}]={value}")
        });
        let form = format!("customer={customer}{}", metadata.collect::<String>());
        self.tenants[who].has_bought_with_other_metadata = true;
        self.buy_without_checkout(who, self.tenants[who].prices[0], &form).await;
        Affected::None
    }

    /// Pays for a session that the service has not created.
    async fn buy_without_checkout(&mut self, who: usize, price: &str, fields: &str) {
        let form = format!(
            "mode=subscription&success_url=https://app.example.com/&line_items[0][quantity]=1\
             &line_items[0][price]={price}&{fields}"
        );
        let stripe = &self.app.stripe;
        let session = stripe.api("POST", "/v1/checkout/sessions", &form).await;
        let id = session["id"].as_str().unwrap_or_else(|| panic!("a session: {session}")).to_owned();
        stripe.pay(&id).await;
        let paid = stripe.api("GET", &format!("/v1/checkout/sessions/{id}"), "").await;
        self.leaks.owns_all_in(who, &paid["customer"]);
        self.owners.insert(paid["customer"].as_str().expect("a customer").to_owned(), who);
        self.owners.insert(id, who);
    }

    async fn delete_customer(&self, who: usize) -> Affected {
        if let Some(customer) = self.customer_of(who).await
            && self.exists_at_stripe(&customer).await
        {
            self.app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
        }
        Affected::None
    }

    /// Not after a purchase with the other tenant's metadata: once the customer is unlinked,
    /// metadata decides its tenant.
    async fn remove_customer(&mut self, who: usize) -> Affected {
        if !self.tenants[who].has_bought_with_other_metadata
            && let Some(customer) = self.customer_of(who).await
            && self.exists_at_stripe(&customer).await
        {
            self.app.stripe.remove("customers", &customer).await;
            self.tenants[who].removed_customers.insert(customer);
        }
        Affected::None
    }

    async fn exists_at_stripe(&self, customer: &str) -> bool {
        let found = self.app.stripe.api("GET", &format!("/v1/customers/{customer}"), "").await;
        found["id"] == customer && found["deleted"] != true
    }

    pub async fn customer_of(&self, who: usize) -> Option<String> {
        let row = self.app.database.row::<entity::tenant::Entity>(&self.tenants[who].name).await;
        row.and_then(|row| row.stripe_customer_id)
    }

    /// The tenant's subscriptions at Stripe that have not ended.
    pub async fn open_subscriptions(&self, who: usize) -> Vec<Value> {
        let Some(customer) = self.customer_of(who).await else { return Vec::new() };
        let listed = self.app.stripe.api("GET", &format!("/v1/subscriptions?customer={customer}"), "").await;
        listed["data"].as_array().cloned().unwrap_or_default()
    }

    // --- webhooks

    async fn deliver(&mut self, who: usize, newest_first: bool) -> Result<Affected, String> {
        let (mut own, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(owner, _)| *owner == who);
        self.waiting = others;
        if newest_first {
            own.reverse();
        }
        self.post(own).await.map(|()| Affected::One(who))
    }

    /// Delivers both tenants' events alternately and concurrently, so that they share transactions.
    async fn deliver_both(&mut self) -> Result<Affected, String> {
        let mut all = std::mem::take(&mut self.waiting);
        let mut positions = [0; 3];
        all.sort_by_cached_key(|(owner, _)| {
            positions[*owner] += 1;
            positions[*owner]
        });
        self.post(all).await.map(|()| Affected::Both)
    }

    async fn redeliver(&mut self, who: usize, index: &Index) -> Result<Affected, String> {
        let own: Vec<_> = self.delivered.iter().filter(|(owner, _)| *owner == who).cloned().collect();
        if own.is_empty() {
            return Ok(Affected::None);
        }
        self.post(vec![index.get(&own).clone()]).await.map(|()| Affected::One(who))
    }

    async fn post(&mut self, events: Vec<(usize, Value)>) -> Result<(), String> {
        for batch in events.chunks(CONCURRENT_DELIVERIES) {
            let responses = join_all(batch.iter().map(|(_, event)| self.app.deliver(event))).await;
            if let Some(refused) = responses.iter().find(|response| response.status != 200) {
                return Err(format!("an event was rejected: {refused:?}"));
            }
        }
        self.delivered.extend(events);
        Ok(())
    }

    // --- the command line and the service

    async fn link_to_other_customer(&mut self, who: usize) -> Result<Affected, String> {
        if let Some(customer) = self.customer_of(1 - who).await {
            let linked = self.link(who, &customer).await;
            if linked.status.success() {
                return Err(format!("{who} is linked to the other tenant's customer: {linked:?}"));
            }
        }
        Ok(Affected::None)
    }

    /// The new customer's events are parked until the command links it, which it refuses if the
    /// tenant has a customer.
    async fn link_to_new_customer(&mut self, who: usize) -> Result<Affected, String> {
        let customer = self.app.stripe.api("POST", "/v1/customers", "").await;
        let customer = customer["id"].as_str().expect("an id").to_owned();
        self.owners.insert(customer.clone(), who);
        self.buy_without_checkout(who, self.tenants[who].prices[0], &format!("customer={customer}")).await;
        self.collect_events().await;
        self.deliver(who, false).await?;
        let is_free = self.customer_of(who).await.is_none();
        let linked = self.link(who, &customer).await;
        if linked.status.success() == is_free {
            Ok(Affected::One(who))
        } else {
            Err(format!("{who} has no customer: {is_free}, but {linked:?}"))
        }
    }

    /// The backfill after the restart fetches events that were not delivered.
    async fn restart(&mut self) -> Result<Affected, String> {
        for who in 0..2 {
            self.end_stream(who);
        }
        self.app.stop_service().await;
        self.advance(1).await;
        self.app.start_service().await;
        self.app.run_backfill_after(0).await;
        self.collect_events().await;
        self.delivered.append(&mut self.waiting);
        for who in 0..2 {
            let token = self.app.token(&self.tenants[who].name);
            let request = self.app.request(reqwest::Method::GET, STREAM).bearer_auth(token);
            // As if both tenants used one browser in turn.
            let other_etag = Some(self.tenants[1 - who].etag.clone());
            self.tenants[who].stream = StreamReader::open(request, other_etag).await?;
        }
        Ok(Affected::Both)
    }
}
