//! The keys that verify tokens, and the claims that tokens must have.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::SecretString;

use super::ConfigError;
use super::secret::{LoadedSecret, SecretVariable};
use super::setting::{Setting, is_set, parsed_by, path, read_optional, text};
use crate::domain::jwks_url::JwksUrl;
use crate::domain::token::{
    ClaimPath, HS256, PublicAlgorithm, PublicKey, RoleRule, SERVICE_SCOPE, TokenRules,
};

const ALGORITHM: &str = "BILLHOOK_JWT_ALGORITHM";
const JWKS_URL: &str = "BILLHOOK_JWT_JWKS_URL";
const PUBLIC_KEY_FILE: &str = "BILLHOOK_JWT_PUBLIC_KEY_FILE";
const ISSUER: &str = "BILLHOOK_JWT_ISSUER";
const ROLE_CLAIM: &str = "BILLHOOK_JWT_ROLE_CLAIM";

/// The name in RFC 9068, section 2.2.3.1.
const DEFAULT_ROLE_CLAIM: &str = "roles";

const SECRET: SecretVariable =
    SecretVariable { variable: "BILLHOOK_JWT_SECRET", file_variable: "BILLHOOK_JWT_SECRET_FILE" };

/// RFC 7518, section 3.2: the key of HS256 must be at least as long as its hash.
const MIN_SECRET_BYTES: usize = 32;

/// An RSA key of 8192 bits takes 1.5 KB, and comments may precede it.
const MAX_PEM_BYTES: u64 = 16 * 1024;

#[derive(Clone, Args)]
#[command(next_help_heading = "Tokens")]
#[expect(clippy::struct_field_names, reason = "the fields are the names of options")]
pub struct TokenArgs {
    /// The algorithm that signs tokens: `HS256` with a shared secret, or `RS256`, `ES256` or
    /// `EdDSA` with the public keys of an issuer, from a URL or a file
    #[arg(long, env = ALGORITHM, default_value = HS256, value_parser = parsed_by(Algorithm::parse))]
    jwt_algorithm: Setting<Algorithm>,

    /// The secret that signs tokens with HS256, at least 32 bytes. Without it and without public
    /// keys, all tokens are rejected
    #[arg(long, env = SECRET.variable, hide_env_values = true)]
    jwt_secret: Option<SecretString>,

    /// A file that contains the secret
    #[arg(long, env = SECRET.file_variable, value_name = "FILE", value_parser = parsed_by(path))]
    jwt_secret_file: Option<Setting<PathBuf>>,

    /// The URL of the issuer's public keys (a JWK Set); plain http is allowed for loopback only.
    /// Needs `BILLHOOK_JWT_ISSUER`
    #[arg(long, env = JWKS_URL, hide_env_values = true, value_name = "URL", value_parser = parsed_by(JwksUrl::parse))]
    jwt_jwks_url: Option<Setting<JwksUrl>>,

    /// A PEM file with the issuer's public key; read only at start-up
    #[arg(long, env = PUBLIC_KEY_FILE, value_name = "FILE", value_parser = parsed_by(path))]
    jwt_public_key_file: Option<Setting<PathBuf>>,

    /// The claim that names the tenant. A dot separates the names of nested objects (`org.id`),
    /// except in a URI
    #[arg(long, env = "BILLHOOK_JWT_TENANT_CLAIM", default_value = "tenant", value_parser = parsed_by(ClaimPath::parse))]
    jwt_tenant_claim: Setting<ClaimPath>,

    /// The issuer that tokens must have in `iss`
    #[arg(long, env = ISSUER, value_parser = parsed_by(text))]
    jwt_issuer: Option<Setting<String>>,

    /// The audience that tokens must have in `aud`
    #[arg(long, env = "BILLHOOK_JWT_AUDIENCE", value_parser = parsed_by(text))]
    jwt_audience: Option<Setting<String>>,

    /// The scope that a tenant user's token must have
    #[arg(long, env = "BILLHOOK_JWT_SCOPE", value_parser = parsed_by(users_scope))]
    jwt_scope: Option<Setting<String>>,

    /// The scope that a tenant user's token must also have for checkout and portal
    #[arg(long, env = "BILLHOOK_JWT_MANAGE_SCOPE", value_parser = parsed_by(users_scope))]
    jwt_manage_scope: Option<Setting<String>>,

    /// The roles, separated by commas, of which a tenant user's token must have at least one for
    /// checkout and portal
    #[arg(long, env = "BILLHOOK_JWT_MANAGE_ROLES", value_name = "ROLE,..", value_parser = parsed_by(roles))]
    jwt_manage_roles: Option<Setting<Vec<String>>>,

    /// The claim with the user's role or roles, such as `realm_access.roles` or
    /// `https://example.com/roles` [default: roles]
    #[arg(long, env = ROLE_CLAIM, value_name = "CLAIM", value_parser = parsed_by(ClaimPath::parse))]
    jwt_role_claim: Option<Setting<ClaimPath>>,
}

#[derive(Clone)]
pub struct TokenConfig {
    /// Without keys, all tokens are rejected.
    pub keys: Option<KeySource>,
    pub rules: TokenRules,
}

/// Tokens are verified with keys from exactly one source, for exactly one algorithm.
#[derive(Clone)]
pub enum KeySource {
    /// For HS256.
    Secret(SecretString),
    PublicKey(PublicKey),
    Jwks(JwksUrl, PublicAlgorithm),
}

#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Hs256,
    Public(PublicAlgorithm),
}

impl Algorithm {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match PublicAlgorithm::parse(text) {
            Some(public) => Ok(Self::Public(public)),
            None if text == HS256 => Ok(Self::Hs256),
            None => Err("is not one of `HS256`, `RS256`, `ES256` and `EdDSA`"),
        }
    }
}

impl TokenArgs {
    /// Also reads the public key file.
    pub fn read(&self) -> Result<TokenConfig, ConfigError> {
        let config = TokenConfig {
            keys: self.keys()?,
            rules: TokenRules {
                tenant_claim: self.jwt_tenant_claim.read()?,
                issuer: read_optional(self.jwt_issuer.as_ref())?,
                audience: read_optional(self.jwt_audience.as_ref())?,
                scope: read_optional(self.jwt_scope.as_ref())?,
                manage_scope: read_optional(self.jwt_manage_scope.as_ref())?,
                manage_roles: self.manage_roles()?,
            },
        };
        if matches!(config.keys, Some(KeySource::Jwks(..))) && config.rules.issuer.is_none() {
            let problem = "is not set: with BILLHOOK_JWT_JWKS_URL, set it to the issuer's value of `iss`";
            return Err(ConfigError::new(ISSUER, problem));
        }
        Ok(config)
    }

    fn keys(&self) -> Result<Option<KeySource>, ConfigError> {
        let secret = SECRET.read(self.jwt_secret.as_ref(), self.jwt_secret_file.as_ref())?;
        let (url, file) = (self.jwt_jwks_url.as_ref(), self.jwt_public_key_file.as_ref());
        let algorithm = match self.jwt_algorithm.read()? {
            Algorithm::Hs256 => return shared_secret(secret, is_set(url), is_set(file)),
            Algorithm::Public(algorithm) => algorithm,
        };
        let (url, file) = (read_optional(url)?, read_optional(file)?);
        let name = algorithm.name();
        match (secret, url, file) {
            (Some(secret), _, _) => Err(ConfigError::new(
                secret.variable,
                format_args!("is for HS256, but BILLHOOK_JWT_ALGORITHM is {name}: unset one of them"),
            )),
            (None, Some(_), Some(_)) => Err(ConfigError::new(
                JWKS_URL,
                "and BILLHOOK_JWT_PUBLIC_KEY_FILE are both set: keep one of them",
            )),
            (None, Some(url), None) => Ok(Some(KeySource::Jwks(url, algorithm))),
            (None, None, Some(file)) => public_key(&file, algorithm).map(KeySource::PublicKey).map(Some),
            (None, None, None) => Err(ConfigError::new(
                ALGORITHM,
                format_args!("is {name}, which needs BILLHOOK_JWT_JWKS_URL or BILLHOOK_JWT_PUBLIC_KEY_FILE"),
            )),
        }
    }

    fn manage_roles(&self) -> Result<Option<RoleRule>, ConfigError> {
        let claim = self.jwt_role_claim.as_ref();
        let Some(roles) = read_optional(self.jwt_manage_roles.as_ref())? else {
            if is_set(claim) {
                let problem = "is set, but BILLHOOK_JWT_MANAGE_ROLES is not: set it to the roles that may open checkout and portal";
                return Err(ConfigError::new(ROLE_CLAIM, problem));
            }
            return Ok(None);
        };
        let default =
            || ClaimPath::parse(DEFAULT_ROLE_CLAIM).map_err(|error| ConfigError::new(ROLE_CLAIM, error));
        Ok(Some(RoleRule { claim: read_optional(claim)?.map_or_else(default, Ok)?, roles }))
    }
}

fn shared_secret(
    secret: Option<LoadedSecret>,
    has_url: bool,
    has_file: bool,
) -> Result<Option<KeySource>, ConfigError> {
    let public = [(JWKS_URL, has_url), (PUBLIC_KEY_FILE, has_file)];
    if let Some((variable, _)) = public.into_iter().find(|(_, is_set)| *is_set) {
        let problem = "is for RS256, ES256 or EdDSA: set BILLHOOK_JWT_ALGORITHM to the issuer's algorithm";
        return Err(ConfigError::new(variable, problem));
    }
    let Some(secret) = secret else { return Ok(None) };
    let invalid = |problem| Err(ConfigError::new(secret.variable, problem));
    if secret.text().contains("-----BEGIN ") {
        // A public key is not secret, so anyone could sign tokens with it.
        return invalid("is a PEM key, not a secret: use BILLHOOK_JWT_PUBLIC_KEY_FILE for a public key");
    }
    if secret.text().len() < MIN_SECRET_BYTES {
        return invalid("is shorter than 32 bytes");
    }
    Ok(Some(KeySource::Secret(secret.into_secret())))
}

fn public_key(path: &Path, algorithm: PublicAlgorithm) -> Result<PublicKey, ConfigError> {
    let invalid = |problem: &dyn std::fmt::Display| ConfigError::new(PUBLIC_KEY_FILE, problem);
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_end(&mut pem));
    read.map_err(|error| invalid(&format_args!("names a file that cannot be read: {}", error.kind())))?;
    if u64::try_from(pem.len()).is_ok_and(|length| length > MAX_PEM_BYTES) {
        return Err(invalid(&"names a file of more than 16 KiB, which is not a public key"));
    }
    PublicKey::from_pem(&pem, algorithm).map_err(|error| invalid(&error))
}

/// The scope of services is not allowed, since no user has it.
fn users_scope(scope: &str) -> Result<String, &'static str> {
    match scope {
        SERVICE_SCOPE => Err("is the scope of services, which users do not have"),
        _ if scope.contains(char::is_whitespace) => Err("is not one scope: it contains white space"),
        _ => Ok(scope.to_owned()),
    }
}

fn roles(text: &str) -> Result<Vec<String>, &'static str> {
    let roles: Vec<String> = text.split(',').map(|role| role.trim().to_owned()).collect();
    if roles.iter().any(String::is_empty) { Err("has an empty item between its commas") } else { Ok(roles) }
}
