//! What a tenant is entitled to: `GET /api/billing/subscription/` for its users, and
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
use crate::http::problem::{Code, Documented, Failure, Problem};
use crate::telemetry::spans::BillingAttributes;

/// No cache keeps it: it is a tenant's own, and can change at any moment. Who keeps the tag may still ask by it.
const CACHE_CONTROL: &str = "no-store";

/// What tenants are entitled to.
pub(in crate::http) struct SubscriptionApi;

/// What a tenant is entitled to right now. Times are RFC 3339 in UTC; what is not known is null.
#[derive(Debug, Object)]
#[expect(clippy::struct_excessive_bools, reason = "that is how clients read it")]
#[oai(example)]
pub(crate) struct Subscription {
    /// The tenant.
    #[oai(validator(min_length = 1))]
    tenant: String,
    /// The plan: `free`, or a name of the configuration.
    #[oai(validator(min_length = 1))]
    plan: String,
    /// Whether the subscription grants its plan.
    access: bool,
    /// Stripe's status of the subscription.
    #[oai(validator(min_length = 1))]
    status: Option<String>,
    /// The id of the price.
    #[oai(validator(min_length = 1))]
    price: Option<String>,
    /// How many of it.
    quantity: Option<i64>,
    /// When the paid period ends.
    current_period_end: Option<OffsetDateTime>,
    /// When the trial ends or ended.
    trial_end: Option<OffsetDateTime>,
    /// Whether the subscription will end by itself.
    scheduled_cancel: bool,
    /// When it will end.
    cancel_at: Option<OffsetDateTime>,
    /// Whether the tenant has a customer at Stripe, so that the Customer Portal can be opened: to manage a subscription, or to
    /// pay an invoice that is still open after its end.
    can_manage: bool,
    /// Whether whoever asks may open checkout and portal. No service may.
    may_manage: bool,
    /// The time of the last change that was applied.
    as_of: Option<OffsetDateTime>,
}

/// A subscription in JSON: written once, for the answer's body and for its ETag.
pub(super) struct Written(pub(super) String);

impl Payload for Written {
    const CONTENT_TYPE: &'static str = Json::<Subscription>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        <Subscription as Type>::schema_ref()
    }

    fn register(registry: &mut Registry) {
        <Subscription as Type>::register(registry);
    }
}

impl Written {
    /// The ETag of the answer.
    pub(super) fn etag(&self) -> String {
        etag::of(self.0.as_bytes())
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

#[derive(ApiResponse)]
enum Answer {
    /// What the tenant is entitled to.
    #[oai(status = 200)]
    Fresh(
        Written,
        /// Changes when the answer does.
        #[oai(header = "ETag")]
        String,
        /// Ask each time, with the ETag.
        #[oai(header = "Cache-Control")]
        String,
    ),
    /// What `If-None-Match` names still stands.
    #[oai(status = 304)]
    NotModified(
        /// The same as before.
        #[oai(header = "ETag")]
        String,
        /// Ask each time, with the ETag.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

struct UserProblems;

impl Documented for UserProblems {
    const PROBLEMS: &'static [(u16, &'static str)] = &[
        (400, "`invalid_request`"),
        (401, "`not_authenticated`"),
        (403, "`not_allowed`"),
        (500, "`internal`"),
        (503, "`unavailable`"),
    ];
}

struct ServiceProblems;

impl Documented for ServiceProblems {
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
    /// From the service's own database, so it is fast, and there while Stripe is not. A tenant never heard of is `free`.
    #[oai(
        path = "/api/billing/subscription/",
        method = "get",
        operation_id = "getSubscription",
        tag = "Tag::Billing"
    )]
    async fn of_caller(
        &self,
        state: Data<&Arc<ApiState>>,
        token: UserToken,
        /// The ETag of an answer that is held already.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<Answer, Failure<UserProblems>> {
        let UserToken(caller) = token;
        Ok(answer(&state.billing, &caller.tenant, caller.may_manage, if_none_match.0.as_deref()).await?)
    }

    /// Read any tenant's subscription
    ///
    /// The same answer as `getSubscription` gives to the tenant's own users.
    #[oai(
        path = "/api/billing/tenants/:tenant/subscription/",
        method = "get",
        operation_id = "getTenantSubscription",
        tag = "Tag::Services"
    )]
    async fn of_tenant(
        &self,
        state: Data<&Arc<ApiState>>,
        _token: ServiceToken,
        /// The tenant.
        tenant: Path<String>,
        /// The ETag of an answer that is held already.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<Answer, Failure<ServiceProblems>> {
        let tenant = TenantId::parse(&tenant.0)
            .map_err(|_| Problem::new(Code::NotFound, "No tenant can have this id."))?;
        BillingAttributes { tenant: Some(&tenant), ..BillingAttributes::default() }.record(&Span::current());
        Ok(answer(&state.billing, &tenant, false, if_none_match.0.as_deref()).await?)
    }
}

async fn answer(
    billing: &Billing,
    tenant: &TenantId,
    may_manage: bool,
    if_none_match: Option<&str>,
) -> Result<Answer, Problem> {
    let entitlement = billing::entitlement(billing, tenant).await.map_err(|error| {
        tracing::error!(%error, %tenant, "a subscription could not be read");
        Problem::from(error)
    })?;
    let written = Subscription::new(tenant, &entitlement, may_manage).written();
    let etag = written.etag();
    let cache_control = CACHE_CONTROL.to_owned();
    Ok(if if_none_match.is_some_and(|known| etag::is_named(known, &etag)) {
        Answer::NotModified(etag, cache_control)
    } else {
        Answer::Fresh(written, etag, cache_control)
    })
}

impl Subscription {
    /// The answer in the contract's words.
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

    pub(super) fn written(&self) -> Written {
        Written(self.to_json_string())
    }
}

/// A time that RFC 3339 cannot write is as good as unknown.
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
