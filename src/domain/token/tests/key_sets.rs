//! What an issuer publishes, and how much of it is used.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::rfcs::{ec_jwk, ed_jwk, eddsa_keys, rsa_jwk};
use super::{Engine, encoded};

const ALGORITHMS: [PublicAlgorithm; 3] =
    [PublicAlgorithm::Rs256, PublicAlgorithm::Es256, PublicAlgorithm::EdDsa];

fn read(keys: &Value, algorithm: PublicAlgorithm) -> KeySet {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes(), algorithm).expect("a key set")
}

fn with(mut jwk: Value, member: &str, value: Value) -> Value {
    jwk[member] = value;
    jwk
}

/// How many of the keys are used, are unfit, and are private.
fn counted(set: &KeySet) -> (usize, usize, usize) {
    (set.keys.len(), set.unfit, set.private)
}

#[test]
fn of_a_set_the_keys_for_the_algorithm_are_used_and_the_others_left() {
    let all =
        json!([rsa_jwk(), ec_jwk(), ed_jwk(), { "kty": "oct", "k": "c2VjcmV0" }, { "kty": "AKP" }, 7, null]);
    for algorithm in ALGORITHMS {
        assert_eq!(counted(&read(&all, algorithm)), (1, 6, 0), "{algorithm:?}");
    }
    assert_eq!(counted(&read(&json!([]), PublicAlgorithm::Rs256)), (0, 0, 0));
}

#[test]
fn a_key_is_used_only_if_all_that_is_said_of_it_fits() {
    for (jwk, algorithm) in [
        (rsa_jwk(), PublicAlgorithm::Rs256),
        (ec_jwk(), PublicAlgorithm::Es256),
        (ed_jwk(), PublicAlgorithm::EdDsa),
    ] {
        for (member, value) in [
            ("alg", json!(algorithm.name())),
            ("use", json!("sig")),
            ("key_ops", json!(["verify"])),
            ("key_ops", json!(["sign", "verify"])),
            ("kid", json!("k")),
            ("x5c", json!(["MII"])),
            ("issuer", json!({ "any": "thing" })),
        ] {
            let said = with(jwk.clone(), member, value);
            assert_eq!(counted(&read(&json!([said]), algorithm)), (1, 0, 0), "{said}");
        }
        for (member, value) in [
            ("alg", json!("RS512")),
            ("alg", json!("HS256")),
            ("alg", json!("none")),
            ("alg", json!(7)),
            ("use", json!("enc")),
            ("use", json!("")),
            ("key_ops", json!(["encrypt"])),
            ("key_ops", json!([])),
            ("key_ops", json!("verify")),
            ("kty", json!("oct")),
            ("kty", json!(algorithm.name())),
            ("kty", json!(null)),
            ("crv", json!("P-384")),
            ("crv", json!("X25519")),
            ("kid", json!(7)),
            ("kid", json!(["k"])),
        ] {
            let said = with(jwk.clone(), member, value);
            assert_eq!(counted(&read(&json!([said]), algorithm)), (0, 1, 0), "{said}");
        }
    }
}

#[test]
fn a_key_that_is_broken_is_not_used() {
    let zeros = encoded([0; 32]);
    let off_the_curve = with(ec_jwk(), "y", ec_jwk()["x"].clone());
    for broken in [
        with(ec_jwk(), "x", json!("")),
        with(ec_jwk(), "x", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU=")),
        with(ec_jwk(), "x", json!(encoded([0; 33]))),
        with(with(ec_jwk(), "x", json!(zeros)), "y", json!(zeros)),
        off_the_curve,
    ] {
        assert_eq!(counted(&read(&json!([broken]), PublicAlgorithm::Es256)), (0, 1, 0), "{broken}");
    }
    for broken in [with(ed_jwk(), "x", json!("")), with(ed_jwk(), "x", json!(encoded([1; 31])))] {
        assert_eq!(counted(&read(&json!([broken]), PublicAlgorithm::EdDsa)), (0, 1, 0), "{broken}");
    }
    // An exponent of one makes every message its own signature.
    for broken in [
        with(rsa_jwk(), "n", json!("")),
        with(rsa_jwk(), "e", json!("")),
        with(rsa_jwk(), "e", json!("AA")),
        with(rsa_jwk(), "e", json!("AQ")),
        with(rsa_jwk(), "e", json!("Ag")),
        with(rsa_jwk(), "n", json!(encoded([0xff; 128]))),
        with(rsa_jwk(), "n", json!(encoded([0xff; 255]))),
        with(rsa_jwk(), "n", json!(encoded([0xff; 1025]))),
    ] {
        assert_eq!(counted(&read(&json!([broken]), PublicAlgorithm::Rs256)), (0, 1, 0), "{broken}");
    }
    let with_a_zero_before_it = with(rsa_jwk(), "e", json!("AAEAAQ"));
    assert_eq!(counted(&read(&json!([with_a_zero_before_it]), PublicAlgorithm::Rs256)), (1, 0, 0));
}

#[test]
fn a_list_of_a_keys_values_is_not_the_key() {
    let jwk = ed_jwk();
    let values =
        json!([jwk["kty"], null, null, null, null, jwk["crv"], null, null, jwk["x"], null, null, null, null]);
    assert_eq!(counted(&read(&json!([values, jwk]), PublicAlgorithm::EdDsa)), (1, 1, 0));
    let set = json!([[jwk]]).to_string();
    let refused = KeySet::read(set.as_bytes(), PublicAlgorithm::EdDsa);
    assert_eq!(refused.err(), Some(InvalidKeySet::NotAKeySet));
}

#[test]
fn a_key_that_everybody_can_sign_with_is_not_used_and_told() {
    for (jwk, algorithm, member) in [
        (rsa_jwk(), PublicAlgorithm::Rs256, "d"),
        (rsa_jwk(), PublicAlgorithm::Rs256, "p"),
        (ec_jwk(), PublicAlgorithm::Es256, "d"),
        (ed_jwk(), PublicAlgorithm::EdDsa, "d"),
    ] {
        let private = with(jwk, member, json!("AQAB"));
        assert_eq!(counted(&read(&json!([private, rsa_jwk()]), algorithm)).2, 1, "{private}");
    }
}

#[test]
fn what_is_no_key_set_or_far_too_large_a_one_is_refused() {
    for body in
        ["", "<html>", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[],"keys":[]}"#]
    {
        let refused = KeySet::read(body.as_bytes(), PublicAlgorithm::Rs256);
        assert_eq!(refused.err(), Some(InvalidKeySet::NotAKeySet), "{body}");
    }
    let many = |count| json!({ "keys": vec![ed_jwk(); count] }).to_string();
    assert!(KeySet::read(many(64).as_bytes(), PublicAlgorithm::EdDsa).is_ok());
    let refused = KeySet::read(many(65).as_bytes(), PublicAlgorithm::EdDsa);
    assert_eq!(refused.err(), Some(InvalidKeySet::TooManyKeys));
}

#[test]
fn a_token_goes_with_the_key_that_it_names_and_names_none_only_if_there_is_one() {
    let (ours, another) =
        (Ed25519KeyPair::generate().expect("a key"), Ed25519KeyPair::generate().expect("a key"));
    let jwk = |key: &Ed25519KeyPair, kid: Option<&str>| {
        let mut jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key().as_ref()) });
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    };
    let signature = ours.sign(b"message");
    let held = |keys: Value, kid: Option<&str>| {
        read(&keys, PublicAlgorithm::EdDsa).keys.have_signed(kid, b"message", signature.as_ref())
    };
    let two = json!([jwk(&another, Some("a")), jwk(&ours, Some("b"))]);
    assert_eq!(held(two.clone(), Some("b")), Some(true));
    assert_eq!(held(two.clone(), Some("a")), Some(false), "the other key is not tried");
    for kid in ["", "B", "b ", "../b", "b\u{0}", "' OR 1=1 --", "http://evil.example/jwks"] {
        assert_eq!(held(two.clone(), Some(kid)), None, "{kid}");
    }
    assert_eq!(held(two, None), None, "which of them?");
    assert_eq!(held(json!([jwk(&ours, Some("b"))]), None), Some(true));
    assert_eq!(held(json!([jwk(&ours, None)]), None), Some(true));
    assert_eq!(held(json!([jwk(&ours, None)]), Some("b")), None);
    let same_name = json!([jwk(&another, Some("a")), jwk(&ours, Some("a"))]);
    assert_eq!(held(same_name, Some("a")), Some(true), "either may go by the name");
    assert_eq!(held(json!([]), Some("a")), None);
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

#[test]
fn a_pem_has_one_public_key_for_the_algorithm() {
    let rsa = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
    let ed = Ed25519KeyPair::generate().expect("a key");
    let public = |der: &[u8]| pem("PUBLIC KEY", der);
    let rsa_pem = public(rsa.public_key().as_der().expect("DER").as_ref());
    let p256_pem = public(p256.public_key().as_der().expect("DER").as_ref());
    let p384_pem = public(p384.public_key().as_der().expect("DER").as_ref());
    let ed_pem = public(ed.public_key().as_der().expect("DER").as_ref());
    let read = |pem: &str, algorithm| PublicKey::from_pem(pem.as_bytes(), algorithm).map(|_| ());

    for (pem, fit) in [
        (&rsa_pem, Some(PublicAlgorithm::Rs256)),
        (&p256_pem, Some(PublicAlgorithm::Es256)),
        (&p384_pem, None),
        (&ed_pem, Some(PublicAlgorithm::EdDsa)),
    ] {
        for algorithm in ALGORITHMS {
            let expected = if fit == Some(algorithm) { Ok(()) } else { Err(InvalidPem::Unfit(algorithm)) };
            assert_eq!(read(pem, algorithm), expected, "{algorithm:?}: {pem}");
            assert_eq!(read(&format!("A comment\n\n{pem}\n"), algorithm), expected);
        }
    }
    let private = pem("PRIVATE KEY", ed.to_pkcs8v1().expect("PKCS 8").as_ref());
    for (pem, error) in [
        (String::new(), InvalidPem::NoPublicKey),
        ("a secret".to_owned(), InvalidPem::NoPublicKey),
        (ed_pem.replace("END", "FIN"), InvalidPem::NoPublicKey),
        (ed_pem.replace("PUBLIC KEY", "CERTIFICATE"), InvalidPem::NoPublicKey),
        (format!("{ed_pem}{p256_pem}"), InvalidPem::Several),
        (private.clone(), InvalidPem::Private),
        (format!("{ed_pem}{private}"), InvalidPem::Private),
        (pem("PUBLIC KEY", b"no DER"), InvalidPem::Unfit(PublicAlgorithm::EdDsa)),
    ] {
        assert_eq!(read(&pem, PublicAlgorithm::EdDsa), Err(error), "{pem}");
    }
}

#[test]
fn an_rsa_key_of_less_than_2048_bits_is_refused() {
    // openssl genrsa 1024 | openssl rsa -pubout
    let short = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDZn9UqFmSSkJnDsgnGkWKQOm5E
NzYw9wJts7CueaMkJlupeMZueluKxNzYcRM4zZ00kQiblOb2147wZNdaLBKdsqpz
cvaqojDqTJoYa8d1p3PepGtaQWaMt5PvfpBWkUssP7yjWZmKAQlLBsG6lURWhkeu
BfRleqrTzvyJ7fuxvwIDAQAB
-----END PUBLIC KEY-----
";
    let refused = PublicKey::from_pem(short.as_bytes(), PublicAlgorithm::Rs256);
    assert_eq!(refused.err(), Some(InvalidPem::Unfit(PublicAlgorithm::Rs256)));
}

#[test]
fn keys_cannot_be_printed() {
    assert_eq!(format!("{:?}", eddsa_keys()), "Keys(1 for EdDSA)");
}

proptest! {
    #[test]
    fn whatever_an_issuer_answers_is_read_or_refused_and_never_panics(
        body in any::<Vec<u8>>(),
        kty in prop::sample::select(vec!["RSA", "EC", "OKP", "oct", ""]),
        crv in prop::option::of(prop::sample::select(vec!["P-256", "Ed25519", "secp256k1"])),
        numbers in prop::collection::vec(any::<Vec<u8>>(), 4),
    ) {
        let [n, e, x, y] = [0, 1, 2, 3].map(|at: usize| encoded(&numbers[at]));
        let likely = json!({ "keys": [{ "kty": kty, "crv": crv, "n": n, "e": e, "x": x, "y": y }] }).to_string();
        for algorithm in ALGORITHMS {
            let _ = KeySet::read(&body, algorithm);
            let _ = PublicKey::from_pem(&body, algorithm);
            let set = KeySet::read(likely.as_bytes(), algorithm).expect("a key set");
            prop_assert_eq!(set.keys.len() + set.unfit, 1);
        }
    }
}
