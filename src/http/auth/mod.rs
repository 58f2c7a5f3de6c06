//! Who is calling: bearer tokens (RFC 6750).
//!
//! Start reading at `UserToken` and `ServiceToken`, which operations ask for. What makes a token good is decided in
//! [`crate::domain::token`]; here are the keys for it (`jwks` fetches an issuer's) and the responses to bad ones.

mod jwks;

use std::fmt;
use std::sync::Arc;

use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::Bearer as BearerToken;
use secrecy::ExposeSecret;
use tracing::Span;

use self::jwks::Jwks;
use super::problem::{Code, Problem};
use crate::billing::Caller;
use crate::clock::Clock;
use crate::config::{KeySource, TokenConfig};
use crate::domain::ids::UserId;
use crate::domain::token::{self, Bearer, Keys, Refusal, TokenRules};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::BillingAttributes;

/// A token of one of the tenant's users: its tenant claim names the tenant, its `sub` the user.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", rename = "UserToken", bearer_format = "JWT", checker = "check_user")]
pub struct UserToken(pub Caller);

/// A token of one of the product's other services, with the scope `billing:service`: it reads any tenant and acts for
/// none.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", rename = "ServiceToken", bearer_format = "JWT", checker = "check_service")]
pub struct ServiceToken(pub UserId);

async fn check_user(request: &Request, bearer: BearerToken) -> poem::Result<Caller> {
    match verifier(request)?.verify(&bearer.token).await? {
        Bearer::User { tenant, user, may_manage, token_ends_at } => {
            let named = (Some(&tenant), Some(&user));
            BillingAttributes { tenant: named.0, user: named.1, ..BillingAttributes::default() }
                .record(&Span::current());
            Ok(Caller { tenant, user, may_manage, token_ends_at })
        }
        Bearer::Service(_) => Err(not_allowed("A service token cannot act for a tenant's user.").into()),
    }
}

async fn check_service(request: &Request, bearer: BearerToken) -> poem::Result<UserId> {
    match verifier(request)?.verify(&bearer.token).await? {
        Bearer::Service(user) => Ok(user),
        Bearer::User { .. } => {
            Err(not_allowed("This needs a token with the scope `billing:service`.").into())
        }
    }
}

fn verifier(request: &Request) -> Result<&Arc<TokenVerifier>, Problem> {
    let verifier = request.data::<Arc<TokenVerifier>>();
    verifier.ok_or_else(|| Code::Internal.into())
}

/// Verifies tokens, with the keys that the configuration names.
pub struct TokenVerifier {
    keys: KeyStore,
    rules: TokenRules,
    clock: Arc<dyn Clock>,
}

/// Where the keys are.
enum KeyStore {
    /// Nowhere: every token is refused.
    NotConfigured,
    /// Here.
    Fixed(Keys),
    /// At their issuer.
    Jwks(Jwks),
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenVerifier(..)")
    }
}

impl TokenVerifier {
    /// A verifier; without keys in the configuration it refuses every token. An issuer's keys are there once
    /// [`TokenVerifier::keep_keys`] has fetched them. Fails if no HTTP client can be made.
    pub fn new(config: TokenConfig, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, reqwest::Error> {
        let keys = match config.keys {
            None => KeyStore::NotConfigured,
            Some(KeySource::Secret(secret)) => {
                KeyStore::Fixed(Keys::of_secret(secret.expose_secret().as_bytes()))
            }
            Some(KeySource::PublicKey(key)) => KeyStore::Fixed(Keys::of_public_key(key)),
            Some(KeySource::Jwks(url, algorithm)) => {
                KeyStore::Jwks(Jwks::new(url, algorithm, clock.clone(), metrics)?)
            }
        };
        Ok(Self { keys, rules: config.rules, clock })
    }

    /// Keeps an issuer's keys up to date until it is told to stop. There is one such task for a verifier.
    pub async fn keep_keys(self: Arc<Self>, stopping: impl Future<Output = ()> + Send) {
        match &self.keys {
            KeyStore::NotConfigured | KeyStore::Fixed(_) => stopping.await,
            KeyStore::Jwks(jwks) => tokio::select! {
                () = jwks.keep() => {}
                () = stopping => {}
            },
        }
    }

    /// The variable that names an issuer whose keys have never been had yet.
    pub(super) fn not_reached(&self) -> Option<&'static str> {
        match &self.keys {
            KeyStore::Jwks(jwks) if !jwks.have_come() => Some("BILLHOOK_JWT_JWKS_URL"),
            KeyStore::NotConfigured | KeyStore::Fixed(_) | KeyStore::Jwks(_) => None,
        }
    }

    async fn verify(&self, token: &str) -> Result<Bearer, Problem> {
        match &self.keys {
            KeyStore::NotConfigured => {
                Err(not_authenticated("No token is taken here yet: ask whoever runs this service."))
            }
            KeyStore::Fixed(keys) => self.judge(token, keys).map_err(refused),
            KeyStore::Jwks(jwks) => match self.judge(token, &jwks.held().keys) {
                Err(Refusal::UnknownKey) => self.judge_with_latest(token, jwks).await,
                judged => judged.map_err(refused),
            },
        }
    }

    /// The key may be new. If its issuer cannot be asked, the token may be good: that is no reason to have somebody sign in
    /// again.
    async fn judge_with_latest(&self, token: &str, jwks: &Jwks) -> Result<Bearer, Problem> {
        let latest = jwks.asked_again().await;
        match self.judge(token, &latest.keys) {
            Err(Refusal::UnknownKey) if !latest.is_current => {
                let seconds = jwks.seconds_to_next_try(&latest).max(1);
                let detail =
                    format!("The key of the token cannot be had right now: try again in {seconds} s.");
                Err(Problem::new(Code::Unavailable, detail).retry_after(seconds))
            }
            judged => judged.map_err(refused),
        }
    }

    fn judge(&self, token: &str, keys: &Keys) -> Result<Bearer, Refusal> {
        token::verify(token.as_bytes(), keys, &self.rules, self.clock.now_seconds())
    }
}

/// Says why, as far as that is the caller's business; an operator who connects an issuer has to know a little more.
fn refused(refusal: Refusal) -> Problem {
    tracing::debug!(%refusal, "a token is refused");
    match refusal {
        Refusal::Invalid | Refusal::UnknownKey => not_authenticated("The token is not valid: get a new one."),
        Refusal::NoExpiry => not_authenticated("The token has no time of expiry in `exp`."),
        Refusal::Expired => not_authenticated("The token has expired: get a new one."),
        Refusal::NotYet => not_authenticated("The token is not valid yet."),
        Refusal::OtherIssuer => not_authenticated("The token comes from another issuer."),
        Refusal::OtherAudience => not_authenticated("The token is meant for another service."),
        Refusal::NoUser => not_authenticated("The token names no user in `sub`."),
        Refusal::NoTenant => not_authenticated("The token names no tenant."),
        Refusal::NoScope => not_allowed("The token lacks the scope that billing needs."),
    }
}

fn not_authenticated(detail: &str) -> Problem {
    Problem::new(Code::NotAuthenticated, detail)
}

fn not_allowed(detail: &str) -> Problem {
    Problem::new(Code::NotAllowed, detail)
}
