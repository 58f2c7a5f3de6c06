//! Tokens: what their bytes, our keys and the time make of whoever bears them. JWTs (RFC 7519) in the compact form of RFC 7515,
//! read as RFC 8725 advises.
//!
//! Start reading at [`verify`]: `signed` takes a token apart and checks its signature with one of the `keys`, `claims` says what
//! it claims, and `key_set` reads an issuer's keys.
//!
//! Verified here and not by jsonwebtoken, which the tests hold it against: the tenant's claim has a name and a depth of the
//! operator's choosing, so that claims are read into a map, where of a name that stands twice the last would win silently
//! (RFC 8725, section 2.6).

mod claims;
mod json;
mod key_set;
mod keys;
mod signed;

#[cfg(test)]
mod tests;

use claims::Claims;
use signed::SignedToken;

use super::ids::{TenantId, UserId};

pub use claims::{ClaimName, InvalidClaimName};
pub use key_set::{InvalidKeySet, KeySet};
pub use keys::{HS256, InvalidPem, Keys, PublicAlgorithm, PublicKey};

/// The scope of a service token.
pub const SERVICE_SCOPE: &str = "billing:service";

/// How far the issuer's clock may be from ours. Machines that keep time at all are within a second of each other; what is
/// more than that only lengthens the life of a token that was lost.
pub const LEEWAY_SECONDS: i64 = 30;

/// What is asked of a token beyond its signature and its time.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// The claim that names the tenant.
    pub tenant_claim: ClaimName,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must name.
    pub audience: Option<String>,
    /// The scope that a tenant's user must have.
    pub scope: Option<String>,
    /// The further scope that a user must have to manage the tenant's billing.
    pub manage_scope: Option<String>,
    /// The role that a user must have to manage the tenant's billing.
    pub manage_roles: Option<RoleRule>,
}

/// Which roles a claim must name one of.
#[derive(Debug, Clone)]
pub struct RoleRule {
    /// The claim that names the roles: one, or an array of them.
    pub claim: ClaimName,
    /// Those that will do.
    pub roles: Vec<String>,
}

/// Whoever bears a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// One of a tenant's users.
    User {
        /// The tenant.
        tenant: TenantId,
        /// The user.
        user: UserId,
        /// Whether the user may manage the tenant's billing: open checkout and portal.
        may_manage: bool,
        /// From when on the token is not taken any more, in Unix seconds.
        token_ends_at: i64,
    },
    /// One of the product's other services, which reads any tenant and acts for none.
    Service(UserId),
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no token, is for another algorithm, or nobody we know has signed it.
    #[error("not a valid token")]
    Invalid,
    /// It may be a good one: it names a key that we do not have.
    #[error("signed with a key that is not known")]
    UnknownKey,
    /// It has no time of expiry, or one that no calendar has.
    #[error("no time of expiry")]
    NoExpiry,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its time has not come.
    #[error("not valid yet")]
    NotYet,
    /// Somebody else issued it.
    #[error("of another issuer")]
    OtherIssuer,
    /// It is meant for somebody else.
    #[error("for another audience")]
    OtherAudience,
    /// It names no user.
    #[error("names no user")]
    NoUser,
    /// It names no tenant.
    #[error("names no tenant")]
    NoTenant,
    /// It is good, but lacks the scope that billing needs.
    #[error("lacks the scope")]
    NoScope,
}

/// Says who bears a token, or why it is not taken.
///
/// A pure function of the token's bytes, which may be anything at all, the keys, the rules and the time in Unix seconds: it
/// waits for nothing, and never panics. The claims of a token are not looked at before its signature has been verified, by a
/// key for the one algorithm that `keys` are for.
pub fn verify(token: &[u8], keys: &Keys, rules: &TokenRules, now_seconds: i64) -> Result<Bearer, Refusal> {
    let token = SignedToken::read(token).ok_or(Refusal::Invalid)?;
    if token.alg != keys.algorithm() {
        return Err(Refusal::Invalid);
    }
    match keys.have_signed(token.kid.as_deref(), token.message, &token.signature) {
        None => return Err(Refusal::UnknownKey),
        Some(false) => return Err(Refusal::Invalid),
        Some(true) => {}
    }
    let claims = Claims::read(&token.payload).ok_or(Refusal::Invalid)?;
    let token_ends_at = check_time(&claims, now_seconds)?;
    check_origin(&claims, rules)?;
    bearer(&claims, rules, token_ends_at)
}

/// `exp` is required; `nbf` is held to where it is given (RFC 7519, sections 4.1.4 and 4.1.5). Returns from when on the token
/// is not taken any more.
fn check_time(claims: &Claims, now_seconds: i64) -> Result<i64, Refusal> {
    let ends_at = claims.time("exp").ok_or(Refusal::NoExpiry)?.saturating_add(LEEWAY_SECONDS);
    if now_seconds >= ends_at {
        return Err(Refusal::Expired);
    }
    let has_begun = |begins_at: i64| begins_at.saturating_sub(LEEWAY_SECONDS) <= now_seconds;
    if claims.has("nbf") && !claims.time("nbf").is_some_and(has_begun) {
        return Err(Refusal::NotYet);
    }
    Ok(ends_at)
}

fn check_origin(claims: &Claims, rules: &TokenRules) -> Result<(), Refusal> {
    if rules.issuer.as_deref().is_some_and(|issuer| claims.text("iss") != Some(issuer)) {
        return Err(Refusal::OtherIssuer);
    }
    if rules.audience.as_deref().is_some_and(|audience| !claims.is_for(audience)) {
        return Err(Refusal::OtherAudience);
    }
    Ok(())
}

fn bearer(claims: &Claims, rules: &TokenRules, token_ends_at: i64) -> Result<Bearer, Refusal> {
    let user = claims.text("sub").and_then(|sub| UserId::parse(sub).ok()).ok_or(Refusal::NoUser)?;
    if claims.has_scope(SERVICE_SCOPE) {
        return Ok(Bearer::Service(user));
    }
    let tenant = claims.text_at(&rules.tenant_claim).and_then(|tenant| TenantId::parse(tenant).ok());
    let tenant = tenant.ok_or(Refusal::NoTenant)?;
    let has = |scope: &Option<String>| scope.as_deref().is_none_or(|scope| claims.has_scope(scope));
    if !has(&rules.scope) {
        return Err(Refusal::NoScope);
    }
    let has_role = rules.manage_roles.as_ref().is_none_or(|rule| claims.has_role(&rule.claim, &rule.roles));
    Ok(Bearer::User { tenant, user, may_manage: has(&rules.manage_scope) && has_role, token_ends_at })
}
