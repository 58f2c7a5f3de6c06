//! Who is calling: bearer tokens (RFC 6750) that are JWTs (RFC 7519) signed with a shared secret.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::Bearer;
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tracing::Span;

use super::problem::{Code, Problem};
use crate::billing::Caller;
use crate::clock::Clock;
use crate::config::TokenConfig;
use crate::domain::ids::{TenantId, UserId};
use crate::telemetry::spans::BillingAttributes;

/// How far the issuer's clock may be from ours.
const LEEWAY_SECONDS: i64 = 30;

/// The scope of a service token.
pub const SERVICE_SCOPE: &str = "billing:service";

/// The longest token that is looked at: tokens travel in a header, and servers refuse longer ones anyway.
const TOKEN_LENGTH: usize = 8192;

/// A token of one of the tenant's users: its tenant claim names the tenant, its `sub` the user.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", rename = "UserToken", bearer_format = "JWT", checker = "check_user")]
pub struct UserToken(pub Caller);

/// A token of one of the product's other services, with the scope `billing:service`: it reads any tenant and acts for
/// none.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", rename = "ServiceToken", bearer_format = "JWT", checker = "check_service")]
pub struct ServiceToken(pub UserId);

/// What a token is good for.
enum Identity {
    User(Caller),
    Service(UserId),
}

#[expect(clippy::unused_async, reason = "checkers are async")]
async fn check_user(request: &Request, bearer: Bearer) -> poem::Result<Caller> {
    match verifier(request)?.verify(&bearer.token)? {
        Identity::User(caller) => {
            let (tenant, user) = (Some(&caller.tenant), Some(&caller.user));
            BillingAttributes { tenant, user, ..BillingAttributes::default() }.record(&Span::current());
            Ok(caller)
        }
        Identity::Service(_) => Err(not_allowed("A service token cannot act for a tenant's user.").into()),
    }
}

#[expect(clippy::unused_async, reason = "checkers are async")]
async fn check_service(request: &Request, bearer: Bearer) -> poem::Result<UserId> {
    match verifier(request)?.verify(&bearer.token)? {
        Identity::Service(user) => Ok(user),
        Identity::User(_) => Err(not_allowed("This needs a token with the scope `billing:service`.").into()),
    }
}

fn verifier(request: &Request) -> Result<&Arc<TokenVerifier>, Problem> {
    let verifier = request.data::<Arc<TokenVerifier>>();
    verifier.ok_or_else(|| Problem::new(Code::Internal, "Quote the trace id to whoever runs this service."))
}

/// Checks tokens. The algorithm is fixed by the configuration and never by the token.
pub struct TokenVerifier {
    config: TokenConfig,
    key: Option<DecodingKey>,
    validation: Validation,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenVerifier(..)")
    }
}

impl TokenVerifier {
    /// A verifier; without a secret in the configuration it refuses every token.
    pub fn new(config: TokenConfig, clock: Arc<dyn Clock>) -> Self {
        let key =
            config.secret.as_ref().map(|secret| DecodingKey::from_secret(secret.expose_secret().as_bytes()));
        let mut validation = Validation::new(Algorithm::HS256);
        // Claims are checked below, against our own clock.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self { config, key, validation, clock }
    }

    fn verify(&self, token: &str) -> Result<Identity, Problem> {
        let Some(key) = &self.key else {
            return Err(not_authenticated("No token is taken here yet: ask whoever runs this service."));
        };
        let claims = self.claims(token, key);
        let claims = claims.ok_or_else(|| not_authenticated("The token is not valid: get a new one."))?;
        let token_ends_at = self.check_time(&claims)?;
        self.check_origin(&claims)?;
        let user = claims.get("sub").and_then(Value::as_str).and_then(|sub| UserId::parse(sub).ok());
        let user = user.ok_or_else(|| not_authenticated("The token names no user in `sub`."))?;
        if has_scope(&claims, SERVICE_SCOPE) {
            return Ok(Identity::Service(user));
        }
        let tenant = claims.get(&self.config.tenant_claim).and_then(Value::as_str);
        let tenant = tenant.and_then(|tenant| TenantId::parse(tenant).ok());
        let tenant = tenant.ok_or_else(|| not_authenticated("The token names no tenant."))?;
        if self.config.scope.as_deref().is_some_and(|scope| !has_scope(&claims, scope)) {
            return Err(not_allowed("The token lacks the scope that billing needs."));
        }
        Ok(Identity::User(Caller { tenant, user, token_ends_at }))
    }

    fn claims(&self, token: &str, key: &DecodingKey) -> Option<Map<String, Value>> {
        if token.len() > TOKEN_LENGTH {
            return None;
        }
        let token = jsonwebtoken::decode::<Map<String, Value>>(token, key, &self.validation).ok()?;
        Some(token.claims)
    }

    /// `exp` is required; `nbf` is held to where it is given (RFC 7519, sections 4.1.4 and 4.1.5). Returns from when on the
    /// token is not taken any more.
    fn check_time(&self, claims: &Map<String, Value>) -> Result<i64, Problem> {
        let now = self.clock.now_seconds();
        let expires = claims.get("exp").and_then(whole_seconds);
        let expires =
            expires.ok_or_else(|| not_authenticated("The token has no time of expiry in `exp`."))?;
        let ends_at = expires.saturating_add(LEEWAY_SECONDS);
        if now >= ends_at {
            return Err(not_authenticated("The token has expired: get a new one."));
        }
        match claims.get("nbf").map(whole_seconds) {
            None => Ok(ends_at),
            Some(Some(begins)) if begins <= now.saturating_add(LEEWAY_SECONDS) => Ok(ends_at),
            Some(_) => Err(not_authenticated("The token is not valid yet.")),
        }
    }

    fn check_origin(&self, claims: &Map<String, Value>) -> Result<(), Problem> {
        let names = |claim: &str, expected: &str| match claims.get(claim) {
            Some(Value::String(text)) => text == expected,
            Some(Value::Array(texts)) => texts.iter().any(|text| text.as_str() == Some(expected)),
            _ => false,
        };
        let issuer = self.config.issuer.as_deref();
        if issuer.is_some_and(|issuer| claims.get("iss").and_then(Value::as_str) != Some(issuer)) {
            return Err(not_authenticated("The token comes from another issuer."));
        }
        if self.config.audience.as_deref().is_some_and(|audience| !names("aud", audience)) {
            return Err(not_authenticated("The token is meant for another service."));
        }
        Ok(())
    }
}

/// RFC 7519's NumericDate may have a fraction.
fn whole_seconds(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "an `as` cast of a float saturates")]
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64))
}

/// RFC 8693 has scopes in one string, others in an array.
fn has_scope(claims: &Map<String, Value>, scope: &str) -> bool {
    match claims.get("scope") {
        Some(Value::String(scopes)) => scopes.split_ascii_whitespace().any(|one| one == scope),
        Some(Value::Array(scopes)) => scopes.iter().any(|one| one.as_str() == Some(scope)),
        _ => false,
    }
}

fn not_authenticated(detail: &str) -> Problem {
    Problem::new(Code::NotAuthenticated, detail)
}

fn not_allowed(detail: &str) -> Problem {
    Problem::new(Code::NotAllowed, detail)
}
