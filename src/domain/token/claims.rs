use serde_json::{Map, Value};

use super::json;

/// The last second of the year 9999, where RFC 3339 ends. Later times are rejected: the tokens of
/// an issuer that writes milliseconds would never expire.
const MAX_UNIX_SECONDS: i64 = 253_402_300_799;

/// Claim names can be URLs.
const MAX_PATH_BYTES: usize = 255;

#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

/// The path of a claim. In `realm_access.roles` the dot separates the names of nested objects. A
/// path with `:` or `/` is a single name, a URI (RFC 7519, section 4.2) such as
/// `https://example.com/roles`, whose dots do not separate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a claim name: use 1 to 255 visible characters, with a name on each side of a dot")]
pub struct InvalidClaimPath;

impl ClaimPath {
    pub fn parse(text: &str) -> Result<Self, InvalidClaimPath> {
        let is_uri = text.contains([':', '/']);
        let names: Vec<String> =
            if is_uri { vec![text.to_owned()] } else { text.split('.').map(str::to_owned).collect() };
        let is_visible = |c: char| !c.is_whitespace() && !c.is_control();
        if text.len() <= MAX_PATH_BYTES
            && text.chars().all(is_visible)
            && names.iter().all(|name| !name.is_empty())
        {
            Ok(Self(names))
        } else {
            Err(InvalidClaimPath)
        }
    }

    /// Sets the claim. Replaces any value on the path that is not an object.
    pub fn set(&self, claims: &mut Map<String, Value>, value: Value) {
        let Some((last, parents)) = self.0.split_last() else { return };
        let mut object = claims;
        for name in parents {
            let next = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(inner) = next else { return };
            object = inner;
        }
        object.insert(last.clone(), value);
    }

    fn get<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
    }
}

impl Claims {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        json::object(payload).map(Self)
    }

    pub(super) fn has(&self, claim: &str) -> bool {
        self.0.contains_key(claim)
    }

    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim)?.as_str()
    }

    pub(super) fn text_at(&self, claim: &ClaimPath) -> Option<&str> {
        claim.get(&self.0)?.as_str()
    }

    /// Whole Unix seconds. RFC 7519's NumericDate may have a fraction.
    pub(super) fn time(&self, claim: &str) -> Option<i64> {
        let value = self.0.get(claim)?;
        #[expect(clippy::cast_possible_truncation, reason = "an `as` cast of a float saturates")]
        let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64))?;
        (seconds <= MAX_UNIX_SECONDS).then_some(seconds)
    }

    pub(super) fn has_audience(&self, audience: &str) -> bool {
        self.0.get("aud").is_some_and(|audiences| strings(audiences).any(|one| one == audience))
    }

    /// RFC 8693 uses one string in `scope`, Microsoft Entra ID one string in `scp`, Okta an array
    /// in `scp`.
    pub(super) fn has_scope(&self, scope: &str) -> bool {
        ["scope", "scp"].into_iter().filter_map(|claim| self.0.get(claim)).any(|scopes| match scopes {
            Value::String(scopes) => scopes.split_ascii_whitespace().any(|one| one == scope),
            scopes => strings(scopes).any(|one| one == scope),
        })
    }

    pub(super) fn has_role(&self, claim: &ClaimPath, allowed: &[String]) -> bool {
        let roles = claim.get(&self.0);
        roles.is_some_and(|roles| strings(roles).any(|role| allowed.iter().any(|one| one == role)))
    }
}

/// A string, or the strings in an array.
fn strings(value: &Value) -> impl Iterator<Item = &str> {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    items.iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: &Value) -> Claims {
        Claims::read(value.to_string().as_bytes()).expect("claims")
    }

    fn path(text: &str) -> ClaimPath {
        ClaimPath::parse(text).expect("a claim path")
    }

    #[test]
    fn dots_in_claim_path_nest_except_in_uri() {
        let claims = claims(&json!({
            "tenant": "a", "org": { "id": "b", "x": { "y": "c" } }, "https://example.com/tenant": "d",
            "custom:tenant": "e", "https://example": { "com/tenant": "wrong" }, "flat.name": "wrong",
        }));
        for (claim, value) in [
            ("tenant", Some("a")),
            ("org.id", Some("b")),
            ("org.x.y", Some("c")),
            ("https://example.com/tenant", Some("d")),
            ("custom:tenant", Some("e")),
            ("flat.name", None),
            ("org", None),
            ("org.id.x", None),
            ("nothing", None),
        ] {
            assert_eq!(claims.text_at(&path(claim)), value, "{claim}");
        }
    }

    #[test]
    fn claim_that_was_set_is_found() {
        for claim in ["tenant", "org.id", "a.b.c", "https://example.com/tenant"] {
            let mut object = json!({ "sub": "u", "a": 7 }).as_object().expect("an object").clone();
            path(claim).set(&mut object, "acme".into());
            assert_eq!(claims(&object.into()).text_at(&path(claim)), Some("acme"), "{claim}");
        }
    }

    #[test]
    fn invalid_claim_path_is_rejected() {
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\n", &"a".repeat(256)] {
            assert_eq!(ClaimPath::parse(bad), Err(InvalidClaimPath), "{bad}");
        }
    }

    #[test]
    fn claim_time_is_a_number_up_to_year_9999() {
        for (value, seconds) in [
            (json!(1_700_000_000), Some(1_700_000_000)),
            (json!(1_700_000_000.9), Some(1_700_000_000)),
            (json!(-5), Some(-5)),
            (json!(0), Some(0)),
            (json!(MAX_UNIX_SECONDS), Some(MAX_UNIX_SECONDS)),
            (json!(MAX_UNIX_SECONDS + 1), None),
            (json!(1_700_000_000_000_i64), None),
            (json!(u64::MAX), None),
            (json!(1e300), None),
            (json!(-1e300), Some(i64::MIN)),
            (json!("1700000000"), None),
            (json!([1_700_000_000]), None),
            (json!(true), None),
            (json!(null), None),
        ] {
            assert_eq!(claims(&json!({ "exp": value })).time("exp"), seconds, "{value}");
        }
    }

    #[test]
    fn scopes_audiences_and_roles_match_exactly() {
        for claim in ["scope", "scp"] {
            for scope in [json!("a b"), json!("b"), json!(["a", "b"]), json!(["b", 7])] {
                assert!(claims(&json!({ claim: scope })).has_scope("b"), "{claim} {scope}");
            }
            for scope in
                [json!("ab"), json!("bb a"), json!(["a b"]), json!({ "b": true }), json!(null), json!([])]
            {
                assert!(!claims(&json!({ claim: scope })).has_scope("b"), "{claim} {scope}");
            }
        }
        let both = claims(&json!({ "scope": "a", "scp": ["b"] }));
        assert!(both.has_scope("a") && both.has_scope("b") && !both.has_scope("a b"));
        assert!(claims(&json!({ "aud": ["a", "b"] })).has_audience("b"));
        assert!(!claims(&json!({ "aud": "a b" })).has_audience("b"), "an audience may contain white space");

        let owners = ["owner".to_owned(), "Billing Admin".to_owned()];
        for roles in [json!("owner"), json!("Billing Admin"), json!(["member", "owner"])] {
            assert!(claims(&json!({ "roles": roles })).has_role(&path("roles"), &owners), "{roles}");
        }
        for roles in [json!("Owner"), json!("owner member"), json!([["owner"]]), json!({ "owner": true })] {
            assert!(!claims(&json!({ "roles": roles })).has_role(&path("roles"), &owners), "{roles}");
        }
    }
}
