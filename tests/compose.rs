//! The composition says what its page promises: profiles, hardened services, and variables that the service knows. It is
//! read here and not run.

use std::collections::BTreeSet;
use std::process::Command;

use serde_yaml::{Mapping, Value};

const COMPOSITION: &str = include_str!("../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../Dockerfile");
const PUBLIC_VARIABLES: &str = include_str!("../.env.example");
const DEV_VARIABLES: &str = include_str!("../deploy/dev/compose.env");

/// The one thing that a service may need of the kernel.
const CAPABILITIES: [(&str, &str); 2] = [("caddy", "NET_BIND_SERVICE"), ("jaeger-volume", "CHOWN")];

#[test]
fn each_profile_brings_what_it_says() {
    assert_eq!(of_profile("public"), ["billhook", "caddy", "jaeger", "jaeger-volume", "postgres"]);
    assert_eq!(of_profile("dev"), ["dev", "jaeger", "jaeger-volume"]);
    assert_eq!(of_profile("dev-postgres"), ["dev-postgres"]);
    for (name, service) in services() {
        assert!(service.get("profiles").is_some(), "{name} would run whatever is wanted");
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
            added.iter().all(|one| CAPABILITIES.contains(&(name.as_str(), one))),
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

/// What is in memory would be root's, whoever owns the image's directory; in /tmp all may write.
#[test]
fn what_a_service_keeps_in_memory_is_its_own() {
    for (name, service) in services() {
        let places = service.get("tmpfs").map(words).unwrap_or_default();
        for place in places.iter().filter(|place| *place != "/tmp") {
            let (_, owner) = place.split_once(':').unwrap_or_else(|| panic!("{name}: {place} is root's"));
            assert_eq!(owner, owner_in(service["image"].as_str().expect("an image")), "{name}: {place}");
        }
    }
}

/// Who runs in an image. Of PostgreSQL's it is known, ours say so.
fn owner_in(image: &str) -> String {
    let user = if image.starts_with("postgres:") {
        "999:999"
    } else {
        DOCKERFILE.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user")
    };
    let (uid, gid) = user.split_once(':').expect("a user and a group");
    format!("uid={uid},gid={gid}")
}

#[test]
fn nobody_is_killed_before_a_stop_has_had_its_time() {
    for name in ["billhook", "dev"] {
        let service = services().remove(name).expect("the service");
        // 45 s and the delay's 5: see docs/operations.md.
        assert_eq!(service["stop_grace_period"], Value::from("50s"), "{name}");
    }
}

#[test]
fn images_are_named_by_whole_versions_and_only_the_front_is_open_to_all() {
    for (name, service) in services() {
        let image = service["image"].as_str().expect("an image");
        let (_, tag) = image.split_once(':').expect("a version");
        assert!(tag.matches('.').count() >= 1 && tag != "latest", "{image}");
        let ports = service.get("ports").map(words).unwrap_or_default();
        let is_inner = |port: &String| port.starts_with("127.0.0.1:");
        assert!(name == "caddy" || ports.iter().all(is_inner), "{name} is open at {ports:?}");
    }
    for line in DOCKERFILE.lines().filter(|line| line.starts_with("FROM ")) {
        let image = line.split(' ').nth(1).expect("an image");
        assert!(!image.contains(':') || image.contains('.'), "no whole version: {line}");
    }
}

#[test]
fn every_variable_is_one_that_the_service_knows() {
    let known = known_variables();
    assert!(known.len() > 30, "the help names them");
    for name in ["billhook", "dev"] {
        let environment = services().remove(name).expect("the service")["environment"].clone();
        for variable in environment.as_mapping().expect("a mapping").keys() {
            let variable = variable.as_str().expect("a name");
            let is_standard = variable.starts_with("OTEL_") || variable == "RUST_LOG";
            assert!(is_standard || known.contains(variable), "{name} is told {variable}");
        }
    }
}

#[test]
fn what_an_operator_fills_in_is_in_the_examples() {
    let mut rest = COMPOSITION;
    while let Some((_, after)) = rest.split_once("${") {
        let (variable, after) = after.split_once('}').expect("it ends");
        let end = variable.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let (name, demand) = variable.split_at(end.unwrap_or(variable.len()));
        let is_in = |text: &str| {
            text.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{name}=")))
        };
        assert!(is_in(PUBLIC_VARIABLES) || is_in(DEV_VARIABLES), "{name} is in no example");
        // Compose asks for these whatever the profile.
        assert!(!demand.starts_with(":?") || is_in(DEV_VARIABLES), "{name} is not in deploy/dev/compose.env");
        rest = after;
    }
}

type Services = std::collections::BTreeMap<String, Mapping>;

fn services() -> Services {
    let mut composition: Value = serde_yaml::from_str(COMPOSITION).expect("YAML");
    composition.apply_merge().expect("what is merged is there");
    let services = composition["services"].as_mapping().expect("services").clone();
    let named = |(name, service): (Value, Value)| {
        (name.as_str().expect("a name").to_owned(), service.as_mapping().expect("a mapping").clone())
    };
    services.into_iter().map(named).collect()
}

fn of_profile(profile: &str) -> Vec<String> {
    let is_of = |service: &Mapping| words(&service["profiles"]).contains(&profile.to_owned());
    services().into_iter().filter(|(_, service)| is_of(service)).map(|(name, _)| name).collect()
}

fn words(list: &Value) -> Vec<String> {
    let items = list.as_sequence().expect("a list");
    items.iter().map(|item| item.as_str().expect("a word").to_owned()).collect()
}

/// As `billhook serve --help` tells them.
fn known_variables() -> BTreeSet<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_billhook")).args(["serve", "--help"]).output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("text");
    let named = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    named.map(str::to_owned).collect()
}
