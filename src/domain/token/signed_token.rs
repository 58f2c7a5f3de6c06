//! The parts of a token: header, payload and signature, each in base64url (RFC 7515).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::json;

/// Tokens are sent in a header, and servers reject longer headers anyway.
const MAX_TOKEN_BYTES: usize = 8192;

/// The accepted `typ`, if present: a JWT (RFC 7519, section 5.1) or an access token (RFC 9068,
/// section 2.1). An issuer may sign other types with the same key, such as logout tokens (RFC 8725,
/// section 3.11).
const ACCEPTED_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Header parameters of tokens that we do not support: required extensions (`crit`; RFC 7515,
/// section 4.1.11), an unencoded payload (`b64`; RFC 7797), nested tokens (`cty`) and encrypted
/// tokens (`enc`, `zip`).
const UNSUPPORTED_PARAMETERS: [&str; 5] = ["crit", "b64", "cty", "enc", "zip"];

/// A parsed token whose signature has not been verified.
#[derive(Debug)]
pub(super) struct SignedToken<'a> {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// The signed bytes: header and payload as sent.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl<'a> SignedToken<'a> {
    /// Ignores the key that the header offers (`jku`, `jwk`, `x5u`, `x5c`): an attacker would offer
    /// their own.
    pub(super) fn read(token: &'a [u8]) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut members = json::object(&decoded(header)?)?;
        let is_accepted = members.get("typ").is_none_or(is_accepted_type);
        if !is_accepted || UNSUPPORTED_PARAMETERS.iter().any(|name| members.contains_key(*name)) {
            return None;
        }
        let kid = match members.remove("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid),
            Some(_) => return None,
        };
        let Some(Value::String(alg)) = members.remove("alg") else { return None };
        Some(Self {
            alg,
            kid,
            message: &token[..header.len() + 1 + payload.len()],
            signature: decoded(signature)?,
            payload: decoded(payload)?,
        })
    }
}

/// Media types are case-insensitive, and `application/` may be omitted (RFC 7515, section 4.1.9).
fn is_accepted_type(typ: &Value) -> bool {
    let Some(typ) = typ.as_str().map(str::to_ascii_lowercase) else { return false };
    ACCEPTED_TYPES.contains(&typ.strip_prefix("application/").unwrap_or(&typ))
}

/// Without padding, white space or trailing bits (RFC 7515, section 2).
fn decoded(part: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", encoded(header), encoded("{}"), encoded("signature"))
    }

    fn is_read(header: &str) -> bool {
        SignedToken::read(token(header).as_bytes()).is_some()
    }

    #[test]
    fn token_is_split_into_its_parts() {
        let token = token(r#"{"alg":"RS256","kid":"k","typ":"JWT","jku":"https://evil.example"}"#);
        let read = SignedToken::read(token.as_bytes()).expect("a token");
        assert_eq!((read.alg.as_str(), read.kid.as_deref()), ("RS256", Some("k")));
        assert_eq!((read.payload.as_slice(), read.signature.as_slice()), (&b"{}"[..], &b"signature"[..]));
        assert_eq!(Some(read.message), token.rsplit_once('.').map(|(message, _)| message.as_bytes()));
    }

    #[test]
    fn token_type_must_be_jwt_or_access_token_or_absent() {
        for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/jwt", "application/at+jwt"] {
            assert!(is_read(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#)), "{typ}");
        }
        for typ in [r#""logout+jwt""#, r#""dpop+jwt""#, r#""JWE""#, r#""""#, "7", "null", r#"["JWT"]"#] {
            assert!(!is_read(&format!(r#"{{"alg":"RS256","typ":{typ}}}"#)), "{typ}");
        }
    }

    #[test]
    fn unsupported_or_ambiguous_token_header_is_rejected() {
        for member in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""crit":null"#,
            r#""b64":false"#,
            r#""b64":true"#,
            r#""cty":"JWT""#,
            r#""enc":"A128GCM""#,
            r#""zip":"DEF""#,
            r#""kid":7"#,
            r#""kid":null"#,
            r#""kid":["k"]"#,
            r#""kid":"a","kid":"b""#,
            r#""alg":"none""#,
        ] {
            assert!(!is_read(&format!(r#"{{"alg":"RS256",{member}}}"#)), "{member}");
        }
        for header in ["", "[]", "null", "{}", r#"{"alg":7}"#, r#"{"alg":null}"#] {
            assert!(!is_read(header), "{header}");
        }
    }

    #[test]
    fn malformed_or_too_long_token_is_rejected() {
        let good = token(r#"{"alg":"RS256"}"#);
        let (header, rest) = good.split_once('.').expect("parts");
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            format!("{good}."),
            format!("{good}.a.b"),
            format!("{good}="),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{header}=.{rest}"),
            good.replace('.', ""),
            format!("{good}{}", "A".repeat(8192)),
        ] {
            assert!(SignedToken::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
