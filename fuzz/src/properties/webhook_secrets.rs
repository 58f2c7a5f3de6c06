//! The list of webhook secrets: each verifies only its own signatures, under its name, and none is
//! ever printed.

use std::collections::BTreeSet;

use super::signature::signature;
use crate::domain::ids::SecretName;
use crate::domain::signature::verify;
use crate::domain::webhook_secret::{InvalidSecrets, WebhookSecrets};

const MAX_SECRETS: usize = 16;

const NOW: i64 = 1_700_000_000;

/// Random bytes as a list of secrets.
pub fn list(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match WebhookSecrets::parse(text) {
        Ok(secrets) => check_secrets(&secrets, text),
        Err(error) => assert!(has_error(text, error), "{error}: {text:?}"),
    }
}

/// The names and secrets between the commas. A secret without a name is named by its position.
fn items(text: &str) -> Vec<(String, &str)> {
    let items = text.split(',').map(str::trim).zip(1..);
    items
        .map(|(item, position)| match item.split_once('=') {
            Some((name, secret)) if !item.starts_with("whsec_") => (name.trim().to_owned(), secret.trim()),
            _ => (position.to_string(), item),
        })
        .collect()
}

fn check_secrets(secrets: &WebhookSecrets, text: &str) {
    let items = items(text);
    let names: Vec<&str> = secrets.names().map(SecretName::as_str).collect();
    assert_eq!(names, items.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    assert_eq!(format!("{secrets:?}"), format!("{{{}}}", names.join(", ")), "only names are printed");

    for (name, secret) in &items {
        assert_eq!(signer(secrets, secret).as_deref(), Some(name.as_str()));
    }
    assert_eq!(signer(secrets, ""), None);
    assert_eq!(signer(secrets, "whsec_"), None);

    let written: Vec<String> =
        items.iter().rev().map(|(name, secret)| format!("{name} = {secret} ")).collect();
    let reversed = WebhookSecrets::parse(&written.join(",")).expect("a valid list with explicit names");
    for (name, secret) in &items {
        assert_eq!(signer(&reversed, secret).as_deref(), Some(name.as_str()));
    }
}

/// The name of the secret that verifies a signature by `secret`.
fn signer(secrets: &WebhookSecrets, secret: &str) -> Option<String> {
    let header = format!("t={NOW},v1={}", hex::encode(signature(secret, &NOW.to_string(), b"{}")));
    verify(b"{}", Some(&header), secrets, NOW).ok().map(|verified| verified.secret.to_string())
}

/// Whether the list has the reported error.
fn has_error(text: &str, error: InvalidSecrets) -> bool {
    assert!(text.len() < 12 || !error.to_string().contains(text), "errors do not contain the text");
    let items = items(text);
    let is_name_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    let is_name = |name: &str| (1..=32).contains(&name.len()) && name.bytes().all(is_name_byte);
    let is_secret = |secret: &str| {
        secret.len() > 6 && secret.starts_with("whsec_") && secret.bytes().all(|b| b.is_ascii_graphic())
    };
    match error {
        InvalidSecrets::EmptyItem => text.split(',').any(|item| item.trim().is_empty()),
        InvalidSecrets::NotASecret => items.iter().any(|(_, secret)| !is_secret(secret)),
        InvalidSecrets::BadName => items.iter().any(|(name, _)| !is_name(name)),
        InvalidSecrets::DuplicateName => !all_differ(items.iter().map(|(name, _)| name.as_str())),
        InvalidSecrets::DuplicateSecret => !all_differ(items.iter().map(|(_, secret)| *secret)),
        InvalidSecrets::TooMany => items.len() > MAX_SECRETS,
    }
}

fn all_differ<'a>(mut texts: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    texts.all(|text| seen.insert(text))
}
