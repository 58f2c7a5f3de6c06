//! The signed examples in the RFCs.

use serde_json::{Value, json};

use super::super::*;
use super::rules;

/// RFC 7515, appendix A.2.1.
const RS256: &str = "eyJhbGciOiJSUzI1NiJ9\
     .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
     .cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujG\
     bds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0G\
     arZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgG\
     Y9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// RFC 7515, appendix A.3.1.
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9\
     .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
     .DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 8037, appendix A.4. Its payload is not JSON.
const EDDSA: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc\
     .hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

const EXPIRES_AT: i64 = 1_300_819_380;

pub(super) fn rsa_jwk() -> Value {
    json!({
        "kty": "RSA", "e": "AQAB",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL\
              -yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e\
              -KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9\
              _h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    })
}

pub(super) fn ec_jwk() -> Value {
    json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

pub(super) fn ed_jwk() -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
}

pub(super) fn keys(jwk: &Value, algorithm: PublicAlgorithm) -> VerificationKeys {
    let set = json!({ "keys": [jwk] }).to_string();
    JwkSet::read(set.as_bytes(), algorithm).expect("a JWK Set").keys
}

pub(super) fn rs256_keys() -> VerificationKeys {
    keys(&rsa_jwk(), PublicAlgorithm::Rs256)
}

pub(super) fn es256_keys() -> VerificationKeys {
    keys(&ec_jwk(), PublicAlgorithm::Es256)
}

pub(super) fn eddsa_keys() -> VerificationKeys {
    keys(&ed_jwk(), PublicAlgorithm::EdDsa)
}

#[test]
fn rfc_example_signatures_are_verified_before_claims() {
    for (token, keys) in [(RS256, rs256_keys()), (ES256, es256_keys())] {
        let verify_at = |now_seconds| verify(token.as_bytes(), &keys, &rules(), now_seconds);
        assert_eq!(verify_at(EXPIRES_AT - 1), Err(TokenError::NoUser), "verified, but without `sub`");
        assert_eq!(verify_at(EXPIRES_AT + LEEWAY_SECONDS), Err(TokenError::Expired));
    }
    let token = signed_token::SignedToken::read(EDDSA.as_bytes()).expect("a token");
    assert_eq!(eddsa_keys().verify_signature(None, token.message, &token.signature), Some(true));
    assert_eq!(eddsa_keys().verify_signature(None, b"another", &token.signature), Some(false));
}

#[test]
fn key_never_verifies_token_of_other_algorithm() {
    for (token, keys) in [
        (RS256, es256_keys()),
        (RS256, eddsa_keys()),
        (ES256, rs256_keys()),
        (ES256, eddsa_keys()),
        (EDDSA, rs256_keys()),
        (EDDSA, es256_keys()),
        (RS256, VerificationKeys::from_secret(b"a secret of at least 32 bytes, as it should be")),
    ] {
        let result = verify(token.as_bytes(), &keys, &rules(), EXPIRES_AT - 1);
        assert_eq!(result, Err(TokenError::Invalid), "{token}");
    }
}
