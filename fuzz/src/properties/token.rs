//! Tokens. Whoever is believed was named by the holder of one of our keys, in a token that is for us and of now; read
//! once more by RFC 7515 and RFC 7519, with another base64, another HMAC and another reader of JSON.

mod reading;

use std::sync::LazyLock;

use arbitrary::Unstructured;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::json::Json;
use super::signature::hmac;
use crate::domain::token::{
    ClaimName, KeySet, Keys, LEEWAY_SECONDS, PublicAlgorithm, Refusal, RoleRule, TokenRules, verify,
};

const SECRET: &[u8] = b"a secret of at least 32 bytes, as it should be";

const NOW: i64 = 1_700_000_000;

/// The longest token that is looked at.
const TOKEN_LENGTH: usize = 8192;

/// The most keys that are taken.
const KEYS: usize = 64;

/// Somebody whose tokens may be taken.
struct Issuer {
    algorithm: &'static str,
    keys: Keys,
    signers: Vec<(Option<&'static str>, Signer)>,
}

/// Whoever can sign something.
enum Signer {
    Nobody,
    Secret(Vec<u8>),
    Key(Ed25519KeyPair),
}

impl Signer {
    fn key(seed: u8) -> Self {
        Self::Key(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed"))
    }

    fn public(&self) -> &[u8] {
        if let Self::Key(key) = self { key.public_key().as_ref() } else { &[] }
    }

    /// There is one signature of a message by a key, of either kind.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Nobody => Vec::new(),
            Self::Secret(secret) => hmac(secret, &[message]).to_vec(),
            Self::Key(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// One that shares a secret with us, and one that publishes two keys.
static ISSUERS: LazyLock<[Issuer; 2]> = LazyLock::new(|| {
    let [one, two] = [Signer::key(1), Signer::key(2)];
    let jwk = |kid: &str, key: &Signer| {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{}"}}"#, base64url(key.public()))
    };
    let set = format!(r#"{{"keys":[{},{}]}}"#, jwk("one", &one), jwk("two", &two));
    let published = KeySet::read(set.as_bytes(), PublicAlgorithm::EdDsa).expect("a key set").keys;
    let secret = Signer::Secret(SECRET.to_vec());
    [
        Issuer { algorithm: "HS256", keys: Keys::of_secret(SECRET), signers: vec![(None, secret)] },
        Issuer { algorithm: "EdDSA", keys: published, signers: vec![(Some("one"), one), (Some("two"), two)] },
    ]
});

/// Those who sign what comes: our issuers, and others with what they can know of our issuers' keys.
static SIGNERS: LazyLock<[Signer; 6]> = LazyLock::new(|| {
    let [one, two] = [Signer::key(1), Signer::key(2)];
    let confused = Signer::Secret(one.public().to_vec());
    let shared = Signer::Secret(SECRET.to_vec());
    [shared, one, two, confused, Signer::key(3), Signer::Nobody]
});

/// What is asked of a token, and the way to the claim that names its tenant.
struct Expected {
    tenant_at: &'static [&'static str],
    rules: TokenRules,
}

/// The way to the claim that names roles.
const ROLES_AT: &[&str] = &["realm", "roles"];

/// Everything that can be asked, and nothing.
static EXPECTED: LazyLock<[Expected; 2]> = LazyLock::new(|| {
    let name = |way: &[&str]| ClaimName::parse(&way.join(".")).expect("a claim's name");
    let text = |text: &str| Some(text.to_owned());
    let roles = RoleRule { claim: name(ROLES_AT), roles: vec!["owner".into(), "Billing Admin".into()] };
    let everything = TokenRules {
        tenant_claim: name(&["tenant"]),
        issuer: text("https://issuer.example"),
        audience: text("billhook"),
        scope: text("billing"),
        manage_scope: text("billing:manage"),
        manage_roles: Some(roles),
    };
    let nothing = TokenRules {
        tenant_claim: name(&["org", "id"]),
        issuer: None,
        audience: None,
        scope: None,
        manage_scope: None,
        manage_roles: None,
    };
    [
        Expected { tenant_at: &["tenant"], rules: everything },
        Expected { tenant_at: &["org", "id"], rules: nothing },
    ]
});

/// A token of any bytes.
pub fn bytes(data: &[u8]) {
    for expected in EXPECTED.iter() {
        holds(data, expected, NOW);
    }
}

/// A token of claims that are right, or nearly, signed by somebody.
pub fn claims(data: &[u8]) {
    if let Ok((token, expected, now)) = make_up(&mut Unstructured::new(data)) {
        holds(&token, expected, now);
    }
}

/// A key set of any bytes.
pub fn keys(data: &[u8]) {
    let json: Option<Json> = serde_json::from_slice(data).ok();
    let published = json.as_ref().and_then(|json| match json.members(&["keys"])?.get("keys") {
        Some(Json::List(keys)) => Some(keys),
        _ => None,
    });
    for algorithm in [PublicAlgorithm::Rs256, PublicAlgorithm::Es256, PublicAlgorithm::EdDsa] {
        let Ok(set) = KeySet::read(data, algorithm) else {
            continue;
        };
        assert!(set.keys.len() <= KEYS);
        let Some(published) = published else { continue };
        assert_eq!(set.keys.len() + set.unfit + set.private, published.len(), "each key is taken or not");
        let is_open = |key: &&Json| {
            key.members(&["d"]).is_some_and(|key| key.get("d").is_none_or(|d| *d == Json::Null))
        };
        assert!(set.keys.len() <= published.iter().filter(is_open).count(), "no private key is taken");
        let nobody = verify(b"e30.e30.", &set.keys, &EXPECTED[1].rules, NOW);
        assert_eq!(nobody, Err(Refusal::Invalid));
    }
}

fn holds(token: &[u8], expected: &Expected, now: i64) {
    for issuer in ISSUERS.iter() {
        let bearer = verify(token, &issuer.keys, &expected.rules, now);
        assert_eq!(bearer, reading::bearer(token, issuer, expected, now), "{}", token.escape_ascii());
        if bearer.is_ok() {
            no_other_token_is_as_good(token, issuer, &expected.rules, now);
        }
    }
}

/// Whatever is changed about a good token makes it a bad one.
fn no_other_token_is_as_good(token: &[u8], issuer: &Issuer, rules: &TokenRules, now: i64) {
    let step = token.len() / 5 + 1;
    for index in (0..token.len()).step_by(step) {
        let mut other = token.to_vec();
        other[index] ^= 1;
        assert!(verify(&other, &issuer.keys, rules, now).is_err(), "byte {index} may be another");
    }
    for suffix in [&b"="[..], b".", b"A", b" ", b"\n"] {
        let longer = [token, suffix].concat();
        assert!(verify(&longer, &issuer.keys, rules, now).is_err(), "{} may follow", suffix.escape_ascii());
    }
    let in_the_year_10_000 = 253_402_300_800 + LEEWAY_SECONDS;
    assert_eq!(
        verify(token, &issuer.keys, rules, in_the_year_10_000),
        Err(Refusal::Expired),
        "no token is for ever"
    );
}

const HEADER_KEYS: [&str; 9] = ["alg", "typ", "kid", "crit", "b64", "cty", "jku", "jwk", "enc"];

const HEADER_WORDS: [&str; 12] = [
    "HS256",
    "EdDSA",
    "none",
    "None",
    "hs256",
    "RS256",
    "JWT",
    "at+jwt",
    "application/JWT",
    "one",
    "two",
    "exp",
];

const CLAIMS: [&str; 14] = [
    "sub",
    "tenant",
    "org",
    "id",
    "exp",
    "nbf",
    "iat",
    "iss",
    "aud",
    "scope",
    "realm",
    "roles",
    "unheard_of",
    "scp",
];

const CLAIM_WORDS: [&str; 12] = [
    "user-1",
    "acme",
    "https://issuer.example",
    "billhook",
    "billing",
    "billing:service",
    "billing:manage billing",
    "owner",
    "Billing Admin",
    "1700000000",
    "",
    "\u{0}",
];

/// How deep what is made up goes.
const DEPTH: usize = 3;

fn make_up(u: &mut Unstructured<'_>) -> arbitrary::Result<(Vec<u8>, &'static Expected, i64)> {
    let expected = &EXPECTED[u.choose_index(EXPECTED.len())?];
    let signer = u.choose_index(SIGNERS.len())?;
    let now = NOW + i64::from(u.arbitrary::<i16>()?);
    let message = format!("{}.{}", part(&header(u, signer)?), part(&payload(u)?));
    let token = format!("{message}.{}", base64url(&SIGNERS[signer].sign(message.as_bytes())));
    let mut token = token.into_bytes();
    if u.int_in_range(0..=7)? == 7 {
        let index = u.choose_index(token.len())?;
        token[index] = u.arbitrary()?;
    }
    Ok((token, expected, now))
}

/// The header that goes with the signer, as a rule.
fn header(u: &mut Unstructured<'_>, signer: usize) -> arbitrary::Result<Json> {
    let text = |text: &str| Json::Text(text.to_owned());
    let usual = match SIGNERS[signer] {
        Signer::Secret(_) | Signer::Nobody => vec![("alg", text("HS256"))],
        Signer::Key(_) => {
            vec![("alg", text("EdDSA")), ("kid", text(if signer == 1 { "one" } else { "two" }))]
        }
    };
    Json::with_accidents(u, usual, &HEADER_KEYS, &HEADER_WORDS, DEPTH)
}

/// Claims that all rules are content with, as a rule.
fn payload(u: &mut Unstructured<'_>) -> arbitrary::Result<Json> {
    let text = |text: &str| Json::Text(text.to_owned());
    let mut some = |usual| Json::with_accidents(u, usual, &CLAIMS, &CLAIM_WORDS, DEPTH);
    let org = some(vec![("id", text("acme"))])?;
    let realm = some(vec![("roles", Json::List(vec![text("member"), text("owner")]))])?;
    let end = NOW + i64::from(u.arbitrary::<i16>()?);
    let usual = vec![
        ("sub", text("user-1")),
        ("tenant", text("acme")),
        ("exp", Json::Number(end.into())),
        ("iss", text("https://issuer.example")),
        ("aud", text("billhook")),
        ("scope", text("billing billing:manage")),
        ("org", org),
        ("realm", realm),
    ];
    Json::with_accidents(u, usual, &CLAIMS, &CLAIM_WORDS, DEPTH)
}

fn part(json: &Json) -> String {
    base64url(json.to_string().as_bytes())
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64url without padding: RFC 7515, appendix C.
fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}
