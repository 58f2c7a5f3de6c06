//! `billhook token`: tokens for development.

use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use super::{CommandError, say};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, TokenArgs, TokenConfig};
use crate::domain::ids::{TenantId, UserId};
use crate::http::auth::SERVICE_SCOPE;

/// How long a development token lives.
const LIFETIME_SECONDS: i64 = 8 * 3600;

#[derive(Args)]
pub(super) struct TokenCommandArgs {
    /// The tenant; only a token with the scope `billing:service` does without
    #[arg(long)]
    tenant: Option<String>,

    /// The user, for `sub`
    #[arg(long)]
    user: String,

    /// The scopes, separated by spaces; by default the one that the service is configured to require
    #[arg(long)]
    scope: Option<String>,

    #[command(flatten)]
    tokens: TokenArgs,
}

pub(super) fn run(args: &TokenCommandArgs) -> Result<(), CommandError> {
    let config = args.tokens.read()?;
    let user: UserId = config::argument("--user", &args.user)?;
    let tenant =
        args.tenant.as_deref().map(|text| config::argument::<TenantId>("--tenant", text)).transpose()?;
    let scope = args.scope.clone().or_else(|| config.scope.clone());
    let is_service = scope.as_deref().is_some_and(|scope| scope.split(' ').any(|one| one == SERVICE_SCOPE));
    if tenant.is_none() && !is_service {
        let message = "--tenant is missing: only a token with `--scope billing:service` does without";
        return Err(CommandError::Config(config::missing(message)));
    }
    say(&sign(&config, &user, tenant.as_ref(), scope)?)
}

fn sign(
    config: &TokenConfig,
    user: &UserId,
    tenant: Option<&TenantId>,
    scope: Option<String>,
) -> Result<String, CommandError> {
    let secret = config.secret.as_ref().ok_or_else(|| config::missing("BILLHOOK_JWT_SECRET is not set"))?;
    let now = SystemClock.now_seconds();
    let mut claims: Map<String, Value> = Map::new();
    claims.insert("sub".into(), user.as_str().into());
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), (now + LIFETIME_SECONDS).into());
    let named = [
        (config.tenant_claim.as_str(), tenant.map(ToString::to_string)),
        ("iss", config.issuer.clone()),
        ("aud", config.audience.clone()),
        ("scope", scope),
    ];
    for (claim, value) in named {
        if let Some(value) = value {
            claims.insert(claim.into(), value.into());
        }
    }
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|_| CommandError::Failed("the token could not be signed".into()))
}
