//! Finding the price that an entry of `BILLHOOK_PLANS` names.

use serde::Deserialize;
use stripe::StripeRequest;
use stripe_product::price::{ListPrice, RetrievePrice};

use super::client::{Deadline, Stripe};
use super::error::StripeError;
use super::requests::{List, encode_segment};
use crate::domain::ids::PriceId;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Price {
    pub id: PriceId,
    pub lookup_key: Option<PriceId>,
    /// Whether it can be bought.
    pub active: bool,
    /// `recurring` or `one_time`.
    #[serde(rename = "type")]
    kind: String,
    recurring: Option<Recurring>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Recurring {
    usage_type: Option<String>,
}

impl Price {
    pub fn is_recurring(&self) -> bool {
        self.kind == "recurring"
    }

    /// Stripe accepts no quantity for a metered price
    /// (<https://docs.stripe.com/api/checkout/sessions/create>).
    pub fn is_metered(&self) -> bool {
        let usage_type = self.recurring.as_ref().and_then(|recurring| recurring.usage_type.as_deref());
        usage_type == Some("metered")
    }
}

impl Stripe {
    /// Finds the price that a configuration entry names by its id or lookup key. Both are tried,
    /// because a lookup key can look like an id, and the id of a price that was created as a plan
    /// like a lookup key.
    pub async fn price(&self, entry: &PriceId, deadline: Deadline) -> Result<Option<Price>, StripeError> {
        if entry.looks_like_an_id() {
            let by_id = self.price_by_id(entry, deadline).await?;
            return if by_id.is_some() { Ok(by_id) } else { self.price_by_lookup_key(entry, deadline).await };
        }
        let by_key = self.price_by_lookup_key(entry, deadline).await?;
        if by_key.is_some() { Ok(by_key) } else { self.price_by_id(entry, deadline).await }
    }

    async fn price_by_lookup_key(
        &self,
        key: &PriceId,
        deadline: Deadline,
    ) -> Result<Option<Price>, StripeError> {
        let by_key = ListPrice::new().lookup_keys(vec![key.to_string()]).limit(1).build();
        let response = self.send("GET /v1/prices", by_key, deadline).await?;
        Ok(response.parse(|list: List<Price>| Some(list.data.into_iter().next()))?.value)
    }

    async fn price_by_id(&self, id: &PriceId, deadline: Deadline) -> Result<Option<Price>, StripeError> {
        let by_id = RetrievePrice::new(encode_segment(id.as_str())).build();
        match self.send_if_exists("GET /v1/prices/{id}", by_id, deadline).await? {
            Some(response) => Ok(Some(response.parse(Some::<Price>)?.value)),
            None => Ok(None),
        }
    }
}
