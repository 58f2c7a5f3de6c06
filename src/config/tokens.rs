//! Whose tokens are taken, and what they must say.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::secret::{Given, SecretVariable};
use super::{ConfigError, or, set};
use crate::domain::jwks_url::JwksUrl;
use crate::domain::token::{
    ClaimName, HS256, PublicAlgorithm, PublicKey, RoleRule, SERVICE_SCOPE, TokenRules,
};

/// What holds where nothing is set.
mod default {
    pub(super) const ALGORITHM: &str = super::HS256;
    pub(super) const TENANT_CLAIM: &str = "tenant";
    /// As RFC 9068, section 2.2.3.1 names it.
    pub(super) const ROLE_CLAIM: &str = "roles";
}

const SECRET: SecretVariable =
    SecretVariable { variable: "BILLHOOK_JWT_SECRET", file_variable: "BILLHOOK_JWT_SECRET_FILE" };

/// RFC 7518, section 3.2: the key of HS256 has at least as many bits as its hash.
const SECRET_BYTES: usize = 32;

/// An RSA key of 8192 bits takes 1.5 KB; comments may stand before it.
const PEM_BYTES: u64 = 16 * 1024;

/// Whose tokens are taken.
#[derive(Clone, Args)]
#[expect(clippy::struct_field_names, reason = "the fields are the names of options")]
pub struct TokenArgs {
    /// The one algorithm that tokens are signed with: `HS256` by a shared secret; `RS256`, `ES256` or `EdDSA` by an
    /// issuer whose public keys come from a URL or a file
    #[arg(long, env = "BILLHOOK_JWT_ALGORITHM", default_value = default::ALGORITHM)]
    jwt_algorithm: String,

    /// The secret that signs tokens with HS256, at least 32 bytes. Without it, and without public keys, every token is
    /// refused
    #[arg(long, env = SECRET.variable, hide_env_values = true)]
    jwt_secret: Option<SecretString>,

    /// A file that holds it
    #[arg(long, env = SECRET.file_variable, value_name = "FILE")]
    jwt_secret_file: Option<PathBuf>,

    /// The URL of the issuer's public keys (a JWK Set); plain http only to loopback. Needs `BILLHOOK_JWT_ISSUER`
    #[arg(long, env = "BILLHOOK_JWT_JWKS_URL", hide_env_values = true, value_name = "URL")]
    jwt_jwks_url: Option<String>,

    /// The file of the issuer's one public key, as PEM; read once, at the start
    #[arg(long, env = "BILLHOOK_JWT_PUBLIC_KEY_FILE", value_name = "FILE")]
    jwt_public_key_file: Option<String>,

    /// The claim that names the tenant; a dot leads into an object (`org.id`), but not in a URI
    #[arg(long, env = "BILLHOOK_JWT_TENANT_CLAIM", default_value = default::TENANT_CLAIM)]
    jwt_tenant_claim: String,

    /// The issuer that tokens must name in `iss`
    #[arg(long, env = "BILLHOOK_JWT_ISSUER")]
    jwt_issuer: Option<String>,

    /// The audience that tokens must name in `aud`
    #[arg(long, env = "BILLHOOK_JWT_AUDIENCE")]
    jwt_audience: Option<String>,

    /// The scope that a tenant user's token must have
    #[arg(long, env = "BILLHOOK_JWT_SCOPE")]
    jwt_scope: Option<String>,

    /// The scope that a tenant user's token must have, too, for checkout and portal
    #[arg(long, env = "BILLHOOK_JWT_MANAGE_SCOPE")]
    jwt_manage_scope: Option<String>,

    /// The roles, with commas, of which a tenant user's token must have one for checkout and portal
    #[arg(long, env = "BILLHOOK_JWT_MANAGE_ROLES", value_name = "ROLE,..")]
    jwt_manage_roles: Option<String>,

    /// The claim that names the role or the roles, such as `realm_access.roles` or `https://example.com/roles`
    /// [default: roles]
    #[arg(long, env = "BILLHOOK_JWT_ROLE_CLAIM", value_name = "CLAIM")]
    jwt_role_claim: Option<String>,
}

/// Whose tokens are taken.
#[derive(Clone)]
pub struct TokenConfig {
    /// What tokens are verified with; without it every token is refused.
    pub keys: Option<KeySource>,
    /// What is asked of them.
    pub rules: TokenRules,
}

/// Where the keys are that tokens are verified with: in exactly one place, for exactly one algorithm.
#[derive(Clone)]
pub enum KeySource {
    /// `BILLHOOK_JWT_SECRET`, for HS256
    Secret(SecretString),
    /// What was in `BILLHOOK_JWT_PUBLIC_KEY_FILE`
    PublicKey(PublicKey),
    /// `BILLHOOK_JWT_JWKS_URL`
    Jwks(JwksUrl, PublicAlgorithm),
}

impl TokenArgs {
    /// Reads the variables that begin with `BILLHOOK_JWT_`, and the file that one of them names.
    pub fn read(&self) -> Result<TokenConfig, ConfigError> {
        let owned = |text: &Option<String>| set(text.as_ref()).map(str::to_owned);
        let config = TokenConfig {
            keys: self.keys()?,
            rules: TokenRules {
                tenant_claim: claim_name(
                    "BILLHOOK_JWT_TENANT_CLAIM",
                    or(&self.jwt_tenant_claim, default::TENANT_CLAIM),
                )?,
                issuer: owned(&self.jwt_issuer),
                audience: owned(&self.jwt_audience),
                scope: users_scope("BILLHOOK_JWT_SCOPE", self.jwt_scope.as_ref())?,
                manage_scope: users_scope("BILLHOOK_JWT_MANAGE_SCOPE", self.jwt_manage_scope.as_ref())?,
                manage_roles: self.manage_roles()?,
            },
        };
        if matches!(config.keys, Some(KeySource::Jwks(..))) && config.rules.issuer.is_none() {
            let problem =
                "is not set: with BILLHOOK_JWT_JWKS_URL it has to be, to what the issuer puts into `iss`";
            return Err(ConfigError::new("BILLHOOK_JWT_ISSUER", problem));
        }
        Ok(config)
    }

    fn keys(&self) -> Result<Option<KeySource>, ConfigError> {
        let secret = SECRET.read(self.jwt_secret.as_ref(), self.jwt_secret_file.as_deref())?;
        let url = set(self.jwt_jwks_url.as_ref());
        let file = set(self.jwt_public_key_file.as_ref());
        let algorithm = or(&self.jwt_algorithm, default::ALGORITHM);
        let (public, name) = match PublicAlgorithm::parse(algorithm) {
            Some(public) => (public, public.name()),
            None if algorithm == HS256 => return shared_secret(secret, url, file),
            None => {
                let problem = "is not one of `HS256`, `RS256`, `ES256` and `EdDSA`";
                return Err(ConfigError::new("BILLHOOK_JWT_ALGORITHM", problem));
            }
        };
        match (secret, url, file) {
            (Some(secret), _, _) => Err(ConfigError::new(
                secret.variable,
                format_args!("is for HS256, but BILLHOOK_JWT_ALGORITHM is {name}: unset one of them"),
            )),
            (None, Some(_), Some(_)) => Err(ConfigError::new(
                "BILLHOOK_JWT_JWKS_URL",
                "and BILLHOOK_JWT_PUBLIC_KEY_FILE are both set: keys come from one of them",
            )),
            (None, Some(url), None) => {
                let url = JwksUrl::parse(url);
                let url = url.map_err(|error| ConfigError::new("BILLHOOK_JWT_JWKS_URL", error))?;
                Ok(Some(KeySource::Jwks(url, public)))
            }
            (None, None, Some(file)) => public_key(file, public).map(KeySource::PublicKey).map(Some),
            (None, None, None) => Err(ConfigError::new(
                "BILLHOOK_JWT_ALGORITHM",
                format_args!("is {name}, which needs BILLHOOK_JWT_JWKS_URL or BILLHOOK_JWT_PUBLIC_KEY_FILE"),
            )),
        }
    }

    fn manage_roles(&self) -> Result<Option<RoleRule>, ConfigError> {
        let claim = set(self.jwt_role_claim.as_ref());
        let Some(roles) = set(self.jwt_manage_roles.as_ref()) else {
            return match claim {
                None => Ok(None),
                Some(_) => Err(ConfigError::new(
                    "BILLHOOK_JWT_ROLE_CLAIM",
                    "is set, and BILLHOOK_JWT_MANAGE_ROLES is not: it says which of the roles will do",
                )),
            };
        };
        let roles: Vec<String> = roles.split(',').map(|role| role.trim().to_owned()).collect();
        if roles.iter().any(String::is_empty) {
            return Err(ConfigError::new(
                "BILLHOOK_JWT_MANAGE_ROLES",
                "has an empty item between its commas",
            ));
        }
        let claim = claim_name("BILLHOOK_JWT_ROLE_CLAIM", claim.unwrap_or(default::ROLE_CLAIM))?;
        Ok(Some(RoleRule { claim, roles }))
    }
}

fn shared_secret(
    secret: Option<Given>,
    url: Option<&str>,
    file: Option<&str>,
) -> Result<Option<KeySource>, ConfigError> {
    let public = [("BILLHOOK_JWT_JWKS_URL", url), ("BILLHOOK_JWT_PUBLIC_KEY_FILE", file)];
    if let Some((variable, _)) = public.into_iter().find(|(_, value)| value.is_some()) {
        let problem =
            "is for RS256, ES256 or EdDSA: set BILLHOOK_JWT_ALGORITHM to what the issuer signs with";
        return Err(ConfigError::new(variable, problem));
    }
    let Some(secret) = secret else { return Ok(None) };
    let wrong = |problem| Err(ConfigError::new(secret.variable, problem));
    if secret.text().contains("-----BEGIN ") {
        // A public key is no secret: anybody could sign with it.
        return wrong("is a PEM, and not a secret: put a public key into a BILLHOOK_JWT_PUBLIC_KEY_FILE");
    }
    if secret.text().len() < SECRET_BYTES {
        return wrong("is shorter than 32 bytes");
    }
    Ok(Some(KeySource::Secret(secret.into_secret())))
}

fn public_key(path: &str, algorithm: PublicAlgorithm) -> Result<PublicKey, ConfigError> {
    let wrong = |problem: &dyn std::fmt::Display| ConfigError::new("BILLHOOK_JWT_PUBLIC_KEY_FILE", problem);
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PEM_BYTES + 1).read_to_end(&mut pem));
    read.map_err(|error| wrong(&format_args!("names a file that cannot be read: {}", error.kind())))?;
    if u64::try_from(pem.len()).is_ok_and(|length| length > PEM_BYTES) {
        return Err(wrong(&"names a file of more than 16 KiB, which is no public key"));
    }
    PublicKey::from_pem(&pem, algorithm).map_err(|error| wrong(&error))
}

fn claim_name(variable: &'static str, text: &str) -> Result<ClaimName, ConfigError> {
    ClaimName::parse(text).map_err(|error| ConfigError::new(variable, error))
}

/// A scope that a tenant's users are to have.
fn users_scope(variable: &'static str, text: Option<&String>) -> Result<Option<String>, ConfigError> {
    match set(text) {
        Some(scope) if scope.contains(char::is_whitespace) => {
            Err(ConfigError::new(variable, "is not one scope: it has white space in it"))
        }
        Some(SERVICE_SCOPE) => Err(ConfigError::new(variable, "is the scope of services, which no user has")),
        scope => Ok(scope.map(str::to_owned)),
    }
}
