//! The identifiers. Each is parsed once, at the edge, and can then be logged, stored and compared
//! without a second thought: no control characters, no white space, a bounded length.

use std::fmt;
use std::sync::Arc;

/// The most characters in an identifier of Stripe's: "at most 255 characters" in its upgrade guide
/// (<https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backwards-compatible>).
const STRIPE_ID_LENGTH: usize = 255;

/// The most characters in a tenant id: what a DNS label or a PostgreSQL schema name can carry.
const TENANT_ID_LENGTH: usize = 63;

/// The most characters in a deployment id: a UUID, or a name with some room.
const DEPLOYMENT_ID_LENGTH: usize = 64;

/// The most characters in a secret's name: a date and a word.
const SECRET_NAME_LENGTH: usize = 32;

/// Why a text is not the identifier it was taken for. Never repeats the text, which may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct InvalidId(&'static str);

/// Declares an identifier: a cheap-to-clone, parsed string.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads the identifier, or says what it is not.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let accepts: fn(&str) -> bool = $accepts;
                if accepts(text) { Ok(Self(text.into())) } else { Err(InvalidId($what)) }
            }

            /// The identifier as Stripe, the token or the operator wrote it.
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
    /// What logs and metrics call a webhook secret. 1 to 32 of lower-case letters, digits, `_` and `-`.
    SecretName, "a secret's name (1 to 32 of lower-case letters, digits, `_`, `-`)", |text| {
        (1..=SECRET_NAME_LENGTH).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    }
);

impl SecretName {
    /// The name of a secret that was given none: its place in the list, from 1.
    pub fn of_place(place: usize) -> Self {
        Self(place.to_string().into())
    }
}

identifier!(
    /// A tenant: the SaaS's customer organisation. 1 to 63 of letters, digits, `_`, `-` and `.`, but not `.`, `..` or
    /// a `-` at the start: it is a part of URL paths, where `..` leads elsewhere, and an argument of commands, where
    /// `-x` is an option.
    TenantId,
    "a tenant id (1 to 63 of letters, digits, `_`, `-`, `.`; not `.` or `..`, and not starting with `-`)",
    |text| has_tenant_characters(text) && !matches!(text, "." | "..") && !text.starts_with('-')
);

impl TenantId {
    /// Reads a tenant id from the database. Earlier versions accepted `.`, `..` and a `-` at the start, and a tenant stored
    /// under such a name must not make its rows, or lists of all tenants, unreadable.
    pub fn parse_stored(text: &str) -> Result<Self, InvalidId> {
        if has_tenant_characters(text) { Ok(Self(text.into())) } else { Self::parse(text) }
    }
}

fn has_tenant_characters(text: &str) -> bool {
    (1..=TENANT_ID_LENGTH).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

identifier!(
    /// Stripe's customer: `cus_...`, or an id of its owner's choosing, which old accounts could give. 1 to 255 characters,
    /// none of them a control character. What Stripe calls a subscription is none.
    CustomerId, "a Stripe customer id (`cus_...`)", |text| {
        is_owner_chosen_id(text) && !text.starts_with("sub_")
    }
);

identifier!(
    /// Stripe's subscription, `sub_...`.
    SubscriptionId, "a Stripe subscription id (`sub_...`)", |text| is_stripe_id(text, "sub_")
);

identifier!(
    /// Stripe's event, `evt_...`.
    EventId, "a Stripe event id (`evt_...`)", |text| is_stripe_id(text, "evt_")
);

identifier!(
    /// Stripe's checkout session, `cs_...`.
    SessionId, "a Stripe checkout session id (`cs_...`)", |text| is_stripe_id(text, "cs_")
);

identifier!(
    /// Stripe's invoice, `in_...`.
    InvoiceId, "a Stripe invoice id (`in_...`)", |text| is_stripe_id(text, "in_")
);

identifier!(
    /// Stripe's account, `acct_...`.
    AccountId, "a Stripe account id (`acct_...`)", |text| is_stripe_id(text, "acct_")
);

identifier!(
    /// A deployment: one installation of Billhook with its database. 1 to 64 of letters, digits, `_`, `-` and `.`.
    DeploymentId, "a deployment id (1 to 64 of letters, digits, `_`, `-`, `.`)", |text| {
        (1..=DEPLOYMENT_ID_LENGTH).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    }
);

identifier!(
    /// Stripe's configuration of the Customer Portal, `bpc_...`.
    PortalConfigurationId, "a Stripe portal configuration id (`bpc_...`)", |text| is_stripe_id(text, "bpc_")
);

identifier!(
    /// A price's id or its lookup key. Prices that began as plans have ids of their owner's choosing: spaces, slashes and
    /// any script. 1 to 255 characters, none of them a control character.
    PriceId, "a price id or lookup key (1 to 255 characters, no control characters)", is_owner_chosen_id
);

impl PriceId {
    /// Whether it has the form of the ids that Stripe gives to prices: then it is an id before it is a lookup key.
    pub fn looks_like_an_id(&self) -> bool {
        self.0.starts_with("price_")
    }
}

identifier!(
    /// A plan's name in the configuration. `free` is nobody's to give: it is what remains without a plan.
    PlanName, "a plan name (1 to 63 of lower-case letters, digits, `_`, `-`; not `free`)", |text| {
        (1..=TENANT_ID_LENGTH).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
            && text != "free"
    }
);

identifier!(
    /// The `sub` of a token: whoever clicked. 1 to 255 characters, none of them a control character.
    UserId, "a user id (1 to 255 characters, no control characters)", |text| {
        (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
    }
);

/// Whether an object's owner may have chosen this id. `.` and `..` would be steps in a URL's path, however they are encoded
/// (<https://url.spec.whatwg.org/#double-dot-path-segment>), so that nothing could be asked about them.
fn is_owner_chosen_id(text: &str) -> bool {
    (1..=STRIPE_ID_LENGTH).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && !matches!(text, "." | "..")
}

fn is_stripe_id(text: &str, prefix: &str) -> bool {
    text.len() <= STRIPE_ID_LENGTH
        && text.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_1_to_63_of_a_small_alphabet() {
        for good in ["a", "acme", "Acme-2.eu_west", "_", "a-", ".well-known", "...", "a..b", &"t".repeat(63)]
        {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a/b", "ä", "a\n", "a@b", &"t".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tenant_named_like_a_path_or_option_is_only_read_back() {
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
    fn a_stripe_id_bears_its_prefix_and_nothing_odd() {
        assert!(SubscriptionId::parse("sub_1MowQVLkdIwHu7ixeRlqHVzs").is_ok());
        for bad in ["", "sub_", "cus_1", "sub_a b", "sub_\u{0}", "SUB_1", &format!("sub_{}", "1".repeat(252))]
        {
            assert!(SubscriptionId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn owner_chosen_id_has_255_characters_and_no_control_character() {
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
        assert!(CustomerId::parse("sub_1").is_err(), "a subscription is no customer");
    }

    #[test]
    fn an_error_never_repeats_the_text() {
        let error = SubscriptionId::parse("sk_live_secret").expect_err("not a subscription id");
        assert!(!error.to_string().contains("sk_live"));
    }
}
