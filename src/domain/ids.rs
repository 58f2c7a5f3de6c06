//! Identifiers. Each is parsed once, at the edge of the service, and is then safe to log, store and
//! compare: its length is bounded and it contains no control characters.

use std::fmt;
use std::sync::Arc;

/// Stripe's own limit
/// (<https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backwards-compatible>).
const MAX_STRIPE_ID_CHARS: usize = 255;

/// The limit of a DNS label and of a PostgreSQL schema name.
const MAX_TENANT_ID_BYTES: usize = 63;

const MAX_DEPLOYMENT_ID_BYTES: usize = 64;

const MAX_PLAN_NAME_BYTES: usize = 63;

const MAX_SECRET_NAME_BYTES: usize = 32;

/// Never repeats the text, which may contain anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct InvalidId(&'static str);

/// Declares an identifier: a string that is validated once and cheap to clone.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let accepts: fn(&str) -> bool = $accepts;
                if accepts(text) { Ok(Self(text.into())) } else { Err(InvalidId($what)) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// The name of a webhook secret in logs and metrics.
    SecretName, "a secret name (1 to 32 lower-case letters, digits, `_`, `-`)", |text| {
        (1..=MAX_SECRET_NAME_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    }
);

impl SecretName {
    /// The name of a secret for which the operator chose none: its position in the list, from 1.
    pub fn from_position(position: usize) -> Self {
        Self(position.to_string().into())
    }
}

identifier!(
    /// `.`, `..` and a leading `-` are rejected: the id is a segment of URL paths and an argument
    /// of commands, where `..` is the parent and `-x` an option.
    TenantId,
    "a tenant id (1 to 63 letters, digits, `_`, `-`, `.`; not `.` or `..`, and not starting with `-`)",
    |text| has_tenant_characters(text) && !matches!(text, "." | "..") && !text.starts_with('-')
);

impl TenantId {
    /// Parses a tenant id from the database. Earlier versions accepted `.`, `..` and a leading `-`.
    /// Such a tenant must stay readable, also in lists of all tenants.
    pub fn parse_stored(text: &str) -> Result<Self, InvalidId> {
        if has_tenant_characters(text) { Ok(Self(text.into())) } else { Self::parse(text) }
    }
}

fn has_tenant_characters(text: &str) -> bool {
    (1..=MAX_TENANT_ID_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

identifier!(
    /// `cus_...`, or an id that the owner of the account chose, which Stripe once allowed: 1 to 255
    /// characters, no control characters. `sub_...` is rejected: it is a subscription id.
    CustomerId, "a Stripe customer id (`cus_...`)", |text| {
        is_owner_chosen_id(text) && !text.starts_with("sub_")
    }
);

identifier!(SubscriptionId, "a Stripe subscription id (`sub_...`)", |text| is_stripe_id(text, "sub_"));
identifier!(EventId, "a Stripe event id (`evt_...`)", |text| is_stripe_id(text, "evt_"));
identifier!(SessionId, "a Stripe checkout session id (`cs_...`)", |text| is_stripe_id(text, "cs_"));
identifier!(InvoiceId, "a Stripe invoice id (`in_...`)", |text| is_stripe_id(text, "in_"));
identifier!(AccountId, "a Stripe account id (`acct_...`)", |text| is_stripe_id(text, "acct_"));

identifier!(
    /// One installation of Billhook with its database. Long enough for a UUID.
    DeploymentId, "a deployment id (1 to 64 letters, digits, `_`, `-`, `.`)", |text| {
        (1..=MAX_DEPLOYMENT_ID_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    }
);

identifier!(
    /// A configuration of Stripe's Customer Portal.
    PortalConfigurationId, "a Stripe portal configuration id (`bpc_...`)", |text| is_stripe_id(text, "bpc_")
);

identifier!(
    /// A price's id or its lookup key. The owner of the account chose the ids of legacy plans,
    /// which may contain spaces, slashes and any script.
    PriceId, "a price id or lookup key (1 to 255 characters, no control characters)", is_owner_chosen_id
);

impl PriceId {
    /// Whether it has the form of an id that Stripe generates. If so, it is tried as an id before
    /// it is tried as a lookup key.
    pub fn looks_like_an_id(&self) -> bool {
        self.0.starts_with("price_")
    }
}

identifier!(
    /// A plan in the configuration. `free` is reserved for tenants without a plan.
    PlanName, "a plan name (1 to 63 lower-case letters, digits, `_`, `-`; not `free`)", |text| {
        (1..=MAX_PLAN_NAME_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
            && text != "free"
    }
);

identifier!(
    /// The `sub` of a token.
    UserId, "a user id (1 to 255 characters, no control characters)", |text| {
        (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
    }
);

/// Rejects `.` and `..`: as segments of a URL path they are resolved however they are encoded
/// (<https://url.spec.whatwg.org/#double-dot-path-segment>), so Stripe could not be asked about
/// such an object.
fn is_owner_chosen_id(text: &str) -> bool {
    (1..=MAX_STRIPE_ID_CHARS).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && !matches!(text, "." | "..")
}

fn is_stripe_id(text: &str, prefix: &str) -> bool {
    text.len() <= MAX_STRIPE_ID_CHARS
        && text.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_id_has_1_to_63_allowed_characters() {
        for good in ["a", "acme", "Acme-2.eu_west", "_", "a-", ".well-known", "...", "a..b", &"t".repeat(63)]
        {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a/b", "ä", "a\n", "a@b", &"t".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dot_segment_or_option_as_tenant_id_is_only_read_from_store() {
        for bad in [".", "..", "-", "--", "-a", "--json"] {
            let error = TenantId::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("not `.` or `..`, and not starting with `-`"), "{error}");
            assert_eq!(TenantId::parse_stored(bad).map(|id| id.to_string()), Ok(bad.to_owned()));
        }
        for bad in ["", "a/b", "a b", &"t".repeat(64)] {
            assert!(TenantId::parse_stored(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stripe_id_has_its_prefix_and_plain_characters() {
        assert!(SubscriptionId::parse("sub_1MowQVLkdIwHu7ixeRlqHVzs").is_ok());
        for bad in ["", "sub_", "cus_1", "sub_a b", "sub_\u{0}", "SUB_1", &format!("sub_{}", "1".repeat(252))]
        {
            assert!(SubscriptionId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn owner_chosen_id_has_255_characters_no_control_characters() {
        let longest = "É".repeat(255);
        for good in ["price_1", "gold", "Pro plan $69/month", "Équipe-2016", "a,b;c=d", "\"q\"\\", &longest]
        {
            assert!(PriceId::parse(good).is_ok(), "{good}");
            assert!(CustomerId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a\n", "\u{0}", "\u{85}", ".", "..", &"É".repeat(256)] {
            assert!(PriceId::parse(bad).is_err(), "{bad}");
            assert!(CustomerId::parse(bad).is_err(), "{bad}");
        }
        assert!(CustomerId::parse("sub_1").is_err(), "a subscription id");
    }

    #[test]
    fn id_error_never_repeats_the_text() {
        let error = SubscriptionId::parse("sk_live_secret").expect_err("not a subscription id");
        assert!(!error.to_string().contains("sk_live"));
    }
}
