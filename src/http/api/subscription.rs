//! A tenant's entitlements: `GET /api/billing/subscription/` for its users, and
//! `GET /api/billing/tenants/{tenant}/subscription/` for the product's other services.

use std::sync::Arc;

use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::param::{Header, Path};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::{Example, ToJSON, Type};
use poem_openapi::{ApiResponse, Object, OpenApi};
use time::OffsetDateTime;
use tracing::Span;

use super::{ApiState, Tag};
use crate::billing::{self, Billing};
use crate::domain::ids::{PlanName, TenantId};
use crate::domain::plan::Entitlement;
use crate::http::auth::{ServiceToken, UserToken};
use crate::http::etag;
use crate::http::problem::{Code, DocumentedProblems, Problem, ProblemResponse};
use crate::telemetry::spans::BillingAttributes;

/// Entitlements are private and can change at any time. Clients can still revalidate with the ETag.
const CACHE_CONTROL: &str = "no-store";

pub(in crate::http) struct SubscriptionApi;

/// A tenant's current entitlements. Times are RFC 3339 in UTC. Unknown values are null.
#[derive(Debug, Object)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the API")]
#[oai(example)]
pub(crate) struct Subscription {
    /// The tenant's id.
    #[oai(validator(min_length = 1))]
    tenant: String,
    /// `free`, or the name of a configured plan.
    #[oai(validator(min_length = 1))]
    plan: String,
    /// Whether the subscription grants its plan.
    access: bool,
    /// The subscription's status at Stripe.
    #[oai(validator(min_length = 1))]
    status: Option<String>,
    /// The id of the subscription's price.
    #[oai(validator(min_length = 1))]
    price: Option<String>,
    /// The quantity of the price.
    quantity: Option<i64>,
    /// The end of the paid period.
    current_period_end: Option<OffsetDateTime>,
    /// The end of the trial, which may be in the past.
    trial_end: Option<OffsetDateTime>,
    /// Whether the subscription is scheduled to end.
    scheduled_cancel: bool,
    /// When the subscription will end.
    cancel_at: Option<OffsetDateTime>,
    /// Whether the tenant has a Stripe customer. If so, the Customer Portal can be opened, to
    /// manage a subscription or to pay an open invoice of an ended one.
    can_manage: bool,
    /// Whether the caller may open checkout and portal. Always false for services.
    may_manage: bool,
    /// The time of the last applied change.
    as_of: Option<OffsetDateTime>,
}

/// A serialized subscription, for both the body and its ETag.
pub(super) struct SubscriptionJson(pub(super) String);

impl Payload for SubscriptionJson {
    const CONTENT_TYPE: &'static str = Json::<Subscription>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        <Subscription as Type>::schema_ref()
    }

    fn register(registry: &mut Registry) {
        <Subscription as Type>::register(registry);
    }
}

impl SubscriptionJson {
    pub(super) fn etag(&self) -> String {
        etag::of(self.0.as_bytes())
    }
}

impl IntoResponse for SubscriptionJson {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

#[derive(ApiResponse)]
enum SubscriptionResponse {
    /// The tenant's entitlements.
    #[oai(status = 200)]
    Found(
        SubscriptionJson,
        /// Changes when the body changes.
        #[oai(header = "ETag")]
        String,
        /// Always `no-store`: revalidate with the ETag before each use.
        #[oai(header = "Cache-Control")]
        String,
    ),
    /// The response with the ETag in `If-None-Match` is still current.
    #[oai(status = 304)]
    NotModified(
        /// The unchanged ETag.
        #[oai(header = "ETag")]
        String,
        /// Always `no-store`: revalidate with the ETag before each use.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

struct UserProblems;

impl DocumentedProblems for UserProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (400, "`invalid_request`"),
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (500, "`internal`"),
        (503, "`unavailable`"),
    ];
}

struct ServiceProblems;

impl DocumentedProblems for ServiceProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (400, "`invalid_request`"),
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (404, "`not_found`"),
        (500, "`internal`"),
        (503, "`unavailable`"),
    ];
}

#[OpenApi]
impl SubscriptionApi {
    /// Read the tenant's subscription
    ///
    /// Reads the service's own database, so it is fast and works while Stripe is down. An unknown
    /// tenant is `free`.
    #[oai(
        path = "/api/billing/subscription/",
        method = "get",
        operation_id = "getSubscription",
        tag = "Tag::Billing"
    )]
    async fn get_own(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        /// The ETag of an earlier response.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<SubscriptionResponse, ProblemResponse<UserProblems>> {
        let UserToken(caller) = token;
        Ok(read(&state.billing, &caller.tenant, caller.may_manage, if_none_match.0.as_deref()).await?)
    }

    /// Read any tenant's subscription
    ///
    /// Returns the same object as `getSubscription` for the tenant's users, with `may_manage`
    /// false.
    #[oai(
        path = "/api/billing/tenants/:tenant/subscription/",
        method = "get",
        operation_id = "getTenantSubscription",
        tag = "Tag::Services"
    )]
    async fn get_by_tenant(
        &self,
        state: Data<&Arc<ApiState>>,
        _token: ServiceToken,
        /// The tenant's id.
        tenant: Path<String>,
        /// The ETag of an earlier response.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<SubscriptionResponse, ProblemResponse<ServiceProblems>> {
        let tenant = TenantId::parse(&tenant.0)
            .map_err(|_| Problem::new(Code::NotFound, "The tenant id is invalid. Check it."))?;
        BillingAttributes { tenant: Some(&tenant), ..BillingAttributes::default() }.record(&Span::current());
        Ok(read(&state.billing, &tenant, false, if_none_match.0.as_deref()).await?)
    }
}

async fn read(
    billing: &Billing,
    tenant: &TenantId,
    may_manage: bool,
    if_none_match: Option<&str>,
) -> Result<SubscriptionResponse, Problem> {
    let entitlement = billing::entitlement(billing, tenant).await.map_err(|error| {
        tracing::error!(%error, %tenant, "could not read a subscription");
        Problem::from(error)
    })?;
    let json = Subscription::new(tenant, &entitlement, may_manage).serialize();
    let etag = json.etag();
    let cache_control = CACHE_CONTROL.to_owned();
    Ok(if if_none_match.is_some_and(|known| etag::matches(known, &etag)) {
        SubscriptionResponse::NotModified(etag, cache_control)
    } else {
        SubscriptionResponse::Found(json, etag, cache_control)
    })
}

impl Subscription {
    pub(crate) fn new(tenant: &TenantId, entitlement: &Entitlement, may_manage: bool) -> Self {
        let time = |seconds: Option<i64>| seconds.and_then(calendar_time);
        Self {
            tenant: tenant.to_string(),
            plan: entitlement.plan.as_ref().map_or("free", PlanName::as_str).to_owned(),
            access: entitlement.access,
            status: entitlement.status.as_ref().map(ToString::to_string),
            price: entitlement.price.as_ref().map(ToString::to_string),
            quantity: entitlement.quantity,
            current_period_end: time(entitlement.current_period_end),
            trial_end: time(entitlement.trial_end),
            scheduled_cancel: entitlement.scheduled_cancel,
            cancel_at: time(entitlement.cancel_at),
            can_manage: entitlement.can_manage,
            may_manage,
            as_of: time(entitlement.as_of),
        }
    }

    pub(super) fn serialize(&self) -> SubscriptionJson {
        SubscriptionJson(self.to_json_string())
    }
}

/// None for times that RFC 3339 cannot express.
fn calendar_time(unix_seconds: i64) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::from_unix_timestamp(unix_seconds).ok()?;
    (0..=9999).contains(&time.year()).then_some(time)
}

impl Example for Subscription {
    fn example() -> Self {
        Self {
            tenant: "acme".to_owned(),
            plan: "pro".to_owned(),
            access: true,
            status: Some("active".to_owned()),
            price: Some("price_pro_monthly".to_owned()),
            quantity: Some(1),
            current_period_end: calendar_time(1_798_761_600),
            trial_end: None,
            scheduled_cancel: false,
            cancel_at: None,
            can_manage: true,
            may_manage: true,
            as_of: calendar_time(1_796_083_200),
        }
    }
}
