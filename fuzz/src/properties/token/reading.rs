//! What a token says, read by its RFCs.

use super::{DIGITS, Expected, Issuer, Json, ROLES_AT, TOKEN_LENGTH};
use crate::domain::ids::{TenantId, UserId};
use crate::domain::token::{Bearer, LEEWAY_SECONDS, Refusal, SERVICE_SCOPE};

/// The last second of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

pub(super) fn bearer(
    token: &[u8],
    issuer: &Issuer,
    expected: &Expected,
    now: i64,
) -> Result<Bearer, Refusal> {
    let rules = &expected.rules;
    let payload = signed(token, issuer)?;
    let claims = object(&payload).ok_or(Refusal::Invalid)?;
    let claim = |name: &str| at(&claims, &[name]);
    let time = |json: &Json| seconds(json).filter(|seconds| *seconds <= LAST_SECOND);

    let token_ends_at = claim("exp").and_then(time).ok_or(Refusal::NoExpiry)?.saturating_add(LEEWAY_SECONDS);
    if token_ends_at <= now {
        return Err(Refusal::Expired);
    }
    let begins_at = claim("nbf").map(|begin| time(begin).ok_or(Refusal::NotYet)).transpose()?;
    if begins_at.is_some_and(|begins_at| begins_at > now + LEEWAY_SECONDS) {
        return Err(Refusal::NotYet);
    }
    let text = |name| claim(name).and_then(Json::text);
    if rules.issuer.is_some() && text("iss") != rules.issuer.as_deref() {
        return Err(Refusal::OtherIssuer);
    }
    if rules.audience.as_ref().is_some_and(|audience| !texts(claim("aud")).contains(&audience.as_str())) {
        return Err(Refusal::OtherAudience);
    }
    let user = text("sub").and_then(|sub| UserId::parse(sub).ok()).ok_or(Refusal::NoUser)?;
    let scopes_in = |name| match text(name) {
        Some(scopes) => scopes.split([' ', '\t', '\n', '\r', '\x0c']).collect(),
        None => texts(claim(name)),
    };
    let scopes: Vec<&str> = [scopes_in("scope"), scopes_in("scp")].concat();
    if scopes.contains(&SERVICE_SCOPE) {
        return Ok(Bearer::Service(user));
    }
    let tenant = at(&claims, expected.tenant_at).and_then(Json::text);
    let tenant = tenant.and_then(|tenant| TenantId::parse(tenant).ok()).ok_or(Refusal::NoTenant)?;
    let has = |scope: &Option<String>| scope.as_deref().is_none_or(|scope| scopes.contains(&scope));
    if !has(&rules.scope) {
        return Err(Refusal::NoScope);
    }
    let named = texts(at(&claims, ROLES_AT));
    let has_role = rules
        .manage_roles
        .as_ref()
        .is_none_or(|rule| rule.roles.iter().any(|role| named.contains(&role.as_str())));
    let may_manage = has(&rules.manage_scope) && has_role;
    Ok(Bearer::User { tenant, user, may_manage, token_ends_at })
}

/// What the issuer signed.
fn signed(token: &[u8], issuer: &Issuer) -> Result<Vec<u8>, Refusal> {
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(Refusal::Invalid);
    };
    let decoded = |part| decoded(part).ok_or(Refusal::Invalid);
    let message = &token[..header.len() + 1 + payload.len()];
    let (header, payload, signature) = (decoded(header)?, decoded(payload)?, decoded(signature)?);
    let header = object(&header).ok_or(Refusal::Invalid)?;
    let member = |name: &str| at(&header, &[name]);

    let type_fits = member("typ").is_none_or(|typ| {
        let typ = typ.text().map(str::to_ascii_lowercase).unwrap_or_default();
        matches!(typ.as_str(), "jwt" | "at+jwt" | "application/jwt" | "application/at+jwt")
    });
    let is_foreign = ["crit", "b64", "cty", "enc", "zip"].iter().any(|name| member(name).is_some());
    let names_key_oddly = member("kid").is_some_and(|kid| kid.text().is_none());
    let is_alike = member("alg").and_then(Json::text) == Some(issuer.algorithm);
    if token.len() > TOKEN_LENGTH || !type_fits || is_foreign || names_key_oddly || !is_alike {
        return Err(Refusal::Invalid);
    }
    let kid = member("kid").and_then(Json::text);
    let of_that_name = |name: Option<&str>| match name {
        None => true,
        Some(name) => kid == Some(name),
    };
    let mut candidates = issuer.signers.iter().filter(|(name, _)| of_that_name(*name)).peekable();
    if candidates.peek().is_none() {
        return Err(Refusal::UnknownKey);
    }
    if candidates.any(|(_, signer)| signer.sign(message) == signature) {
        Ok(payload)
    } else {
        Err(Refusal::Invalid)
    }
}

fn object(bytes: &[u8]) -> Option<Json> {
    let json: Json = serde_json::from_slice(bytes).ok()?;
    (json.is_unambiguous() && matches!(json, Json::Object(_))).then_some(json)
}

fn at<'a>(json: &'a Json, way: &[&str]) -> Option<&'a Json> {
    way.iter().try_fold(json, |json, step| json.members(&[])?.get(step))
}

/// A text, or those of a list.
fn texts(json: Option<&Json>) -> Vec<&str> {
    match json {
        Some(Json::Text(text)) => vec![text],
        Some(Json::List(values)) => values.iter().filter_map(Json::text).collect(),
        _ => Vec::new(),
    }
}

/// Whole seconds of a number, rounded down.
fn seconds(json: &Json) -> Option<i64> {
    let Json::Number(number) = json else {
        return None;
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what does not fit is far beyond every bound, and stays there"
    )]
    number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64))
}

/// Base64url without padding and with nothing left over: RFC 4648, section 5 and section 3.5.
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
        if group.len() == 1 || decoded[whole..].iter().any(|left_over| *left_over != 0) {
            return None;
        }
        bytes.extend_from_slice(&decoded[..whole]);
    }
    Some(bytes)
}
