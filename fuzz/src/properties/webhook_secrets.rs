//! The list of webhook secrets. Each signs under its name and nothing else does; none is ever shown.

use std::collections::BTreeSet;

use super::signature::signature;
use crate::domain::ids::SecretName;
use crate::domain::signature::verify;
use crate::domain::webhook_secret::{InvalidSecrets, WebhookSecrets};

/// The most secrets at once.
const SECRETS: usize = 16;

const NOW: i64 = 1_700_000_000;

/// A list of any bytes.
pub fn list(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match WebhookSecrets::parse(text) {
        Ok(secrets) => sign_under_their_names(&secrets, text),
        Err(error) => assert!(is_so(text, error), "{error}: {text:?}"),
    }
}

/// The names and secrets between the commas, whatever they are. What has no name is named by its place.
fn items(text: &str) -> Vec<(String, &str)> {
    let items = text.split(',').map(str::trim).zip(1..);
    items
        .map(|(item, place)| match item.split_once('=') {
            Some((name, secret)) if !item.starts_with("whsec_") => (name.trim().to_owned(), secret.trim()),
            _ => (place.to_string(), item),
        })
        .collect()
}

fn sign_under_their_names(secrets: &WebhookSecrets, text: &str) {
    let items = items(text);
    let names: Vec<&str> = secrets.names().map(SecretName::as_str).collect();
    assert_eq!(names, items.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    assert_eq!(format!("{secrets:?}"), format!("{{{}}}", names.join(", ")), "nothing but names is shown");

    for (name, secret) in &items {
        assert_eq!(signer(secrets, secret).as_deref(), Some(name.as_str()));
    }
    assert_eq!(signer(secrets, ""), None);
    assert_eq!(signer(secrets, "whsec_"), None);

    let written: Vec<String> =
        items.iter().rev().map(|(name, secret)| format!("{name} = {secret} ")).collect();
    let backwards = WebhookSecrets::parse(&written.join(",")).expect("in any order, with every name told");
    for (name, secret) in &items {
        assert_eq!(signer(&backwards, secret).as_deref(), Some(name.as_str()));
    }
}

/// Which of them verifies what this secret signed.
fn signer(secrets: &WebhookSecrets, secret: &str) -> Option<String> {
    let header = format!("t={NOW},v1={}", hex::encode(signature(secret, &NOW.to_string(), b"{}")));
    verify(b"{}", Some(&header), secrets, NOW).ok().map(|verified| verified.secret.to_string())
}

/// Whether a list has the fault that it was refused for.
fn is_so(text: &str, error: InvalidSecrets) -> bool {
    assert!(text.len() < 12 || !error.to_string().contains(text), "an error never repeats the text");
    let items = items(text);
    let is_name_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    let is_name = |name: &str| (1..=32).contains(&name.len()) && name.bytes().all(is_name_byte);
    let is_secret = |secret: &str| {
        secret.len() > 6 && secret.starts_with("whsec_") && secret.bytes().all(|b| b.is_ascii_graphic())
    };
    match error {
        InvalidSecrets::Empty => text.split(',').any(|item| item.trim().is_empty()),
        InvalidSecrets::NotASecret => items.iter().any(|(_, secret)| !is_secret(secret)),
        InvalidSecrets::BadName => items.iter().any(|(name, _)| !is_name(name)),
        InvalidSecrets::SameName => !all_differ(items.iter().map(|(name, _)| name.as_str())),
        InvalidSecrets::SameSecret => !all_differ(items.iter().map(|(_, secret)| *secret)),
        InvalidSecrets::TooMany => items.len() > SECRETS,
    }
}

fn all_differ<'a>(mut texts: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    texts.all(|text| seen.insert(text))
}
