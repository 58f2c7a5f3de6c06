//! Which keys of an issuer's JWK Set or PEM file are used.

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
use super::rfc_examples::{ec_jwk, ed_jwk, eddsa_keys, rsa_jwk};
use super::{Engine, encoded};

const ALGORITHMS: [PublicAlgorithm; 3] =
    [PublicAlgorithm::Rs256, PublicAlgorithm::Es256, PublicAlgorithm::EdDsa];

fn read(keys: &Value, algorithm: PublicAlgorithm) -> JwkSet {
    JwkSet::read(json!({ "keys": keys }).to_string().as_bytes(), algorithm).expect("a JWK Set")
}

fn with(mut jwk: Value, member: &str, value: Value) -> Value {
    jwk[member] = value;
    jwk
}

/// The numbers of used, unusable and private keys.
fn counts(set: &JwkSet) -> (usize, usize, usize) {
    (set.keys.len(), set.unusable, set.private)
}

#[test]
fn jwk_set_uses_only_keys_for_the_algorithm() {
    let all =
        json!([rsa_jwk(), ec_jwk(), ed_jwk(), { "kty": "oct", "k": "c2VjcmV0" }, { "kty": "AKP" }, 7, null]);
    for algorithm in ALGORITHMS {
        assert_eq!(counts(&read(&all, algorithm)), (1, 6, 0), "{algorithm:?}");
    }
    assert_eq!(counts(&read(&json!([]), PublicAlgorithm::Rs256)), (0, 0, 0));
}

#[test]
fn jwk_with_conflicting_parameter_is_not_used() {
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
            let changed = with(jwk.clone(), member, value);
            assert_eq!(counts(&read(&json!([changed]), algorithm)), (1, 0, 0), "{changed}");
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
            let changed = with(jwk.clone(), member, value);
            assert_eq!(counts(&read(&json!([changed]), algorithm)), (0, 1, 0), "{changed}");
        }
    }
}

#[test]
fn invalid_jwk_is_not_used() {
    let zeros = encoded([0; 32]);
    let off_the_curve = with(ec_jwk(), "y", ec_jwk()["x"].clone());
    for broken in [
        with(ec_jwk(), "x", json!("")),
        with(ec_jwk(), "x", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU=")),
        with(ec_jwk(), "x", json!(encoded([0; 33]))),
        with(with(ec_jwk(), "x", json!(zeros)), "y", json!(zeros)),
        off_the_curve,
    ] {
        assert_eq!(counts(&read(&json!([broken]), PublicAlgorithm::Es256)), (0, 1, 0), "{broken}");
    }
    for broken in [with(ed_jwk(), "x", json!("")), with(ed_jwk(), "x", json!(encoded([1; 31])))] {
        assert_eq!(counts(&read(&json!([broken]), PublicAlgorithm::EdDsa)), (0, 1, 0), "{broken}");
    }
    // With an exponent of one, every message would be its own signature.
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
        assert_eq!(counts(&read(&json!([broken]), PublicAlgorithm::Rs256)), (0, 1, 0), "{broken}");
    }
    let leading_zero = with(rsa_jwk(), "e", json!("AAEAAQ"));
    assert_eq!(counts(&read(&json!([leading_zero]), PublicAlgorithm::Rs256)), (1, 0, 0));
}

#[test]
fn array_of_jwk_values_is_not_a_jwk() {
    let jwk = ed_jwk();
    let values =
        json!([jwk["kty"], null, null, null, null, jwk["crv"], null, null, jwk["x"], null, null, null, null]);
    assert_eq!(counts(&read(&json!([values, jwk]), PublicAlgorithm::EdDsa)), (1, 1, 0));
    let set = json!([[jwk]]).to_string();
    let rejected = JwkSet::read(set.as_bytes(), PublicAlgorithm::EdDsa);
    assert_eq!(rejected.err(), Some(InvalidJwkSet::NotAJwkSet));
}

#[test]
fn private_jwk_is_counted_and_not_used() {
    for (jwk, algorithm, member) in [
        (rsa_jwk(), PublicAlgorithm::Rs256, "d"),
        (rsa_jwk(), PublicAlgorithm::Rs256, "p"),
        (ec_jwk(), PublicAlgorithm::Es256, "d"),
        (ed_jwk(), PublicAlgorithm::EdDsa, "d"),
    ] {
        let private = with(jwk, member, json!("AQAB"));
        assert_eq!(counts(&read(&json!([private, rsa_jwk()]), algorithm)).2, 1, "{private}");
    }
}

#[test]
fn invalid_or_too_large_jwk_set_is_rejected() {
    for body in
        ["", "<html>", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[],"keys":[]}"#]
    {
        let rejected = JwkSet::read(body.as_bytes(), PublicAlgorithm::Rs256);
        assert_eq!(rejected.err(), Some(InvalidJwkSet::NotAJwkSet), "{body}");
    }
    let many = |count| json!({ "keys": vec![ed_jwk(); count] }).to_string();
    assert!(JwkSet::read(many(64).as_bytes(), PublicAlgorithm::EdDsa).is_ok());
    let rejected = JwkSet::read(many(65).as_bytes(), PublicAlgorithm::EdDsa);
    assert_eq!(rejected.err(), Some(InvalidJwkSet::TooManyKeys));
}

#[test]
fn token_is_verified_by_kid_or_by_the_only_key() {
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
    let verified = |keys: Value, kid: Option<&str>| {
        read(&keys, PublicAlgorithm::EdDsa).keys.verify_signature(kid, b"message", signature.as_ref())
    };
    let two = json!([jwk(&another, Some("a")), jwk(&ours, Some("b"))]);
    assert_eq!(verified(two.clone(), Some("b")), Some(true));
    assert_eq!(verified(two.clone(), Some("a")), Some(false), "the other key is not tried");
    for kid in ["", "B", "b ", "../b", "b\u{0}", "' OR 1=1 --", "http://evil.example/jwks"] {
        assert_eq!(verified(two.clone(), Some(kid)), None, "{kid}");
    }
    assert_eq!(verified(two, None), None, "ambiguous");
    assert_eq!(verified(json!([jwk(&ours, Some("b"))]), None), Some(true));
    assert_eq!(verified(json!([jwk(&ours, None)]), None), Some(true));
    assert_eq!(verified(json!([jwk(&ours, None)]), Some("b")), None);
    let same_name = json!([jwk(&another, Some("a")), jwk(&ours, Some("a"))]);
    assert_eq!(verified(same_name, Some("a")), Some(true), "either key may match");
    assert_eq!(verified(json!([]), Some("a")), None);
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

#[test]
fn pem_must_contain_one_public_key_for_the_algorithm() {
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

    for (pem, usable_for) in [
        (&rsa_pem, Some(PublicAlgorithm::Rs256)),
        (&p256_pem, Some(PublicAlgorithm::Es256)),
        (&p384_pem, None),
        (&ed_pem, Some(PublicAlgorithm::EdDsa)),
    ] {
        for algorithm in ALGORITHMS {
            let expected =
                if usable_for == Some(algorithm) { Ok(()) } else { Err(InvalidPem::WrongKeyType(algorithm)) };
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
        (pem("PUBLIC KEY", b"no DER"), InvalidPem::WrongKeyType(PublicAlgorithm::EdDsa)),
    ] {
        assert_eq!(read(&pem, PublicAlgorithm::EdDsa), Err(error), "{pem}");
    }
}

#[test]
fn rsa_key_below_2048_bits_is_rejected() {
    // openssl genrsa 1024 | openssl rsa -pubout
    let short = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDZn9UqFmSSkJnDsgnGkWKQOm5E
NzYw9wJts7CueaMkJlupeMZueluKxNzYcRM4zZ00kQiblOb2147wZNdaLBKdsqpz
cvaqojDqTJoYa8d1p3PepGtaQWaMt5PvfpBWkUssP7yjWZmKAQlLBsG6lURWhkeu
BfRleqrTzvyJ7fuxvwIDAQAB
-----END PUBLIC KEY-----
";
    let rejected = PublicKey::from_pem(short.as_bytes(), PublicAlgorithm::Rs256);
    assert_eq!(rejected.err(), Some(InvalidPem::WrongKeyType(PublicAlgorithm::Rs256)));
}

#[test]
fn verification_keys_are_never_printed() {
    assert_eq!(format!("{:?}", eddsa_keys()), "VerificationKeys(1 for EdDSA)");
}

proptest! {
    #[test]
    fn arbitrary_jwk_set_and_pem_never_panic(
        body in any::<Vec<u8>>(),
        kty in prop::sample::select(vec!["RSA", "EC", "OKP", "oct", ""]),
        crv in prop::option::of(prop::sample::select(vec!["P-256", "Ed25519", "secp256k1"])),
        numbers in prop::collection::vec(any::<Vec<u8>>(), 4),
    ) {
        let [n, e, x, y] = [0, 1, 2, 3].map(|at: usize| encoded(&numbers[at]));
        let plausible = json!({ "keys": [{ "kty": kty, "crv": crv, "n": n, "e": e, "x": x, "y": y }] }).to_string();
        for algorithm in ALGORITHMS {
            let _ = JwkSet::read(&body, algorithm);
            let _ = PublicKey::from_pem(&body, algorithm);
            let set = JwkSet::read(plausible.as_bytes(), algorithm).expect("a JWK Set");
            prop_assert_eq!(set.keys.len() + set.unusable, 1);
        }
    }
}
