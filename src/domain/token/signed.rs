//! The form of a token: three parts in base64url, the first of them the header (RFC 7515).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::json;

/// The longest token that is looked at: tokens travel in a header, and servers refuse longer ones anyway.
const TOKEN_LENGTH: usize = 8192;

/// What `typ` may say: nothing, a JWT (RFC 7519, section 5.1), or an access token (RFC 9068, section 2.1). Whatever else an
/// issuer signs with the same key, a logout token say, is not for here (RFC 8725, section 3.11).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// What the header of a token for us never has: demands that we do not know of (`crit`; RFC 7515, section 4.1.11), a payload
/// in another form (`b64`; RFC 7797, which `crit` would name), and what belongs to tokens within tokens and to encrypted ones.
const FOREIGN: [&str; 5] = ["crit", "b64", "cty", "enc", "zip"];

/// A token as it came: nothing in it is to be believed yet.
#[derive(Debug)]
pub(super) struct SignedToken<'a> {
    /// The algorithm that it claims to be signed with.
    pub(super) alg: String,
    /// The name of the key that it claims to be signed with.
    pub(super) kid: Option<String>,
    /// What is signed.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl<'a> SignedToken<'a> {
    /// Takes a token apart. What its header says of where a key is to be had (`jku`, `jwk`, `x5u`, `x5c`) is not looked at:
    /// whoever forges a token would write it.
    pub(super) fn read(token: &'a [u8]) -> Option<Self> {
        if token.len() > TOKEN_LENGTH {
            return None;
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut members = json::object(&decoded(header)?)?;
        let is_ours = members.get("typ").is_none_or(is_type_for_us);
        if !is_ours || FOREIGN.iter().any(|name| members.contains_key(*name)) {
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

/// Media types know no case, and `application/` before them may be left out (RFC 7515, section 4.1.9).
fn is_type_for_us(typ: &Value) -> bool {
    let Some(typ) = typ.as_str().map(str::to_ascii_lowercase) else { return false };
    TYPES.contains(&typ.strip_prefix("application/").unwrap_or(&typ))
}

/// Base64url as RFC 7515, section 2 has it: no padding, no white space, no bits left over.
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
    fn a_token_comes_apart() {
        let token = token(r#"{"alg":"RS256","kid":"k","typ":"JWT","jku":"https://evil.example"}"#);
        let read = SignedToken::read(token.as_bytes()).expect("a token");
        assert_eq!((read.alg.as_str(), read.kid.as_deref()), ("RS256", Some("k")));
        assert_eq!((read.payload.as_slice(), read.signature.as_slice()), (&b"{}"[..], &b"signature"[..]));
        assert_eq!(Some(read.message), token.rsplit_once('.').map(|(message, _)| message.as_bytes()));
    }

    #[test]
    fn a_type_is_a_jwts_or_an_access_tokens_or_none() {
        for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/jwt", "application/at+jwt"] {
            assert!(is_read(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#)), "{typ}");
        }
        for typ in [r#""logout+jwt""#, r#""dpop+jwt""#, r#""JWE""#, r#""""#, "7", "null", r#"["JWT"]"#] {
            assert!(!is_read(&format!(r#"{{"alg":"RS256","typ":{typ}}}"#)), "{typ}");
        }
    }

    #[test]
    fn a_header_that_demands_or_hides_something_is_refused() {
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
    fn a_token_has_three_parts_of_base64url_and_a_bounded_length() {
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
