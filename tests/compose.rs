//! Checks `docker-compose.yml` without running it: profiles, hardening, and known environment
//! variables.

use std::collections::BTreeSet;
use std::process::Command;

use serde_yaml::{Mapping, Value};

const COMPOSE_FILE: &str = include_str!("../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../Dockerfile");
const PUBLIC_VARIABLES: &str = include_str!("../.env.example");
const DEV_VARIABLES: &str = include_str!("../deploy/dev/compose.env");

/// The capabilities that services may add.
const CAPABILITIES: [(&str, &str); 2] = [("caddy", "NET_BIND_SERVICE"), ("jaeger-volume", "CHOWN")];

#[test]
fn each_profile_starts_its_services() {
    assert_eq!(services_in("public"), ["billhook", "caddy", "jaeger", "jaeger-volume", "postgres"]);
    assert_eq!(services_in("dev"), ["dev", "jaeger", "jaeger-volume"]);
    assert_eq!(services_in("dev-postgres"), ["dev-postgres"]);
    for (name, service) in services() {
        assert!(service.get("profiles").is_some(), "{name} would start in every profile");
    }
}

#[test]
fn every_service_is_hardened() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], Value::from(true), "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(words(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        for forbidden in ["privileged", "devices", "pid", "ipc"] {
            assert!(service.get(forbidden).is_none(), "{name} has {forbidden}");
        }
        let added = service.get("cap_add").map(words).unwrap_or_default();
        assert!(
            added.iter().all(|capability| CAPABILITIES.contains(&(name.as_str(), capability))),
            "{name} adds {added:?}"
        );
    }
}

#[test]
fn log_of_every_service_is_bounded() {
    for (name, service) in services() {
        let logging = &service["logging"];
        assert_eq!(logging["driver"], Value::from("json-file"), "{name}");
        for option in ["max-size", "max-file"] {
            assert!(logging["options"][option].is_string(), "{name} has no {option}");
        }
    }
}

/// Without an owner option a tmpfs belongs to root, even if the image's directory has another
/// owner. `/tmp` is writable for all.
#[test]
fn tmpfs_belongs_to_the_user_of_its_service() {
    for (name, service) in services() {
        let mounts = service.get("tmpfs").map(words).unwrap_or_default();
        for mount in mounts.iter().filter(|mount| *mount != "/tmp") {
            let (_, owner) =
                mount.split_once(':').unwrap_or_else(|| panic!("{name}: {mount} belongs to root"));
            assert_eq!(owner, user_of(service["image"].as_str().expect("an image")), "{name}: {mount}");
        }
    }
}

/// The user that an image runs as. 999 is that of PostgreSQL's image.
fn user_of(image: &str) -> String {
    let user = if image.starts_with("postgres:") {
        "999:999"
    } else {
        DOCKERFILE.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user")
    };
    let (uid, gid) = user.split_once(':').expect("a user and a group");
    format!("uid={uid},gid={gid}")
}

#[test]
fn stop_grace_period_covers_the_graceful_shutdown() {
    for name in ["billhook", "dev"] {
        let service = services().remove(name).expect("the service");
        // 45 s and a delay of 5 s: see docs/operations.md.
        assert_eq!(service["stop_grace_period"], Value::from("50s"), "{name}");
    }
}

#[test]
fn images_are_pinned_and_only_caddy_is_public() {
    for (name, service) in services() {
        let image = service["image"].as_str().expect("an image");
        let (_, tag) = image.split_once(':').expect("a version");
        assert!(tag.matches('.').count() >= 1 && tag != "latest", "{image}");
        let ports = service.get("ports").map(words).unwrap_or_default();
        let is_local = |port: &String| port.starts_with("127.0.0.1:");
        assert!(name == "caddy" || ports.iter().all(is_local), "{name} is public at {ports:?}");
    }
    for line in DOCKERFILE.lines().filter(|line| line.starts_with("FROM ")) {
        let image = line.split(' ').nth(1).expect("an image");
        assert!(!image.contains(':') || image.contains('.'), "not pinned: {line}");
    }
}

#[test]
fn every_variable_is_in_the_help_of_serve() {
    let known = known_variables();
    assert!(known.len() > 30, "the help lists them");
    for name in ["billhook", "dev"] {
        let environment = services().remove(name).expect("the service")["environment"].clone();
        for variable in environment.as_mapping().expect("a mapping").keys() {
            let variable = variable.as_str().expect("a name");
            let is_standard = variable.starts_with("OTEL_") || variable == "RUST_LOG";
            assert!(is_standard || known.contains(variable), "{name} sets the unknown {variable}");
        }
    }
}

#[test]
fn every_substituted_variable_is_in_an_example_file() {
    let mut rest = COMPOSE_FILE;
    while let Some((_, after)) = rest.split_once("${") {
        let (variable, after) = after.split_once('}').expect("it ends");
        let end = variable.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let (name, modifier) = variable.split_at(end.unwrap_or(variable.len()));
        let is_in = |text: &str| {
            text.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{name}=")))
        };
        assert!(is_in(PUBLIC_VARIABLES) || is_in(DEV_VARIABLES), "{name} is in no example file");
        // Compose requires these variables in every profile.
        let is_required = modifier.starts_with(":?");
        assert!(!is_required || is_in(DEV_VARIABLES), "{name} is not in deploy/dev/compose.env");
        rest = after;
    }
}

type Services = std::collections::BTreeMap<String, Mapping>;

fn services() -> Services {
    let mut compose: Value = serde_yaml::from_str(COMPOSE_FILE).expect("YAML");
    compose.apply_merge().expect("the merge keys exist");
    let services = compose["services"].as_mapping().expect("services").clone();
    let named = |(name, service): (Value, Value)| {
        (name.as_str().expect("a name").to_owned(), service.as_mapping().expect("a mapping").clone())
    };
    services.into_iter().map(named).collect()
}

fn services_in(profile: &str) -> Vec<String> {
    let is_in = |service: &Mapping| words(&service["profiles"]).contains(&profile.to_owned());
    services().into_iter().filter(|(_, service)| is_in(service)).map(|(name, _)| name).collect()
}

fn words(list: &Value) -> Vec<String> {
    let items = list.as_sequence().expect("a list");
    items.iter().map(|item| item.as_str().expect("a word").to_owned()).collect()
}

/// From `billhook serve --help`.
fn known_variables() -> BTreeSet<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_billhook")).args(["serve", "--help"]).output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("text");
    // The help is wrapped, also between `[env:` and the name.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let named = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    named.map(str::to_owned).collect()
}
