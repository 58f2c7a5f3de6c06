//! Verification of bearer tokens: JWTs (RFC 7519) in the compact form of RFC 7515, by the rules of
//! RFC 8725.
//!
//! Start reading at [`verify`]. `signed_token` splits a token into its parts, `verification_keys`
//! checks its signature, `claims` reads its claims, and `jwk_set` reads an issuer's keys.
//!
//! We do not use jsonwebtoken, except to compare with it in tests: the operator chooses the name
//! and depth of the tenant claim, so claims are read into a map, and jsonwebtoken would silently
//! keep the last of two equal names (RFC 8725, section 2.6).

mod claims;
mod json;
mod jwk_set;
mod signed_token;
mod verification_keys;

#[cfg(test)]
mod tests;

use claims::Claims;
use signed_token::SignedToken;

use super::ids::{TenantId, UserId};

pub use claims::{ClaimPath, InvalidClaimPath};
pub use jwk_set::{InvalidJwkSet, JwkSet};
pub use verification_keys::{HS256, InvalidPem, PublicAlgorithm, PublicKey, VerificationKeys};

pub const SERVICE_SCOPE: &str = "billing:service";

/// The tolerated difference between the issuer's clock and ours. Synchronised clocks differ by less
/// than a second, and a longer leeway only extends the life of a stolen token.
pub const LEEWAY_SECONDS: i64 = 30;

/// The checks beyond signature and time.
#[derive(Debug, Clone)]
pub struct TokenRules {
    pub tenant_claim: ClaimPath,
    /// The required `iss`.
    pub issuer: Option<String>,
    /// The required `aud`, or one of several.
    pub audience: Option<String>,
    /// The scope that every user needs.
    pub scope: Option<String>,
    /// The additional scope that a user needs to manage billing.
    pub manage_scope: Option<String>,
    /// The role that a user needs to manage billing.
    pub manage_roles: Option<RoleRule>,
}

/// A claim must contain one of these roles.
#[derive(Debug, Clone)]
pub struct RoleRule {
    /// One role, or an array of roles.
    pub claim: ClaimPath,
    pub roles: Vec<String>,
}

/// Who a verified token authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// One of a tenant's users.
    User {
        tenant: TenantId,
        user: UserId,
        /// Whether the user may open checkout and portal.
        may_manage: bool,
        /// `exp` plus the leeway, in Unix seconds.
        token_accepted_until: i64,
    },
    /// One of the product's other services, which may read any tenant and act for none.
    Service(UserId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Malformed, for another algorithm, or with a wrong signature.
    #[error("not a valid token")]
    Invalid,
    /// The token may be valid, but we do not have the key that it names.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// No valid `exp`.
    #[error("no expiry time")]
    NoExpiry,
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYet,
    #[error("from another issuer")]
    OtherIssuer,
    #[error("for another audience")]
    OtherAudience,
    #[error("no valid user")]
    NoUser,
    #[error("no valid tenant")]
    NoTenant,
    /// The token is valid, but lacks the scope that billing needs.
    #[error("missing scope")]
    NoScope,
}

/// Never panics, whatever the bytes. Claims are read only after the signature has been verified,
/// with a key for the one algorithm that `keys` support.
pub fn verify(
    token: &[u8],
    keys: &VerificationKeys,
    rules: &TokenRules,
    now_seconds: i64,
) -> Result<Principal, TokenError> {
    let token = SignedToken::read(token).ok_or(TokenError::Invalid)?;
    if token.alg != keys.algorithm() {
        return Err(TokenError::Invalid);
    }
    match keys.verify_signature(token.kid.as_deref(), token.message, &token.signature) {
        None => return Err(TokenError::UnknownKey),
        Some(false) => return Err(TokenError::Invalid),
        Some(true) => {}
    }
    let claims = Claims::read(&token.payload).ok_or(TokenError::Invalid)?;
    let token_accepted_until = check_time(&claims, now_seconds)?;
    if rules.issuer.as_deref().is_some_and(|issuer| claims.text("iss") != Some(issuer)) {
        return Err(TokenError::OtherIssuer);
    }
    if rules.audience.as_deref().is_some_and(|audience| !claims.has_audience(audience)) {
        return Err(TokenError::OtherAudience);
    }
    principal(&claims, rules, token_accepted_until)
}

/// `exp` is required, `nbf` is optional (RFC 7519, sections 4.1.4 and 4.1.5). Returns the time from
/// which the token is expired.
fn check_time(claims: &Claims, now_seconds: i64) -> Result<i64, TokenError> {
    let ends_at = claims.time("exp").ok_or(TokenError::NoExpiry)?.saturating_add(LEEWAY_SECONDS);
    if now_seconds >= ends_at {
        return Err(TokenError::Expired);
    }
    let is_past = |not_before: i64| not_before.saturating_sub(LEEWAY_SECONDS) <= now_seconds;
    if claims.has("nbf") && !claims.time("nbf").is_some_and(is_past) {
        return Err(TokenError::NotYet);
    }
    Ok(ends_at)
}

fn principal(
    claims: &Claims,
    rules: &TokenRules,
    token_accepted_until: i64,
) -> Result<Principal, TokenError> {
    let user = claims.text("sub").and_then(|sub| UserId::parse(sub).ok()).ok_or(TokenError::NoUser)?;
    if claims.has_scope(SERVICE_SCOPE) {
        return Ok(Principal::Service(user));
    }
    let tenant = claims.text_at(&rules.tenant_claim).and_then(|tenant| TenantId::parse(tenant).ok());
    let tenant = tenant.ok_or(TokenError::NoTenant)?;
    let has_scope = |scope: &Option<String>| scope.as_deref().is_none_or(|scope| claims.has_scope(scope));
    if !has_scope(&rules.scope) {
        return Err(TokenError::NoScope);
    }
    let has_role = rules.manage_roles.as_ref().is_none_or(|rule| claims.has_role(&rule.claim, &rule.roles));
    Ok(Principal::User {
        tenant,
        user,
        may_manage: has_scope(&rules.manage_scope) && has_role,
        token_accepted_until,
    })
}
