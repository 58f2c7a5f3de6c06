//! Tokens. An independent verifier, by RFC 7515 and RFC 7519 and with its own base64url, HMAC and
//! JSON, gives the same result.

mod reference;

use std::sync::LazyLock;

use arbitrary::Unstructured;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::json::Json;
use super::signature::hmac;
use crate::domain::token::{
    ClaimPath, JwkSet, LEEWAY_SECONDS, PublicAlgorithm, RoleRule, TokenError, TokenRules, VerificationKeys,
    verify,
};

const SECRET: &[u8] = b"a secret of at least 32 bytes, as it should be";

const NOW: i64 = 1_700_000_000;

const MAX_TOKEN_LENGTH: usize = 8192;

const MAX_KEYS: usize = 64;

struct Issuer {
    algorithm: &'static str,
    keys: VerificationKeys,
    signers: Vec<(Option<&'static str>, Signer)>,
}

enum Signer {
    Unsigned,
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

    /// Both algorithms are deterministic.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Unsigned => Vec::new(),
            Self::Secret(secret) => hmac(secret, &[message]).to_vec(),
            Self::Key(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// One issuer with a shared secret, and one with two published keys.
static ISSUERS: LazyLock<[Issuer; 2]> = LazyLock::new(|| {
    let [one, two] = [Signer::key(1), Signer::key(2)];
    let jwk = |kid: &str, key: &Signer| {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{}"}}"#, base64url(key.public()))
    };
    let set = format!(r#"{{"keys":[{},{}]}}"#, jwk("one", &one), jwk("two", &two));
    let published = JwkSet::read(set.as_bytes(), PublicAlgorithm::EdDsa).expect("a key set").keys;
    let secret = Signer::Secret(SECRET.to_vec());
    [
        Issuer {
            algorithm: "HS256",
            keys: VerificationKeys::from_secret(SECRET),
            signers: vec![(None, secret)],
        },
        Issuer { algorithm: "EdDSA", keys: published, signers: vec![(Some("one"), one), (Some("two"), two)] },
    ]
});

/// The signers of generated tokens: the issuers, and attackers who know the issuers' public keys.
static SIGNERS: LazyLock<[Signer; 6]> = LazyLock::new(|| {
    let [one, two] = [Signer::key(1), Signer::key(2)];
    let confused = Signer::Secret(one.public().to_vec());
    let shared = Signer::Secret(SECRET.to_vec());
    [shared, one, two, confused, Signer::key(3), Signer::Unsigned]
});

struct Expected {
    tenant_path: &'static [&'static str],
    rules: TokenRules,
}

const ROLES_PATH: &[&str] = &["realm", "roles"];

/// All rules, and none.
static EXPECTED: LazyLock<[Expected; 2]> = LazyLock::new(|| {
    let name = |path: &[&str]| ClaimPath::parse(&path.join(".")).expect("a claim's name");
    let text = |text: &str| Some(text.to_owned());
    let roles = RoleRule { claim: name(ROLES_PATH), roles: vec!["owner".into(), "Billing Admin".into()] };
    let all = TokenRules {
        tenant_claim: name(&["tenant"]),
        issuer: text("https://issuer.example"),
        audience: text("billhook"),
        scope: text("billing"),
        manage_scope: text("billing:manage"),
        manage_roles: Some(roles),
    };
    let none = TokenRules {
        tenant_claim: name(&["org", "id"]),
        issuer: None,
        audience: None,
        scope: None,
        manage_scope: None,
        manage_roles: None,
    };
    [Expected { tenant_path: &["tenant"], rules: all }, Expected { tenant_path: &["org", "id"], rules: none }]
});

/// Random bytes as a token.
pub fn bytes(data: &[u8]) {
    for expected in EXPECTED.iter() {
        check_token(data, expected, NOW);
    }
}

/// A generated token, with mutated claims, by any of the signers.
pub fn claims(data: &[u8]) {
    if let Ok((token, expected, now)) = generate(&mut Unstructured::new(data)) {
        check_token(&token, expected, now);
    }
}

/// Random bytes as a key set.
pub fn keys(data: &[u8]) {
    let json: Option<Json> = serde_json::from_slice(data).ok();
    let published = json.as_ref().and_then(|json| match json.members(&["keys"])?.get("keys") {
        Some(Json::List(keys)) => Some(keys),
        _ => None,
    });
    for algorithm in [PublicAlgorithm::Rs256, PublicAlgorithm::Es256, PublicAlgorithm::EdDsa] {
        let Ok(set) = JwkSet::read(data, algorithm) else {
            continue;
        };
        assert!(set.keys.len() <= MAX_KEYS);
        let Some(published) = published else { continue };
        assert_eq!(set.keys.len() + set.unusable + set.private, published.len(), "each key is counted");
        let is_open = |key: &&Json| {
            key.members(&["d"]).is_some_and(|key| key.get("d").is_none_or(|d| *d == Json::Null))
        };
        assert!(set.keys.len() <= published.iter().filter(is_open).count(), "private keys are refused");
        let unsigned = verify(b"e30.e30.", &set.keys, &EXPECTED[1].rules, NOW);
        assert_eq!(unsigned, Err(TokenError::Invalid));
    }
}

fn check_token(token: &[u8], expected: &Expected, now: i64) {
    for issuer in ISSUERS.iter() {
        let bearer = verify(token, &issuer.keys, &expected.rules, now);
        assert_eq!(bearer, reference::bearer(token, issuer, expected, now), "{}", token.escape_ascii());
        if bearer.is_ok() {
            assert_changed_tokens_are_refused(token, issuer, &expected.rules, now);
        }
    }
}

fn assert_changed_tokens_are_refused(token: &[u8], issuer: &Issuer, rules: &TokenRules, now: i64) {
    let step = token.len() / 5 + 1;
    for index in (0..token.len()).step_by(step) {
        let mut other = token.to_vec();
        other[index] ^= 1;
        assert!(verify(&other, &issuer.keys, rules, now).is_err(), "byte {index} can be changed");
    }
    for suffix in [&b"="[..], b".", b"A", b" ", b"\n"] {
        let longer = [token, suffix].concat();
        assert!(
            verify(&longer, &issuer.keys, rules, now).is_err(),
            "{} can be appended",
            suffix.escape_ascii()
        );
    }
    let in_the_year_10_000 = 253_402_300_800 + LEEWAY_SECONDS;
    assert_eq!(
        verify(token, &issuer.keys, rules, in_the_year_10_000),
        Err(TokenError::Expired),
        "every token expires"
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

const MAX_DEPTH: usize = 3;

fn generate(u: &mut Unstructured<'_>) -> arbitrary::Result<(Vec<u8>, &'static Expected, i64)> {
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

/// Usually the right header for the signer.
fn header(u: &mut Unstructured<'_>, signer: usize) -> arbitrary::Result<Json> {
    let text = |text: &str| Json::Text(text.to_owned());
    let usual = match SIGNERS[signer] {
        Signer::Secret(_) | Signer::Unsigned => vec![("alg", text("HS256"))],
        Signer::Key(_) => {
            vec![("alg", text("EdDSA")), ("kid", text(if signer == 1 { "one" } else { "two" }))]
        }
    };
    Json::with_mutations(u, usual, &HEADER_KEYS, &HEADER_WORDS, MAX_DEPTH)
}

/// Usually claims that satisfy all rules.
fn payload(u: &mut Unstructured<'_>) -> arbitrary::Result<Json> {
    let text = |text: &str| Json::Text(text.to_owned());
    let mut some = |usual| Json::with_mutations(u, usual, &CLAIMS, &CLAIM_WORDS, MAX_DEPTH);
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
    Json::with_mutations(u, usual, &CLAIMS, &CLAIM_WORDS, MAX_DEPTH)
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
