//! What a token says of whoever bears it.

use serde_json::{Map, Value};

use super::json;

/// The last second of the year 9999, which is as far as RFC 3339 goes. An issuer that counts in milliseconds names times far
/// behind it, and its tokens would never expire.
const LAST_SECOND: i64 = 253_402_300_799;

/// The longest name of a claim: URLs are names too.
const NAME_LENGTH: usize = 255;

/// A token's claims.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

/// Where a claim stands: `tenant`; or `realm_access.roles`, where each dot leads into an object. A name with a `:` or a `/`
/// in it is a URI (RFC 7519, section 4.2), `https://example.com/roles` say, and its dots lead nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimName(Vec<String>);

/// Not the name of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no claim's name: 1 to 255 visible characters, with a name on each side of a dot")]
pub struct InvalidClaimName;

impl ClaimName {
    /// Reads a claim's name.
    pub fn parse(text: &str) -> Result<Self, InvalidClaimName> {
        let is_uri = text.contains([':', '/']);
        let steps: Vec<String> =
            if is_uri { vec![text.to_owned()] } else { text.split('.').map(str::to_owned).collect() };
        let plain = |c: char| !c.is_whitespace() && !c.is_control();
        if text.len() <= NAME_LENGTH && text.chars().all(plain) && steps.iter().all(|step| !step.is_empty()) {
            Ok(Self(steps))
        } else {
            Err(InvalidClaimName)
        }
    }

    /// Puts a value where the claim stands; what stands in its way is replaced.
    pub fn put(&self, claims: &mut Map<String, Value>, value: Value) {
        let Some((last, way)) = self.0.split_last() else { return };
        let mut object = claims;
        for step in way {
            let next = object.entry(step).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(inner) = next else { return };
            object = inner;
        }
        object.insert(last.clone(), value);
    }

    fn of<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, step| value.as_object()?.get(step))
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

    pub(super) fn text_at(&self, claim: &ClaimName) -> Option<&str> {
        claim.of(&self.0)?.as_str()
    }

    /// A time in whole Unix seconds. RFC 7519's NumericDate may have a fraction.
    pub(super) fn time(&self, claim: &str) -> Option<i64> {
        let value = self.0.get(claim)?;
        #[expect(clippy::cast_possible_truncation, reason = "an `as` cast of a float saturates")]
        let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64))?;
        (seconds <= LAST_SECOND).then_some(seconds)
    }

    /// Whether the audience is one of those that the token is for.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        self.0.get("aud").is_some_and(|named| texts(named).any(|one| one == audience))
    }

    /// RFC 8693 has scopes in `scope`, in one string; Microsoft Entra ID has them in `scp`, in one string too, and Okta in
    /// `scp`, in an array.
    pub(super) fn has_scope(&self, scope: &str) -> bool {
        ["scope", "scp"].into_iter().filter_map(|claim| self.0.get(claim)).any(|scopes| match scopes {
            Value::String(scopes) => scopes.split_ascii_whitespace().any(|one| one == scope),
            scopes => texts(scopes).any(|one| one == scope),
        })
    }

    /// Whether one of the roles, or the one role, is one of those.
    pub(super) fn has_role(&self, claim: &ClaimName, wanted: &[String]) -> bool {
        let roles = claim.of(&self.0);
        roles.is_some_and(|roles| texts(roles).any(|role| wanted.iter().any(|one| one == role)))
    }
}

/// A text, or those of an array.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
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

    fn name(text: &str) -> ClaimName {
        ClaimName::parse(text).expect("a name")
    }

    #[test]
    fn a_dot_leads_into_an_object_and_the_dots_of_a_uri_lead_nowhere() {
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
            assert_eq!(claims.text_at(&name(claim)), value, "{claim}");
        }
    }

    #[test]
    fn what_is_put_somewhere_is_found_there() {
        for claim in ["tenant", "org.id", "a.b.c", "https://example.com/tenant"] {
            let mut made = json!({ "sub": "u", "a": 7 }).as_object().expect("an object").clone();
            name(claim).put(&mut made, "acme".into());
            assert_eq!(claims(&made.into()).text_at(&name(claim)), Some("acme"), "{claim}");
        }
    }

    #[test]
    fn a_name_has_something_on_each_side_of_a_dot() {
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\n", &"a".repeat(256)] {
            assert_eq!(ClaimName::parse(bad), Err(InvalidClaimName), "{bad}");
        }
    }

    #[test]
    fn a_time_is_a_number_up_to_the_year_9999() {
        for (value, seconds) in [
            (json!(1_700_000_000), Some(1_700_000_000)),
            (json!(1_700_000_000.9), Some(1_700_000_000)),
            (json!(-5), Some(-5)),
            (json!(0), Some(0)),
            (json!(LAST_SECOND), Some(LAST_SECOND)),
            (json!(LAST_SECOND + 1), None),
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
    fn scopes_and_audiences_and_roles_are_whole_words() {
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
        assert!(claims(&json!({ "aud": ["a", "b"] })).is_for("b"));
        assert!(!claims(&json!({ "aud": "a b" })).is_for("b"), "an audience may have white space in it");

        let owners = ["owner".to_owned(), "Billing Admin".to_owned()];
        for roles in [json!("owner"), json!("Billing Admin"), json!(["member", "owner"])] {
            assert!(claims(&json!({ "roles": roles })).has_role(&name("roles"), &owners), "{roles}");
        }
        for roles in [json!("Owner"), json!("owner member"), json!([["owner"]]), json!({ "owner": true })] {
            assert!(!claims(&json!({ "roles": roles })).has_role(&name("roles"), &owners), "{roles}");
        }
    }
}
