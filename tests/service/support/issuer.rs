//! An identity provider: keys of its own, an HTTP server that publishes them, and whatever can be wrong with either.

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

/// A key pair, made for the test. What it signs is signed by another implementation than the one that verifies it.
pub struct SigningKey {
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    /// The public part, as PEM.
    pub pem: String,
    /// The public part, as the issuer publishes it: with its `kid` and its `alg`.
    pub jwk: Value,
}

impl SigningKey {
    pub fn new(algorithm: Algorithm, kid: &str) -> Self {
        let (key, public) = match algorithm {
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
                let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&pair).expect("PKCS 8");
                // What RFC 8017 calls an RSAPrivateKey stands in it, after 26 bytes that say so.
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
            other => panic!("no issuer of ours signs with {other:?}"),
        };
        let jwk = Jwk::from_encoding_key(&key, algorithm).expect("a JWK");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        let pem =
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(public));
        Self { algorithm, key, pem, jwk }
    }

    /// The name of the algorithm, as in `alg`.
    pub fn alg(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    pub fn kid(&self) -> &str {
        self.jwk["kid"].as_str().expect("a name")
    }

    /// A token as the issuer signs it.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.alg(), "typ": "JWT", "kid": self.kid() }), claims)
    }

    /// The same with a header of any kind.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        sign(header, claims, &self.key, self.algorithm)
    }
}

/// Signs any header and any claims, by any algorithm of the key's.
pub fn sign(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = message(header, claims);
    let signature = crypto::sign(message.as_bytes(), key, algorithm).expect("a signature");
    format!("{message}.{signature}")
}

/// The two parts that are signed.
pub fn message(header: &Value, claims: &Value) -> String {
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encoded(header), encoded(claims))
}

/// What the issuer says when it is asked for its keys.
#[derive(Clone)]
pub enum Reply {
    Keys(Vec<Value>),
    Status(u16),
    /// Sends elsewhere.
    Redirect(String),
    Body(Vec<u8>),
    /// Promises more than it sends.
    BreaksOff,
    /// Never ends.
    Endless,
    /// Nothing at all, and the connection stays open.
    Silence,
    HangsUp,
}

/// The server.
pub struct Issuer {
    pub url: String,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

struct State {
    reply: Reply,
    asked: usize,
}

impl Issuer {
    pub async fn publishing(keys: &[&SigningKey]) -> Self {
        Self::replying(Reply::Keys(keys.iter().map(|key| key.jwk.clone()).collect())).await
    }

    pub async fn replying(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { reply, asked: 0 }));
        let shared = state.clone();
        let server = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.expect("a connection");
                // One that breaks off is the other side's business.
                tokio::spawn(answer(connection, shared.clone()));
            }
        });
        Self { url: format!("http://{address}/jwks.json?client=canary-of-the-url"), state, server }
    }

    pub fn publish(&self, keys: &[&SigningKey]) {
        self.reply(Reply::Keys(keys.iter().map(|key| key.jwk.clone()).collect()));
    }

    pub fn reply(&self, reply: Reply) {
        self.state.lock().expect("not poisoned").reply = reply;
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.state.lock().expect("not poisoned").asked
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut connection: TcpStream, state: Arc<Mutex<State>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = connection.read_u8().await else { return };
        request.push(byte);
    }
    let reply = {
        let mut state = state.lock().expect("not poisoned");
        state.asked += 1;
        state.reply.clone()
    };
    let head = |status: u16, more: &str| format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n{more}\r\n");
    let whole = |body: &[u8]| {
        let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        [head(200, &length).as_bytes(), body].concat()
    };
    let bytes = match reply {
        Reply::Keys(keys) => whole(json!({ "keys": keys }).to_string().as_bytes()),
        Reply::Body(body) => whole(&body),
        Reply::Status(status) => head(status, "Content-Length: 0\r\n").into_bytes(),
        Reply::Redirect(url) => head(302, &format!("Location: {url}\r\nContent-Length: 0\r\n")).into_bytes(),
        Reply::BreaksOff => format!("{}{{\"keys\":[", head(200, "Content-Length: 1000\r\n")).into_bytes(),
        Reply::HangsUp => return,
        Reply::Silence => return tokio::time::sleep(Duration::from_mins(5)).await,
        Reply::Endless => {
            let _ = connection.write_all(head(200, "").as_bytes()).await;
            while connection.write_all(&[b' '; 8192]).await.is_ok() {}
            return;
        }
    };
    let _ = connection.write_all(&bytes).await;
    let _ = connection.shutdown().await;
}
