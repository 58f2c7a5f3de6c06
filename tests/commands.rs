//! The command line: the real binary, as an operator or a script runs it.

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tempfile::TempDir;

const JWT_SECRET: &str = "a-jwt-secret-of-at-least-32-bytes-long";

/// A directory of its own, and the binary run in it with nothing but what is given.
struct Shell {
    dir: TempDir,
}

impl Shell {
    fn new() -> Self {
        Self { dir: TempDir::new().expect("a directory") }
    }

    fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_billhook"))
            .args(words)
            .env_clear()
            .env("RUST_LOG", "off")
            .envs(environment.iter().copied())
            .current_dir(self.dir.path())
            .output()
            .expect("the binary runs")
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn help_names_every_variable_and_shows_no_secret() {
    let secret = ("STRIPE_SECRET_KEY", "sk_test_canary");
    let output = Shell::new().run(&["serve", "--help"], &[secret, ("BILLHOOK_JWT_SECRET", "canary")]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    for variable in [
        "STRIPE_SECRET_KEY",
        "STRIPE_SECRET_KEY_FILE",
        "STRIPE_WEBHOOK_SECRET",
        "STRIPE_WEBHOOK_SECRET_FILE",
        "STRIPE_API_BASE",
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "BILLHOOK_LISTEN",
        "BILLHOOK_METRICS_LISTEN",
        "BILLHOOK_STOP_DELAY_SECONDS",
        "BILLHOOK_TLS_CERTIFICATE_FILE",
        "BILLHOOK_TLS_KEY_FILE",
        "BILLHOOK_APP_URL",
        "BILLHOOK_PLANS",
        "BILLHOOK_PORTAL_CONFIGURATION",
        "BILLHOOK_JWT_ALGORITHM",
        "BILLHOOK_JWT_SECRET",
        "BILLHOOK_JWT_SECRET_FILE",
        "BILLHOOK_JWT_JWKS_URL",
        "BILLHOOK_JWT_PUBLIC_KEY_FILE",
        "BILLHOOK_JWT_TENANT_CLAIM",
        "BILLHOOK_JWT_ISSUER",
        "BILLHOOK_JWT_AUDIENCE",
        "BILLHOOK_JWT_SCOPE",
        "BILLHOOK_JWT_MANAGE_SCOPE",
        "BILLHOOK_JWT_MANAGE_ROLES",
        "BILLHOOK_JWT_ROLE_CLAIM",
        "BILLHOOK_THROTTLE_PER_MINUTE",
        "BILLHOOK_PAST_DUE_GRANTS",
        "BILLHOOK_TRUST_CLIENT_REFERENCE",
        "BILLHOOK_JOURNEY_WINDOW_HOURS",
        "BILLHOOK_LOG_SINK",
        "BILLHOOK_STATIC_DIR",
        "BILLHOOK_CORS_ORIGINS",
        "BILLHOOK_LOG_DIR",
        "BILLHOOK_LOG_MAX_MB",
        "BILLHOOK_LOG_MAX_AGE_HOURS",
        "BILLHOOK_LOG_KEEP",
        "BILLHOOK_KEEP_PAYLOADS_DAYS",
        "RUST_LOG",
        "OTEL_",
    ] {
        assert!(help.contains(variable), "{variable} is not in the help");
    }
    assert!(!help.contains("canary"));
}

#[test]
fn a_bad_value_stops_the_start_with_one_sentence_that_names_it_and_shows_nothing() {
    for (variable, value) in [
        ("STRIPE_SECRET_KEY", "pk_test_canary"),
        ("STRIPE_SECRET_KEY", "canary"),
        ("STRIPE_WEBHOOK_SECRET", "canary"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_canary,"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_canary,,whsec_b"),
        ("STRIPE_WEBHOOK_SECRET", "canary canary=whsec_b"),
        ("STRIPE_WEBHOOK_SECRET", "a=whsec_canary,a=whsec_b"),
        ("STRIPE_SECRET_KEY_FILE", "nowhere"),
        ("STRIPE_WEBHOOK_SECRET_FILE", "nowhere"),
        ("DATABASE_URL_FILE", "nowhere"),
        ("STRIPE_API_BASE", "http://canary.example"),
        ("STRIPE_API_BASE", "canary"),
        ("DATABASE_URL", "mysql://canary"),
        ("DATABASE_URL", "canary"),
        ("BILLHOOK_LISTEN", "canary"),
        ("BILLHOOK_METRICS_LISTEN", "canary"),
        ("BILLHOOK_TRUSTED_PROXIES", "canary"),
        ("BILLHOOK_TRUSTED_PROXIES", "10.0.0.0/8,"),
        ("BILLHOOK_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("BILLHOOK_STOP_DELAY_SECONDS", "canary"),
        ("BILLHOOK_STOP_DELAY_SECONDS", "301"),
        ("BILLHOOK_APP_URL", "canary"),
        ("BILLHOOK_APP_URL", "https://user:canary@app.example"),
        ("BILLHOOK_PLANS", "canary"),
        ("BILLHOOK_PORTAL_CONFIGURATION", "canary"),
        ("BILLHOOK_PLANS", "pro=canary;"),
        ("BILLHOOK_JWT_SECRET", "canary"),
        ("BILLHOOK_JWT_SECRET", "-----BEGIN PUBLIC KEY-----\ncanary\n-----END PUBLIC KEY-----"),
        ("BILLHOOK_JWT_ALGORITHM", "canary"),
        ("BILLHOOK_JWT_ALGORITHM", "none"),
        ("BILLHOOK_JWT_ALGORITHM", "hs256"),
        ("BILLHOOK_JWT_ALGORITHM", "RS256"),
        ("BILLHOOK_JWT_JWKS_URL", "https://canary.example/jwks.json"),
        ("BILLHOOK_JWT_PUBLIC_KEY_FILE", "canary.pem"),
        ("BILLHOOK_JWT_TENANT_CLAIM", "canary..id"),
        ("BILLHOOK_JWT_SCOPE", "canary canary"),
        ("BILLHOOK_JWT_SCOPE", "billing:service"),
        ("BILLHOOK_JWT_MANAGE_SCOPE", "canary canary"),
        ("BILLHOOK_JWT_MANAGE_SCOPE", "billing:service"),
        ("BILLHOOK_JWT_MANAGE_ROLES", "canary,,owner"),
        ("BILLHOOK_JWT_ROLE_CLAIM", "canary"),
        ("BILLHOOK_THROTTLE_PER_MINUTE", "canary"),
        ("BILLHOOK_THROTTLE_PER_MINUTE", "0"),
        ("BILLHOOK_PAST_DUE_GRANTS", "canary"),
        ("BILLHOOK_TRUST_CLIENT_REFERENCE", "canary"),
        ("BILLHOOK_JOURNEY_WINDOW_HOURS", "canary"),
        ("BILLHOOK_LOG_SINK", "canary"),
        ("BILLHOOK_LOG_MAX_MB", "canary"),
        ("BILLHOOK_LOG_MAX_MB", "4097"),
        ("BILLHOOK_LOG_MAX_AGE_HOURS", "-1"),
        ("BILLHOOK_LOG_KEEP", "0"),
        ("BILLHOOK_KEEP_PAYLOADS_DAYS", "30"),
        ("BILLHOOK_STATIC_DIR", "canary"),
        ("BILLHOOK_STATIC_DIR", "."),
        ("BILLHOOK_CORS_ORIGINS", "*"),
        ("BILLHOOK_CORS_ORIGINS", "https://canary.example/path"),
        ("BILLHOOK_CORS_ORIGINS", "http://canary.example"),
        ("BILLHOOK_CORS_ORIGINS", "https://a.example,"),
    ] {
        let output = Shell::new().run(&["serve"], &[(variable, value)]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {message}");
        assert!(message.starts_with(&format!("billhook: {variable} ")), "{variable}={value}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!message.contains("canary"), "{message}");
    }
}

#[test]
fn a_secret_may_come_from_a_file_and_is_told_by_the_variable_that_names_the_file() {
    let shell = Shell::new();
    let file = |name: &str, contents: &str| {
        let path = shell.path().join(name);
        std::fs::write(&path, contents).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let database = file("database_url", "sqlite://of-the-file.db\n");
    let database = ("DATABASE_URL_FILE", database.as_str());
    assert!(shell.run(&["migrate"], &[database]).status.success());
    assert!(shell.path().join("of-the-file.db").exists());

    let wrong = file("wrong", "canary\n");
    for variable in ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "BILLHOOK_JWT_SECRET", "DATABASE_URL"] {
        let file_variable = format!("{variable}_FILE");
        let bad = shell.run(&["serve"], &[(&file_variable, &wrong)]);
        let message = text(&bad.stderr);
        assert_eq!(bad.status.code(), Some(2), "{message}");
        assert!(message.starts_with(&format!("billhook: {file_variable} ")), "{message}");
        assert!(!message.contains("canary"), "{message}");

        let both = shell.run(&["serve"], &[(&file_variable, &wrong), (variable, "canary")]);
        let told = format!("billhook: {file_variable} is set beside {variable}: keep one of them\n");
        assert_eq!(text(&both.stderr), told);
    }
}

#[test]
fn settings_of_tokens_that_contradict_each_other_are_told_by_their_names() {
    let shell = Shell::new();
    let pem = shell.path().join("canary.pem");
    std::fs::write(&pem, "-----BEGIN PUBLIC KEY-----\ncanary\n-----END PUBLIC KEY-----\n").expect("a file");
    std::fs::write(shell.path().join("large.pem"), "canary".repeat(4096)).expect("a file");
    let (algorithm, secret) = ("BILLHOOK_JWT_ALGORITHM", "BILLHOOK_JWT_SECRET");
    let (url, file) = ("BILLHOOK_JWT_JWKS_URL", "BILLHOOK_JWT_PUBLIC_KEY_FILE");
    let (issuer, roles, claim) =
        ("BILLHOOK_JWT_ISSUER", "BILLHOOK_JWT_MANAGE_ROLES", "BILLHOOK_JWT_ROLE_CLAIM");
    let jwks = "https://canary.example/jwks.json";
    for (settings, told) in [
        (vec![(algorithm, "RS256"), (secret, JWT_SECRET)], vec![secret, algorithm, "RS256"]),
        (vec![(algorithm, "RS256"), (secret, JWT_SECRET), (url, jwks)], vec![secret, algorithm]),
        (vec![(algorithm, "ES256"), (url, jwks), (file, "canary.pem")], vec![url, file]),
        (vec![(algorithm, "EdDSA")], vec![algorithm, url, file]),
        (vec![(secret, JWT_SECRET), (url, jwks)], vec![url, algorithm]),
        (vec![(algorithm, "HS256"), (file, "canary.pem")], vec![file, algorithm]),
        (vec![(algorithm, "RS256"), (url, jwks)], vec![issuer, url]),
        (vec![(algorithm, "RS256"), (url, "http://canary.example/"), (issuer, "i")], vec![url, "https"]),
        (vec![(algorithm, "RS256"), (url, "https://u:canary@host/"), (issuer, "i")], vec![url]),
        (vec![(algorithm, "RS256"), (file, "canary.pem")], vec![file, "RSA key of 2048"]),
        (vec![(algorithm, "RS256"), (file, "large.pem")], vec![file, "16 KiB"]),
        (vec![(algorithm, "RS256"), (file, ".")], vec![file, "cannot be read"]),
        (vec![(claim, "canary")], vec![claim, roles]),
        (vec![(roles, "owner"), (claim, "canary.")], vec![claim]),
    ] {
        let output = shell.run(&["serve"], &settings);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{settings:?}: {message}");
        assert!(message.starts_with(&format!("billhook: {} ", told[0])), "{settings:?}: {message}");
        assert!(told.iter().all(|word| message.contains(word)), "{told:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!message.contains("canary"), "{message}");
    }
}

#[test]
fn collector_endpoint_without_scheme_refuses_to_start() {
    let shell = Shell::new();
    for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
        for endpoint in ["canary:4317", "localhost:4317", "canary"] {
            let output = shell.run(&["serve"], &[(variable, endpoint)]);
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{message}");
            let told =
                format!("billhook: {variable} is not a URL that starts with `http://` or `https://`\n");
            assert_eq!(message, told);
        }
    }
}

#[test]
fn a_key_of_the_other_mode_refuses_to_start_and_names_both() {
    let shell = Shell::new();
    let database = ("DATABASE_URL", "sqlite://billhook.db");
    // The first start remembers the key's mode, and then cannot listen.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let listen = ("BILLHOOK_LISTEN", address.as_str());
    let first = shell.run(&["serve"], &[database, listen, ("STRIPE_SECRET_KEY", "sk_test_1")]);
    assert_eq!(first.status.code(), Some(1));
    assert!(text(&first.stderr).contains("BILLHOOK_LISTEN"), "{}", text(&first.stderr));

    let second = shell.run(&["serve"], &[database, listen, ("STRIPE_SECRET_KEY", "rk_live_1")]);
    let message = text(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{message}");
    assert!(message.contains("live mode key") && message.contains("test mode data"), "{message}");
}

#[test]
fn migrating_at_once_and_again_is_migrating_once() {
    let shell = Shell::new();
    std::thread::scope(|scope| {
        let replicas: Vec<_> = (0..4).map(|_| scope.spawn(|| shell.run(&["migrate"], &[]))).collect();
        for replica in replicas {
            let output = replica.join().expect("it ends");
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    });
    assert!(shell.path().join("billhook.db").exists());
    assert!(shell.run(&["migrate"], &[]).status.success());
}

#[test]
fn a_database_that_is_not_there_is_told_without_its_password() {
    let url = ("DATABASE_URL", "postgres://billhook:canary@127.0.0.1:1/billhook");
    let output = Shell::new().run(&["migrate"], &[url]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.starts_with("billhook: DATABASE_URL") && !message.contains("canary"), "{message}");
    assert!(message.contains("connection refused at 127.0.0.1:1;"), "{message}");
}

#[test]
fn database_password_that_is_not_encoded_is_explained() {
    let url = ("DATABASE_URL", "postgres://billhook:12/canary@127.0.0.1/billhook");
    for command in ["migrate", "doctor"] {
        let output = Shell::new().run(&[command], &[url]);
        let message = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success(), "{message}");
        assert!(message.contains("percent-encode") && !message.contains("canary"), "{message}");
    }
}

#[test]
fn database_file_that_cannot_be_opened_is_explained() {
    let url = ("DATABASE_URL", "sqlite://nowhere/billhook.db");
    let message = text(&Shell::new().run(&["migrate"], &[url]).stderr);
    assert!(message.contains("check that its directory exists") && !message.contains("code"), "{message}");
}

#[test]
fn a_tenant_is_linked_and_shown() {
    let shell = Shell::new();
    // Whatever the service does with its topic lines, an answer stands alone on stdout.
    let plans = [("BILLHOOK_PLANS", "pro=price_a"), ("BILLHOOK_LOG_SINK", "stdout")];
    let nowhere = shell.run(&["tenant", "show", "acme"], &plans);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(!shell.path().join("billhook.db").exists(), "looking makes no database");
    assert!(shell.run(&["migrate"], &[]).status.success());
    let unknown = shell.run(&["tenant", "show", "acme"], &plans);
    assert_eq!(unknown.status.code(), Some(1));

    let link = |tenant, customer| shell.run(&["tenant", "link", tenant, customer], &plans);
    assert_eq!(text(&link("acme", "cus_1").stdout), "Tenant acme is linked to cus_1.\n");
    assert!(link("acme", "cus_1").status.success(), "linking twice is linking once");
    for (tenant, customer, why) in
        [("acme", "cus_2", "another customer"), ("birch", "cus_1", "another tenant")]
    {
        let refused = link(tenant, customer);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
    for (tenant, customer, name) in [("a b", "cus_3", "TENANT"), ("cedar", "sub_3", "CUSTOMER")] {
        let refused = link(tenant, customer);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains(name), "{}", text(&refused.stderr));
    }

    let shown = shell.run(&["tenant", "show", "acme", "--json"], &plans);
    let json: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((&json["customer"], &json["subscription"]["plan"]), (&"cus_1".into(), &"free".into()));
    let table = text(&shell.run(&["tenant", "show", "acme"], &plans).stdout);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["customer", "cus_1"])), "{table}");

    let log = std::fs::read_to_string(shell.path().join("logs/subscription_state.log")).expect("the log");
    assert!(log.contains("\"customer.linked\"") && log.contains("\"operator\""), "{log}");
}

#[test]
fn the_story_of_a_tenant_is_told_and_of_a_stranger_there_is_none() {
    let shell = Shell::new();
    let show = |words: &[&str]| shell.run(&[&["tenant", "show"], words].concat(), &[]);
    assert!(shell.run(&["migrate"], &[]).status.success());
    assert!(shell.run(&["tenant", "link", "acme", "cus_1"], &[]).status.success());

    let story = text(&show(&["acme", "--timeline"]).stdout);
    let words: Vec<&str> = story.split_whitespace().skip(1).collect();
    assert_eq!(words, ["customer.linked", "cus_1", "operator", "trace=-"], "{story}");

    let told: Value = serde_json::from_slice(&show(&["acme", "--timeline", "--json"]).stdout).expect("JSON");
    let log = std::fs::read_to_string(shell.path().join("logs/subscription_state.log")).expect("the log");
    let mut line: Value = serde_json::from_str(&log).expect("one line");
    for of_files_alone in ["level", "topic"] {
        line.as_object_mut().expect("an object").remove(of_files_alone);
    }
    // The journal is written a moment before its line.
    line["time"] = told[0]["time"].clone();
    assert_eq!(told, Value::from(vec![line]));

    let (stranger, its_story) = (show(&["birch"]), show(&["birch", "--timeline"]));
    assert_eq!(its_story.status.code(), Some(1));
    assert_eq!(its_story.stderr, stranger.stderr, "{}", text(&its_story.stderr));
    assert!(text(&its_story.stderr).contains("nothing has ever happened"), "{}", text(&its_story.stderr));
}

#[test]
fn a_token_is_made_for_development() {
    let shell = Shell::new();
    let secret = ("BILLHOOK_JWT_SECRET", JWT_SECRET);
    let token = shell.run(&["token", "--tenant", "acme", "--user", "user-1"], &[secret]);
    assert_eq!(text(&token.stdout).trim().split('.').count(), 3);
    let service = ["token", "--user", "reports", "--scope", "billing:service"];
    assert!(shell.run(&service, &[secret]).status.success());

    for (words, environment, name) in [
        (vec!["token", "--user", "user-1"], vec![secret], "--tenant"),
        (vec!["token", "--tenant", "a b", "--user", "user-1"], vec![secret], "--tenant"),
        (vec!["token", "--tenant", "acme", "--user", "user-1"], vec![], "BILLHOOK_JWT_SECRET"),
        (
            vec!["token", "--tenant", "acme", "--user", "user-1"],
            vec![
                ("BILLHOOK_JWT_ALGORITHM", "RS256"),
                ("BILLHOOK_JWT_JWKS_URL", "https://id.example.com/jwks.json"),
                ("BILLHOOK_JWT_ISSUER", "https://id.example.com/"),
            ],
            "only who has the private key",
        ),
        (
            vec!["token", "--tenant", "acme", "--user", "user-1", "--role", "owner"],
            vec![secret],
            "BILLHOOK_JWT_MANAGE_ROLES",
        ),
    ] {
        let refused = shell.run(&words, &environment);
        assert_eq!(refused.status.code(), Some(2), "{words:?}");
        assert!(text(&refused.stderr).contains(name), "{}", text(&refused.stderr));
    }
}

#[test]
fn a_token_for_development_says_what_the_service_asks_for() {
    let environment = [
        ("BILLHOOK_JWT_SECRET", JWT_SECRET),
        ("BILLHOOK_JWT_TENANT_CLAIM", "org.id"),
        ("BILLHOOK_JWT_ISSUER", "https://id.example.com/"),
        ("BILLHOOK_JWT_AUDIENCE", "billing"),
        ("BILLHOOK_JWT_SCOPE", "billing:read"),
        ("BILLHOOK_JWT_MANAGE_SCOPE", "billing:manage"),
        ("BILLHOOK_JWT_MANAGE_ROLES", "owner,admin"),
        ("BILLHOOK_JWT_ROLE_CLAIM", "https://example.com/roles"),
    ];
    let claims = |more: &[&str]| {
        let words = [&["token", "--tenant", "acme", "--user", "user-1"], more].concat();
        let output = Shell::new().run(&words, &environment);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let key = jsonwebtoken::DecodingKey::from_secret(JWT_SECRET.as_bytes());
        let mut validation = jsonwebtoken::Validation::default();
        validation.set_audience(&["billing"]);
        validation.set_issuer(&["https://id.example.com/"]);
        let read = jsonwebtoken::decode::<Value>(text(&output.stdout).trim(), &key, &validation);
        read.expect("another implementation takes it").claims
    };
    let owner = claims(&[]);
    assert_eq!((&owner["sub"], &owner["org"]["id"]), (&"user-1".into(), &"acme".into()));
    assert_eq!(owner["scope"], "billing:read billing:manage");
    assert_eq!(owner["https://example.com/roles"], serde_json::json!(["owner"]));
    let member = claims(&["--role", "member", "--scope", "billing:read"]);
    assert_eq!(member["scope"], "billing:read");
    assert_eq!(member["https://example.com/roles"], serde_json::json!(["member"]));
}

#[test]
fn a_certificate_that_cannot_be_served_stops_the_start_with_one_sentence() {
    let shell = Shell::new();
    for name in ["empty", "other"] {
        std::fs::write(shell.path().join(name), "").expect("written");
    }
    let (certificate, key) = ("BILLHOOK_TLS_CERTIFICATE_FILE", "BILLHOOK_TLS_KEY_FILE");
    for (environment, sentence) in [
        (vec![(certificate, "empty")], format!("{key} is not set, and {certificate} is: HTTPS takes both")),
        (vec![(key, "empty")], format!("{certificate} is not set, and {key} is: HTTPS takes both")),
        (
            vec![(certificate, "nowhere"), (key, "empty")],
            format!("{certificate} names a file that cannot be read: No such file"),
        ),
        (
            vec![(certificate, "empty"), (key, "nowhere")],
            format!("{key} names a file that cannot be read: No such file"),
        ),
        (
            vec![(certificate, "empty"), (key, "other")],
            format!("{certificate} names a file that holds no certificate"),
        ),
    ] {
        let output = shell.run(&["serve"], &environment);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.starts_with(&format!("billhook: {sentence}")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let nothing = [
        ("DATABASE_URL", ""),
        ("STRIPE_SECRET_KEY", ""),
        ("STRIPE_WEBHOOK_SECRET", ""),
        ("STRIPE_API_BASE", ""),
        ("BILLHOOK_METRICS_LISTEN", ""),
        ("BILLHOOK_TLS_CERTIFICATE_FILE", ""),
        ("BILLHOOK_TLS_KEY_FILE", ""),
        ("BILLHOOK_APP_URL", ""),
        ("BILLHOOK_PLANS", ""),
        ("BILLHOOK_JWT_ALGORITHM", ""),
        ("BILLHOOK_JWT_SECRET", ""),
        ("BILLHOOK_JWT_JWKS_URL", ""),
        ("BILLHOOK_JWT_PUBLIC_KEY_FILE", ""),
        ("BILLHOOK_JWT_TENANT_CLAIM", ""),
        ("BILLHOOK_JWT_MANAGE_SCOPE", ""),
        ("BILLHOOK_JWT_MANAGE_ROLES", ""),
        ("BILLHOOK_JWT_ROLE_CLAIM", ""),
        ("BILLHOOK_THROTTLE_PER_MINUTE", ""),
        ("BILLHOOK_PAST_DUE_GRANTS", ""),
        ("BILLHOOK_TRUST_CLIENT_REFERENCE", ""),
        ("BILLHOOK_JOURNEY_WINDOW_HOURS", ""),
        ("BILLHOOK_LOG_SINK", ""),
        ("BILLHOOK_LOG_DIR", ""),
        ("BILLHOOK_LOG_MAX_MB", ""),
        ("BILLHOOK_LOG_MAX_AGE_HOURS", ""),
        ("BILLHOOK_LOG_KEEP", ""),
    ];
    let shell = Shell::new();
    let running = Running::start(&shell, &nothing);
    assert!(running.get("/readyz").contains("\"ready\""));
    assert!(running.stop().success());
    assert!(shell.path().join("billhook.db").exists() && shell.path().join("logs").is_dir());
}

#[test]
fn hang_up_opens_the_log_files_anew_and_terminate_ends_in_good_order() {
    let shell = Shell::new();
    let secret = ("STRIPE_WEBHOOK_SECRET", "whsec_1");
    let running = Running::start(&shell, &[secret]);
    let log = shell.path().join("logs/webhook_signatures.log");
    running.get_with("POST", "/api/billing/webhook/");
    eventually("the line is written", || lines(&log) == 1);

    let moved = log.with_extension("log.1");
    std::fs::rename(&log, &moved).expect("the file is moved");
    running.signal("HUP");
    eventually("there is a new file", || log.exists());
    running.get_with("POST", "/api/billing/webhook/");
    assert!(running.stop().success());
    assert_eq!([lines(&moved), lines(&log)], [1, 1]);
}

#[test]
fn topic_lines_go_to_stdout_too_or_to_stdout_alone_and_then_no_file_is_made() {
    for (sink, in_file) in [("both", 1), ("stdout", 0)] {
        let shell = Shell::new();
        let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_1"), ("BILLHOOK_LOG_SINK", sink)];
        let mut running = Running::start_with(&shell, &environment, Stdio::piped());
        let stdout = running.process.stdout.take().expect("a pipe");
        running.get_with("POST", "/api/billing/webhook/");
        running.signal("HUP");
        assert!(running.stop().success());

        let told = std::io::read_to_string(stdout).expect("text");
        let line: Value = serde_json::from_str(&told).expect("one line, and nothing else");
        assert_eq!((&line["topic"], &line["reason"]), (&"webhook_signatures".into(), &"missing".into()));
        assert_eq!(lines(&shell.path().join("logs/webhook_signatures.log")), in_file);
        assert_eq!(shell.path().join("logs").exists(), sink == "both");
    }
}

#[test]
fn a_reader_of_stdout_that_has_stalled_or_gone_stops_nothing_and_is_told_of() {
    for gone in [false, true] {
        let shell = Shell::new();
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        while is_writable(&writer) {
            writer.write_all(&[b'\n'; 4096]).expect("the pipe takes it");
        }
        let reader = (!gone).then_some(reader);
        let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_1"), ("BILLHOOK_LOG_SINK", "both")];
        let running = Running::start_with(&shell, &environment, writer.into());
        for _ in 0..10 {
            assert!(running.get_with("POST", "/api/billing/webhook/").contains("invalid_signature"));
        }
        let stderr = running.stop_and_listen();
        assert_eq!(lines(&shell.path().join("logs/webhook_signatures.log")), 10, "the file misses none");
        let told: Vec<_> = stderr.iter().filter(|line| line.starts_with("billhook: stdout ")).collect();
        assert_eq!(told.len(), 1, "seldom: {stderr:?}");
        let expected = if gone { "Broken pipe" } else { "hangs: 10 lines are not written" };
        assert!(told[0].contains(expected), "{}", told[0]);
        drop(reader);
    }
}

fn is_writable(pipe: &PipeWriter) -> bool {
    let mut wanted = [PollFd::new(pipe, PollFlags::OUT)];
    poll(&mut wanted, Some(&Timespec::default())).expect("asked") > 0
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed().as_secs() < 60, "still waiting: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// The service as a process of its own.
struct Running {
    process: Child,
    address: String,
    stderr: JoinHandle<Vec<String>>,
}

impl Running {
    fn start(shell: &Shell, environment: &[(&str, &str)]) -> Self {
        Self::start_with(shell, environment, Stdio::null())
    }

    fn start_with(shell: &Shell, environment: &[(&str, &str)], stdout: Stdio) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_billhook"))
            .arg("serve")
            .env_clear()
            .env("RUST_LOG", "info")
            .env("BILLHOOK_LISTEN", "127.0.0.1:0")
            // Nobody is to be told before it ends.
            .env("BILLHOOK_STOP_DELAY_SECONDS", "0")
            .envs(environment.iter().copied())
            .current_dir(shell.path())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stderr = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let told = stderr.find_map(|line| line.ok()?.split_once("http://").map(|(_, rest)| rest.to_owned()));
        let address =
            told.expect("it says where it listens").split_whitespace().next().expect("an address").to_owned();
        // What else it says must not fill the pipe.
        let stderr = std::thread::spawn(move || stderr.map_while(Result::ok).collect());
        Self { process, address, stderr }
    }

    fn get(&self, path: &str) -> String {
        self.get_with("GET", path)
    }

    fn get_with(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.process.wait().expect("it ends")
    }

    /// Ends it in good order. Returns what it said on stderr since it listens.
    fn stop_and_listen(mut self) -> Vec<String> {
        self.signal("TERM");
        assert!(self.process.wait().expect("it ends").success());
        self.stderr.join().expect("it has ended")
    }
}

#[test]
fn the_contract_is_printed() {
    let printed = Shell::new().run(&["openapi"], &[]);
    assert_eq!(text(&printed.stdout), billhook::http::contract());
}
