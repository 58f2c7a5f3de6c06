//! An identity provider: signing keys, an HTTP server that publishes them as a JWKS, and the
//! failures of both.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub const ISSUER: &str = "https://id.example.com/";
pub const AUDIENCE: &str = "https://billing.example.com";

/// A new key pair. It signs with another implementation than the one that verifies.
pub struct SigningKey {
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    /// The public key as PEM.
    pub pem: String,
    /// The public key as the issuer publishes it, with `kid` and `alg`.
    pub jwk: Value,
}

impl SigningKey {
    pub fn new(algorithm: Algorithm, kid: &str) -> Self {
        let (key, public) = match algorithm {
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
                let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&pair).expect("PKCS 8");
                // The RSAPrivateKey of RFC 8017 starts after 26 bytes of PKCS 8 header.
                let key = EncodingKey::from_rsa_der(&private.as_ref()[26..]);
                (key, pair.public_key().as_der().expect("DER").as_ref().to_vec())
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
                let private = pair.to_pkcs8v1().expect("PKCS 8");
                let key = EncodingKey::from_ec_der(private.as_ref());
                (key, pair.public_key().as_der().expect("DER").as_ref().to_vec())
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().expect("a key");
                let private = pair.to_pkcs8v1().expect("PKCS 8");
                let key = EncodingKey::from_ed_der(private.as_ref());
                (key, pair.public_key().as_der().expect("DER").as_ref().to_vec())
            }
            other => panic!("{other:?} is not supported"),
        };
        let jwk = Jwk::from_encoding_key(&key, algorithm).expect("a JWK");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        let pem =
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(public));
        Self { algorithm, key, pem, jwk }
    }

    /// The value of `alg`.
    pub fn alg(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    pub fn kid(&self) -> &str {
        self.jwk["kid"].as_str().expect("a kid")
    }

    /// A token as the issuer signs it.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.alg(), "typ": "JWT", "kid": self.kid() }), claims)
    }

    /// Takes any header.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        sign(header, claims, &self.key, self.algorithm)
    }
}

/// Signs any header and claims with any algorithm that the key supports.
pub fn sign(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = signing_input(header, claims);
    let signature = crypto::sign(message.as_bytes(), key, algorithm).expect("a signature");
    format!("{message}.{signature}")
}

/// The signed part of a token: header and claims.
pub fn signing_input(header: &Value, claims: &Value) -> String {
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encoded(header), encoded(claims))
}

/// How the issuer responds to a request for its keys.
#[derive(Clone)]
pub enum JwksResponse {
    Keys(Vec<Value>),
    Status(u16),
    Redirect(String),
    Body(Vec<u8>),
    /// Sends less than its `Content-Length`.
    Truncated,
    /// A body that never ends.
    Endless,
    /// Nothing, and the connection stays open.
    NoResponse,
    ConnectionClosed,
}

pub struct Issuer {
    pub url: String,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

struct State {
    response: JwksResponse,
    fetches: usize,
}

impl Issuer {
    pub async fn publishing(keys: &[&SigningKey]) -> Self {
        Self::responding_with(JwksResponse::Keys(keys.iter().map(|key| key.jwk.clone()).collect())).await
    }

    pub async fn responding_with(response: JwksResponse) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { response, fetches: 0 }));
        let shared = state.clone();
        let server = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.expect("a connection");
                // An error of one connection is ignored.
                tokio::spawn(respond(connection, shared.clone()));
            }
        });
        Self { url: format!("http://{address}/jwks.json?client=canary-of-the-url"), state, server }
    }

    pub fn publish(&self, keys: &[&SigningKey]) {
        self.respond_with(JwksResponse::Keys(keys.iter().map(|key| key.jwk.clone()).collect()));
    }

    pub fn respond_with(&self, response: JwksResponse) {
        self.state.lock().expect("not poisoned").response = response;
    }

    /// How often its keys were fetched.
    pub fn fetches(&self) -> usize {
        self.state.lock().expect("not poisoned").fetches
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn respond(mut connection: TcpStream, state: Arc<Mutex<State>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = connection.read_u8().await else { return };
        request.push(byte);
    }
    let response = {
        let mut state = state.lock().expect("not poisoned");
        state.fetches += 1;
        state.response.clone()
    };
    let head = |status: u16, more_headers: &str| {
        format!("HTTP/1.1 {status} Reason\r\nConnection: close\r\n{more_headers}\r\n")
    };
    let with_body = |body: &[u8]| {
        let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        [head(200, &length).as_bytes(), body].concat()
    };
    let bytes = match response {
        JwksResponse::Keys(keys) => with_body(json!({ "keys": keys }).to_string().as_bytes()),
        JwksResponse::Body(body) => with_body(&body),
        JwksResponse::Status(status) => head(status, "Content-Length: 0\r\n").into_bytes(),
        JwksResponse::Redirect(url) => {
            head(302, &format!("Location: {url}\r\nContent-Length: 0\r\n")).into_bytes()
        }
        JwksResponse::Truncated => {
            format!("{}{{\"keys\":[", head(200, "Content-Length: 1000\r\n")).into_bytes()
        }
        JwksResponse::ConnectionClosed => return,
        JwksResponse::NoResponse => return tokio::time::sleep(Duration::from_mins(5)).await,
        JwksResponse::Endless => {
            let _ = connection.write_all(head(200, "").as_bytes()).await;
            while connection.write_all(&[b' '; 8192]).await.is_ok() {}
            return;
        }
    };
    let _ = connection.write_all(&bytes).await;
    let _ = connection.shutdown().await;
}
