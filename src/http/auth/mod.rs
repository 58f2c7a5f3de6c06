//! Authentication with bearer tokens (RFC 6750).
//!
//! Start reading at `UserToken` and `ServiceToken`, which operations take as parameters.
//! [`crate::domain::token`] verifies a token. Here are the keys for it (`jwks` fetches an issuer's)
//! and the responses to invalid tokens.

mod jwks;

use std::sync::Arc;

use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::Bearer as BearerToken;
use secrecy::ExposeSecret;
use tracing::Span;

use self::jwks::Jwks;
use super::problem::{Code, Problem};
use crate::billing::TenantUser;
use crate::clock::Clock;
use crate::config::{KeySource, TokenConfig};
use crate::domain::ids::UserId;
use crate::domain::token::{self, Principal, TokenError, TokenRules, VerificationKeys};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::BillingAttributes;

/// A token of a tenant's user. Its tenant claim names the tenant, and `sub` the user.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", rename = "UserToken", bearer_format = "JWT", checker = "check_user")]
pub struct UserToken(pub TenantUser);

/// A token of one of the product's other services, with the scope `billing:service`. It can read
/// every tenant and change nothing.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", rename = "ServiceToken", bearer_format = "JWT", checker = "check_service")]
pub struct ServiceToken(pub UserId);

async fn check_user(request: &Request, bearer: BearerToken) -> poem::Result<TenantUser> {
    match verifier(request)?.verify(&bearer.token).await? {
        Principal::User { tenant, user, may_manage, token_accepted_until } => {
            let (tenant_id, user_id) = (Some(&tenant), Some(&user));
            BillingAttributes { tenant: tenant_id, user: user_id, ..BillingAttributes::default() }
                .record(&Span::current());
            Ok(TenantUser { tenant, user, may_manage, token_accepted_until })
        }
        Principal::Service(_) => {
            Err(not_allowed("A service token cannot act for a tenant's user. Send a user's token.").into())
        }
    }
}

async fn check_service(request: &Request, bearer: BearerToken) -> poem::Result<UserId> {
    match verifier(request)?.verify(&bearer.token).await? {
        Principal::Service(user) => Ok(user),
        Principal::User { .. } => {
            Err(not_allowed("The token lacks the scope `billing:service`. Send a service's token.").into())
        }
    }
}

fn verifier(request: &Request) -> Result<&Arc<TokenVerifier>, Problem> {
    let verifier = request.data::<Arc<TokenVerifier>>();
    verifier.ok_or_else(|| Code::Internal.into())
}

pub struct TokenVerifier {
    keys: KeyStore,
    rules: TokenRules,
    clock: Arc<dyn Clock>,
}

enum KeyStore {
    /// Every token is rejected.
    NotConfigured,
    Fixed(VerificationKeys),
    Jwks(Jwks),
}

impl TokenVerifier {
    /// Rejects every token if no keys are configured. An issuer's keys are fetched by
    /// [`TokenVerifier::refresh_keys`]. Fails if the HTTP client cannot be built.
    pub fn new(config: TokenConfig, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, reqwest::Error> {
        let keys = match config.keys {
            None => KeyStore::NotConfigured,
            Some(KeySource::Secret(secret)) => {
                KeyStore::Fixed(VerificationKeys::from_secret(secret.expose_secret().as_bytes()))
            }
            Some(KeySource::PublicKey(key)) => KeyStore::Fixed(VerificationKeys::from_public_key(key)),
            Some(KeySource::Jwks(url, algorithm)) => {
                KeyStore::Jwks(Jwks::new(url, algorithm, clock.clone(), metrics)?)
            }
        };
        Ok(Self { keys, rules: config.rules, clock })
    }

    /// Keeps an issuer's keys up to date until `stopping` completes. Run it once for each verifier.
    pub async fn refresh_keys(self: Arc<Self>, stopping: impl Future<Output = ()> + Send) {
        match &self.keys {
            KeyStore::NotConfigured | KeyStore::Fixed(_) => stopping.await,
            KeyStore::Jwks(jwks) => tokio::select! {
                () = jwks.run() => {}
                () = stopping => {}
            },
        }
    }

    /// The variable of an issuer whose keys have not been fetched since the start.
    pub(super) fn not_reached(&self) -> Option<&'static str> {
        match &self.keys {
            KeyStore::Jwks(jwks) if !jwks.has_fetched() => Some("BILLHOOK_JWT_JWKS_URL"),
            KeyStore::NotConfigured | KeyStore::Fixed(_) | KeyStore::Jwks(_) => None,
        }
    }

    async fn verify(&self, token: &str) -> Result<Principal, Problem> {
        match &self.keys {
            KeyStore::NotConfigured => Err(not_authenticated(
                "Token verification is not set up yet. Ask the operator of this service to set it up.",
            )),
            KeyStore::Fixed(keys) => self.verify_with(token, keys).map_err(invalid_token),
            KeyStore::Jwks(jwks) => match self.verify_with(token, &jwks.cached().keys) {
                Err(TokenError::UnknownKey) => self.verify_with_refetched(token, jwks).await,
                result => result.map_err(invalid_token),
            },
        }
    }

    /// The key may be new. If the keys cannot be fetched, the token may still be valid, so the
    /// response is 503 and the user does not have to sign in again.
    async fn verify_with_refetched(&self, token: &str, jwks: &Jwks) -> Result<Principal, Problem> {
        let latest = jwks.refetch().await;
        match self.verify_with(token, &latest.keys) {
            Err(TokenError::UnknownKey) if !latest.is_current => {
                let seconds = jwks.seconds_to_next_fetch(&latest).max(1);
                let detail = format!("The key of the token is not available yet. Try again in {seconds} s.");
                Err(Problem::new(Code::Unavailable, detail).retry_after(seconds))
            }
            result => result.map_err(invalid_token),
        }
    }

    fn verify_with(&self, token: &str, keys: &VerificationKeys) -> Result<Principal, TokenError> {
        token::verify(token.as_bytes(), keys, &self.rules, self.clock.now_seconds())
    }
}

/// Says what is wrong with a token, which helps an operator who connects an issuer. It gives no
/// detail on signatures.
fn invalid_token(error: TokenError) -> Problem {
    tracing::debug!(%error, "rejected a token");
    match error {
        TokenError::Invalid | TokenError::UnknownKey => {
            not_authenticated("The token is invalid. Get a new one.")
        }
        TokenError::NoExpiry => not_authenticated("The token does not expire. Get one with an `exp` claim."),
        TokenError::Expired => not_authenticated("The token has expired. Get a new one."),
        TokenError::NotYet => not_authenticated("The token is not valid yet. Try again later."),
        TokenError::OtherIssuer => {
            not_authenticated("The token is from another issuer. Get one from this service's issuer.")
        }
        TokenError::OtherAudience => {
            not_authenticated("The token is for another audience. Get one for this service.")
        }
        TokenError::NoUser => not_authenticated("The token names no user. Get one with a `sub` claim."),
        TokenError::NoTenant => not_authenticated("The token names no tenant. Get one with a tenant claim."),
        TokenError::NoScope => not_allowed("The token lacks the scope for billing. Get one with that scope."),
    }
}

fn not_authenticated(detail: &str) -> Problem {
    Problem::new(Code::NotAuthenticated, detail)
}

fn not_allowed(detail: &str) -> Problem {
    Problem::new(Code::NotAllowed, detail)
}
