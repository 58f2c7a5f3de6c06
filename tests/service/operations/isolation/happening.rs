//! What happens at Stripe, at the command line and to the service, and the webhooks that tell of it.

use std::process::Output;

use futures_util::future::join_all;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::follower::Follower;
use super::play::{Concerns, Play};
use super::tale::{Act, Change, Step};
use super::witness::IMPOSTOR;
use crate::support::event_stream::STREAM;

/// How many webhooks come at once.
const AT_ONCE: usize = 8;

impl Play {
    /// What a command does nothing tells of on SQLite: it is found at the next look.
    async fn link(&self, who: usize, customer: &str) -> Output {
        let linked = self.app.run_command(&["tenant", "link", &self.parties[who].tenant, customer]);
        self.pass(5).await;
        linked
    }

    pub async fn take(&mut self, step: &Step) -> Result<Concerns, String> {
        let who = step.who;
        match &step.act {
            Act::CheckOut => self.check_out(step).await,
            Act::OpenPortal(flow) => self.open_portal(step, *flow).await,
            Act::AskAfterCheckout(whose) => self.ask_after_checkout(step, *whose).await,
            Act::Read(known) => self.read(step, *known).await,
            Act::Follow(known) => self.follow(step, *known).await,
            Act::Trespass => self.trespass(step).await,
            Act::Impersonate => self.impersonate(step).await,
            Act::Exhaust => self.exhaust(step).await,
            Act::ReadAsService(known) => self.read_as_service(step, *known).await,
            Act::OverreachAsService => self.overreach_as_service(step).await,
            Act::Strangers => self.strangers(step).await,
            Act::LinkToTheOthers => self.link_to_the_others(who).await,
            Act::LinkToItsOwn => self.link_to_its_own(who).await,
            Act::Restart => self.restart().await,
            Act::Pay(card) => Ok(self.pay(who, card).await),
            Act::Settle(ok) => Ok(self.settle(who, *ok).await),
            Act::Change(change) => Ok(self.change(who, *change).await),
            Act::CancelInPortal => Ok(self.cancel_in_portal(who).await),
            Act::BuyInTheOthersName => self.buy_in_the_others_name(who).await,
            Act::BuyWithTheOthersTags => Ok(self.buy_with_the_others_tags(who).await),
            Act::DeleteCustomer => Ok(self.delete_customer(who).await),
            Act::ForgetCustomer => Ok(self.forget_customer(who).await),
            Act::Deliver { newest_first } => self.deliver(who, *newest_first).await,
            Act::DeliverBoth => self.deliver_both().await,
            Act::Redeliver(index) => self.redeliver(who, index).await,
        }
    }

    // --- at Stripe. What happens there concerns nobody until somebody tells of it.

    async fn pay(&self, who: usize, card: &str) -> Concerns {
        if let Some(session) = self.parties[who].sessions.last() {
            self.app
                .stripe
                .attempt(&format!("/_sandbox/checkout/{session}/pay"), &json!({ "card": card }))
                .await;
        }
        Concerns::Nobody
    }

    async fn settle(&self, who: usize, ok: bool) -> Concerns {
        if let Some(session) = self.parties[who].sessions.last() {
            self.app
                .stripe
                .attempt(&format!("/_sandbox/checkout/{session}/settle"), &json!({ "ok": ok }))
                .await;
        }
        Concerns::Nobody
    }

    async fn change(&self, who: usize, change: Change) -> Concerns {
        let party = &self.parties[who];
        let Some(subscription) = self.living_subscriptions(who).await.pop() else { return Concerns::Nobody };
        let price = subscription["items"]["data"][0]["price"]["id"].as_str();
        let another = party.prices.iter().find(|other| Some(**other) != price).unwrap_or(&party.prices[0]);
        let change = match change {
            Change::Price => json!({ "price": another }),
            Change::Quantity(more) => json!({ "quantity": party.quantities + more }),
            Change::Renew => json!({ "renew": true }),
            Change::Status(status) => json!({ "status": status }),
            Change::EndWithPeriod(ends) => json!({ "cancel_at_period_end": ends }),
            Change::End => json!({ "status": "canceled" }),
        };
        let id = subscription["id"].as_str().expect("an id");
        self.app.stripe.attempt(&format!("/_sandbox/subscriptions/{id}"), &change).await;
        Concerns::Nobody
    }

    async fn cancel_in_portal(&self, who: usize) -> Concerns {
        let subscription = self.living_subscriptions(who).await.pop();
        if let (Some(url), Some(subscription)) = (&self.parties[who].portal_url, subscription) {
            let id = subscription["id"].as_str().expect("an id");
            self.app.stripe.try_to_cancel_in_portal(url, id).await;
        }
        Concerns::Nobody
    }

    /// The session names the other nowhere but in `client_reference_id`, where whoever has a payment link can write.
    async fn buy_in_the_others_name(&mut self, who: usize) -> Result<Concerns, String> {
        let form = format!("client_reference_id={}", self.parties[1 - who].tenant);
        self.buy_elsewhere(IMPOSTOR, self.parties[who].prices[0], &form).await;
        self.hear_of_events().await;
        self.deliver(IMPOSTOR, false).await.map(|_| Concerns::Nobody)
    }

    /// Whose customer is linked to it already is not the other's, whatever is written on what it buys.
    async fn buy_with_the_others_tags(&mut self, who: usize) -> Concerns {
        let Some(customer) = self.customer_of(who).await else { return Concerns::Nobody };
        let is_there = !self.parties[who].forgotten.contains(&customer) && self.is_living(&customer).await;
        let Some(session) = self.parties[1 - who].sessions.last().filter(|_| is_there) else {
            return Concerns::Nobody;
        };
        let session = self.app.stripe.api("GET", &format!("/v1/checkout/sessions/{session}"), "").await;
        let tags = session["metadata"].as_object().expect("metadata").iter().map(|(name, value)| {
            let value = value.as_str().expect("metadata is text");
            format!("&metadata[{name}]={value}&subscription_data[metadata][{name}]={value}")
        });
        let form = format!("customer={customer}{}", tags.collect::<String>());
        self.parties[who].has_bought_with_the_others_tags = true;
        self.buy_elsewhere(who, self.parties[who].prices[0], &form).await;
        Concerns::Nobody
    }

    /// Pays for a session that the service has not made.
    async fn buy_elsewhere(&mut self, who: usize, price: &str, more: &str) {
        let form = format!(
            "mode=subscription&success_url=https://app.example.com/&line_items[0][quantity]=1\
             &line_items[0][price]={price}&{more}"
        );
        let stripe = &self.app.stripe;
        let session = stripe.api("POST", "/v1/checkout/sessions", &form).await;
        let id = session["id"].as_str().unwrap_or_else(|| panic!("a session: {session}")).to_owned();
        stripe.pay(&id).await;
        let paid = stripe.api("GET", &format!("/v1/checkout/sessions/{id}"), "").await;
        self.witness.owns_all_in(who, &paid["customer"]);
        self.owners.insert(paid["customer"].as_str().expect("a customer").to_owned(), who);
        self.owners.insert(id, who);
    }

    async fn delete_customer(&self, who: usize) -> Concerns {
        if let Some(customer) = self.customer_of(who).await
            && self.is_living(&customer).await
        {
            self.app.stripe.api("DELETE", &format!("/v1/customers/{customer}"), "").await;
        }
        Concerns::Nobody
    }

    /// Not after it has bought with the other's tags: once the tenant has let the customer go, they are what counts.
    async fn forget_customer(&mut self, who: usize) -> Concerns {
        if !self.parties[who].has_bought_with_the_others_tags
            && let Some(customer) = self.customer_of(who).await
            && self.is_living(&customer).await
        {
            self.app.stripe.forget("customers", &customer).await;
            self.parties[who].forgotten.insert(customer);
        }
        Concerns::Nobody
    }

    async fn is_living(&self, customer: &str) -> bool {
        let found = self.app.stripe.api("GET", &format!("/v1/customers/{customer}"), "").await;
        found["id"] == customer && found["deleted"] != true
    }

    pub async fn customer_of(&self, who: usize) -> Option<String> {
        let row = self.app.database.row::<entity::tenant::Entity>(&self.parties[who].tenant).await;
        row.and_then(|row| row.stripe_customer_id)
    }

    /// The tenant's subscriptions that are not over, as Stripe has them.
    pub async fn living_subscriptions(&self, who: usize) -> Vec<Value> {
        let Some(customer) = self.customer_of(who).await else { return Vec::new() };
        let listed = self.app.stripe.api("GET", &format!("/v1/subscriptions?customer={customer}"), "").await;
        listed["data"].as_array().cloned().unwrap_or_default()
    }

    // --- webhooks

    async fn deliver(&mut self, who: usize, newest_first: bool) -> Result<Concerns, String> {
        let (mut own, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(owner, _)| *owner == who);
        self.waiting = others;
        if newest_first {
            own.reverse();
        }
        self.post(own).await.map(|()| Concerns::One(who))
    }

    /// In turn and at once, so that they share transactions.
    async fn deliver_both(&mut self) -> Result<Concerns, String> {
        let mut all = std::mem::take(&mut self.waiting);
        let mut places = [0; 3];
        all.sort_by_cached_key(|(owner, _)| {
            places[*owner] += 1;
            places[*owner]
        });
        self.post(all).await.map(|()| Concerns::Both)
    }

    async fn redeliver(&mut self, who: usize, index: &Index) -> Result<Concerns, String> {
        let own: Vec<_> = self.delivered.iter().filter(|(owner, _)| *owner == who).cloned().collect();
        if own.is_empty() {
            return Ok(Concerns::Nobody);
        }
        self.post(vec![index.get(&own).clone()]).await.map(|()| Concerns::One(who))
    }

    async fn post(&mut self, events: Vec<(usize, Value)>) -> Result<(), String> {
        for some in events.chunks(AT_ONCE) {
            let answers = join_all(some.iter().map(|(_, event)| self.app.deliver(event))).await;
            if let Some(refused) = answers.iter().find(|answer| answer.status != 200) {
                return Err(format!("an event was not taken: {refused:?}"));
            }
        }
        self.delivered.extend(events);
        Ok(())
    }

    // --- the command line and the service

    async fn link_to_the_others(&mut self, who: usize) -> Result<Concerns, String> {
        if let Some(customer) = self.customer_of(1 - who).await {
            let linked = self.link(who, &customer).await;
            if linked.status.success() {
                return Err(format!("{who} is linked to the other's customer: {linked:?}"));
            }
        }
        Ok(Concerns::Nobody)
    }

    /// What the customer bought waits for a tenant, and the command line gives it one, unless that has another customer.
    async fn link_to_its_own(&mut self, who: usize) -> Result<Concerns, String> {
        let customer = self.app.stripe.api("POST", "/v1/customers", "").await;
        let customer = customer["id"].as_str().expect("an id").to_owned();
        self.owners.insert(customer.clone(), who);
        self.buy_elsewhere(who, self.parties[who].prices[0], &format!("customer={customer}")).await;
        self.hear_of_events().await;
        self.deliver(who, false).await?;
        let is_free = self.customer_of(who).await.is_none();
        let linked = self.link(who, &customer).await;
        if linked.status.success() == is_free {
            Ok(Concerns::One(who))
        } else {
            Err(format!("whether {who} is free: {is_free}, and {linked:?}"))
        }
    }

    /// What was not delivered is found when the service comes back.
    async fn restart(&mut self) -> Result<Concerns, String> {
        for who in 0..2 {
            self.end_stream(who);
        }
        self.app.go_down().await;
        self.pass(1).await;
        self.app.come_back().await;
        self.app.next_backfill(0).await;
        self.hear_of_events().await;
        self.delivered.append(&mut self.waiting);
        for who in 0..2 {
            let token = self.app.token(&self.parties[who].tenant);
            let request = self.app.request(reqwest::Method::GET, STREAM).bearer_auth(token);
            // As if a browser were used by one and then by the other.
            let others = Some(self.parties[1 - who].etag.clone());
            self.parties[who].stream = Follower::open(request, others).await?;
        }
        Ok(Concerns::Both)
    }
}
