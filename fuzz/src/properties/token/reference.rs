//! An independent verifier of tokens, by the RFCs.

use super::{DIGITS, Expected, Issuer, Json, MAX_TOKEN_LENGTH, ROLES_PATH};
use crate::domain::ids::{TenantId, UserId};
use crate::domain::token::{LEEWAY_SECONDS, Principal, SERVICE_SCOPE, TokenError};

/// The last second of the year 9999.
const MAX_TIME: i64 = 253_402_300_799;

pub(super) fn bearer(
    token: &[u8],
    issuer: &Issuer,
    expected: &Expected,
    now: i64,
) -> Result<Principal, TokenError> {
    let rules = &expected.rules;
    let payload = signed(token, issuer)?;
    let claims = object(&payload).ok_or(TokenError::Invalid)?;
    let claim = |name: &str| at(&claims, &[name]);
    let time = |json: &Json| seconds(json).filter(|seconds| *seconds <= MAX_TIME);

    let token_accepted_until =
        claim("exp").and_then(time).ok_or(TokenError::NoExpiry)?.saturating_add(LEEWAY_SECONDS);
    if token_accepted_until <= now {
        return Err(TokenError::Expired);
    }
    let starts_at = claim("nbf").map(|begin| time(begin).ok_or(TokenError::NotYet)).transpose()?;
    if starts_at.is_some_and(|starts_at| starts_at > now + LEEWAY_SECONDS) {
        return Err(TokenError::NotYet);
    }
    let text = |name| claim(name).and_then(Json::text);
    if rules.issuer.is_some() && text("iss") != rules.issuer.as_deref() {
        return Err(TokenError::OtherIssuer);
    }
    if rules.audience.as_ref().is_some_and(|audience| !texts(claim("aud")).contains(&audience.as_str())) {
        return Err(TokenError::OtherAudience);
    }
    let user = text("sub").and_then(|sub| UserId::parse(sub).ok()).ok_or(TokenError::NoUser)?;
    let scopes_in = |name| match text(name) {
        Some(scopes) => scopes.split([' ', '\t', '\n', '\r', '\x0c']).collect(),
        None => texts(claim(name)),
    };
    let scopes: Vec<&str> = [scopes_in("scope"), scopes_in("scp")].concat();
    if scopes.contains(&SERVICE_SCOPE) {
        return Ok(Principal::Service(user));
    }
    let tenant = at(&claims, expected.tenant_path).and_then(Json::text);
    let tenant = tenant.and_then(|tenant| TenantId::parse(tenant).ok()).ok_or(TokenError::NoTenant)?;
    let has = |scope: &Option<String>| scope.as_deref().is_none_or(|scope| scopes.contains(&scope));
    if !has(&rules.scope) {
        return Err(TokenError::NoScope);
    }
    let named = texts(at(&claims, ROLES_PATH));
    let has_role = rules
        .manage_roles
        .as_ref()
        .is_none_or(|rule| rule.roles.iter().any(|role| named.contains(&role.as_str())));
    let may_manage = has(&rules.manage_scope) && has_role;
    Ok(Principal::User { tenant, user, may_manage, token_accepted_until })
}

/// The signed payload.
fn signed(token: &[u8], issuer: &Issuer) -> Result<Vec<u8>, TokenError> {
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(TokenError::Invalid);
    };
    let decoded = |part| decoded(part).ok_or(TokenError::Invalid);
    let message = &token[..header.len() + 1 + payload.len()];
    let (header, payload, signature) = (decoded(header)?, decoded(payload)?, decoded(signature)?);
    let header = object(&header).ok_or(TokenError::Invalid)?;
    let member = |name: &str| at(&header, &[name]);

    let type_fits = member("typ").is_none_or(|typ| {
        let typ = typ.text().map(str::to_ascii_lowercase).unwrap_or_default();
        matches!(typ.as_str(), "jwt" | "at+jwt" | "application/jwt" | "application/at+jwt")
    });
    let is_unsupported = ["crit", "b64", "cty", "enc", "zip"].iter().any(|name| member(name).is_some());
    let has_invalid_kid = member("kid").is_some_and(|kid| kid.text().is_none());
    let has_algorithm = member("alg").and_then(Json::text) == Some(issuer.algorithm);
    if token.len() > MAX_TOKEN_LENGTH || !type_fits || is_unsupported || has_invalid_kid || !has_algorithm {
        return Err(TokenError::Invalid);
    }
    let kid = member("kid").and_then(Json::text);
    let matches_kid = |name: Option<&str>| match name {
        None => true,
        Some(name) => kid == Some(name),
    };
    let mut candidates = issuer.signers.iter().filter(|(name, _)| matches_kid(*name)).peekable();
    if candidates.peek().is_none() {
        return Err(TokenError::UnknownKey);
    }
    if candidates.any(|(_, signer)| signer.sign(message) == signature) {
        Ok(payload)
    } else {
        Err(TokenError::Invalid)
    }
}

fn object(bytes: &[u8]) -> Option<Json> {
    let json: Json = serde_json::from_slice(bytes).ok()?;
    (json.has_unique_keys() && matches!(json, Json::Object(_))).then_some(json)
}

fn at<'a>(json: &'a Json, path: &[&str]) -> Option<&'a Json> {
    path.iter().try_fold(json, |json, step| json.members(&[])?.get(step))
}

/// A string, or the strings of a list.
fn texts(json: Option<&Json>) -> Vec<&str> {
    match json {
        Some(Json::Text(text)) => vec![text],
        Some(Json::List(values)) => values.iter().filter_map(Json::text).collect(),
        _ => Vec::new(),
    }
}

/// Rounds down to whole seconds.
fn seconds(json: &Json) -> Option<i64> {
    let Json::Number(number) = json else {
        return None;
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and such times are out of bounds anyway"
    )]
    number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64))
}

/// Base64url without padding and with zero trailing bits (RFC 4648, sections 5 and 3.5).
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = bits << 6 | u32::try_from(DIGITS.iter().position(|one| one == digit)?).ok()?;
        }
        bits <<= 6 * (4 - group.len());
        let whole = group.len() * 6 / 8;
        let [_, decoded @ ..] = bits.to_be_bytes();
        if group.len() == 1 || decoded[whole..].iter().any(|trailing| *trailing != 0) {
            return None;
        }
        bytes.extend_from_slice(&decoded[..whole]);
    }
    Some(bytes)
}
