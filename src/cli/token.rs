//! `billhook token`: signs tokens for development.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::{CommandError, print};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, ConfigError, KeySource, TokenArgs};
use crate::domain::ids::{TenantId, UserId};
use crate::domain::token::{HS256, SERVICE_SCOPE, TokenRules};

const TOKEN_LIFETIME_SECONDS: i64 = 8 * 3600;

#[derive(Args)]
pub(super) struct TokenCommandArgs {
    /// The tenant. Required unless the scope has `billing:service`
    #[arg(long)]
    tenant: Option<String>,

    /// The user, for the claim `sub`
    #[arg(long)]
    user: String,

    /// The scopes, separated by spaces [default: the scopes that the service requires, including
    /// those for checkout and portal]
    #[arg(long)]
    scope: Option<String>,

    /// The role [default: the first of BILLHOOK_JWT_MANAGE_ROLES]
    #[arg(long)]
    role: Option<String>,

    #[command(flatten)]
    tokens: TokenArgs,
}

pub(super) fn run(args: &TokenCommandArgs) -> Result<(), CommandError> {
    let config = args.tokens.read()?;
    let user: UserId = config::parse_id("--user", &args.user)?;
    let tenant =
        args.tenant.as_deref().map(|text| config::parse_id::<TenantId>("--tenant", text)).transpose()?;
    let claims = claims(args, &config.rules, &user, tenant.as_ref())?;
    match config.keys {
        Some(KeySource::Secret(secret)) => print(&sign(&secret, &claims)),
        Some(KeySource::PublicKey(_) | KeySource::Jwks(..)) => Err(CommandError::Config(ConfigError::new(
            "BILLHOOK_JWT_ALGORITHM",
            "is not HS256: only your issuer has the private key that signs these tokens",
        ))),
        None => Err(CommandError::Config(ConfigError::new("BILLHOOK_JWT_SECRET", "is not set"))),
    }
}

fn claims(
    args: &TokenCommandArgs,
    rules: &TokenRules,
    user: &UserId,
    tenant: Option<&TenantId>,
) -> Result<Map<String, Value>, CommandError> {
    let required = [&rules.scope, &rules.manage_scope].into_iter().flatten().map(String::as_str);
    let scope = args.scope.clone().unwrap_or_else(|| required.collect::<Vec<_>>().join(" "));
    let is_service = scope.split(' ').any(|one| one == SERVICE_SCOPE);
    if tenant.is_none() && !is_service {
        let problem = "is missing: set it, or sign a service token with `--scope billing:service`";
        return Err(CommandError::Config(ConfigError::new("--tenant", problem)));
    }
    let now = SystemClock.now_seconds();
    let mut claims = Map::new();
    claims.insert("sub".into(), user.as_str().into());
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), (now + TOKEN_LIFETIME_SECONDS).into());
    for (claim, value) in [("iss", &rules.issuer), ("aud", &rules.audience)] {
        if let Some(value) = value {
            claims.insert(claim.into(), value.as_str().into());
        }
    }
    if !scope.is_empty() {
        claims.insert("scope".into(), scope.into());
    }
    if let Some(tenant) = tenant {
        rules.tenant_claim.set(&mut claims, tenant.as_str().into());
    }
    match &rules.manage_roles {
        Some(required) => {
            let role = args.role.as_ref().or(required.roles.first());
            required.claim.set(&mut claims, role.into_iter().cloned().collect());
        }
        None if args.role.is_some() => {
            let problem = "needs BILLHOOK_JWT_MANAGE_ROLES: without it the service ignores roles";
            return Err(CommandError::Config(ConfigError::new("--role", problem)));
        }
        None => {}
    }
    Ok(claims)
}

fn sign(secret: &SecretString, claims: &Map<String, Value>) -> String {
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "alg": HS256, "typ": "JWT" });
    let claims = Value::Object(claims.clone());
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
