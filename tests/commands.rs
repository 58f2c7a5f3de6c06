//! Runs the real `billhook` binary as an operator or a script does.

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tempfile::TempDir;

const JWT_SECRET: &str = "a-jwt-secret-of-at-least-32-bytes-long";

/// Runs the binary in a temporary directory, with only the given environment.
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
fn serve_help_lists_every_variable_and_no_secret() {
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
fn invalid_value_is_refused_by_its_name_without_the_value() {
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
fn secret_file_is_read_and_named_in_errors() {
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
        let message = format!("billhook: {file_variable} and {variable} are both set: keep one of them\n");
        assert_eq!(text(&both.stderr), message);
    }
}

#[test]
fn contradicting_token_settings_are_named() {
    let shell = Shell::new();
    let pem = shell.path().join("canary.pem");
    std::fs::write(&pem, "-----BEGIN PUBLIC KEY-----\ncanary\n-----END PUBLIC KEY-----\n").expect("a file");
    std::fs::write(shell.path().join("large.pem"), "canary".repeat(4096)).expect("a file");
    let (algorithm, secret) = ("BILLHOOK_JWT_ALGORITHM", "BILLHOOK_JWT_SECRET");
    let (url, file) = ("BILLHOOK_JWT_JWKS_URL", "BILLHOOK_JWT_PUBLIC_KEY_FILE");
    let (issuer, roles, claim) =
        ("BILLHOOK_JWT_ISSUER", "BILLHOOK_JWT_MANAGE_ROLES", "BILLHOOK_JWT_ROLE_CLAIM");
    let jwks = "https://canary.example/jwks.json";
    for (settings, words) in [
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
        assert!(message.starts_with(&format!("billhook: {} ", words[0])), "{settings:?}: {message}");
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
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
            let expected =
                format!("billhook: {variable} is not a URL that starts with `http://` or `https://`\n");
            assert_eq!(message, expected);
        }
    }
}

#[test]
fn key_of_other_mode_refuses_to_start() {
    let shell = Shell::new();
    let database = ("DATABASE_URL", "sqlite://billhook.db");
    // The first start stores the key's mode, and then cannot listen.
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
fn address_in_use_is_reported_with_flag_and_variable() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for (flag, variable) in [("--listen", "BILLHOOK_LISTEN"), ("--metrics-listen", "BILLHOOK_METRICS_LISTEN")]
    {
        let environment = [("BILLHOOK_LISTEN", "127.0.0.1:0"), (variable, address.as_str())];
        let output = Shell::new().run(&["serve"], &environment);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(
            message.contains(&format!("cannot listen on {address}: Address already in use")),
            "{message}"
        );
        let advice = format!("Choose another address with {flag} or {variable}\n");
        assert!(message.ends_with(&advice), "{message}");
    }
}

#[test]
fn concurrent_and_repeated_migrations_succeed() {
    let shell = Shell::new();
    std::thread::scope(|scope| {
        let replicas: Vec<_> = (0..4).map(|_| scope.spawn(|| shell.run(&["migrate"], &[]))).collect();
        for replica in replicas {
            let output = replica.join().expect("the thread ends");
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    });
    assert!(shell.path().join("billhook.db").exists());
    assert!(shell.run(&["migrate"], &[]).status.success());
}

#[test]
fn unreachable_database_is_reported_without_password() {
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
fn missing_sqlite_file_is_named() {
    let target = ("DATABASE_URL", "postgres://127.0.0.1:1/billhook");
    let copied = Shell::new().run(&["migrate", "--from", "sqlite://nope.db"], &[target]);
    assert_eq!(
        text(&copied.stderr),
        "billhook: --from: the database is not available: the file nope.db does not exist\n"
    );
    let listed = Shell::new().run(&["tenant", "list"], &[("BILLHOOK_PLANS", "pro=price_a")]);
    assert_eq!(
        text(&listed.stderr),
        "billhook: DATABASE_URL: the database is not available: the file billhook.db does not exist\n"
    );
}

#[test]
fn tenant_is_linked_and_shown() {
    let shell = Shell::new();
    // A command writes only its output to stdout, whatever the service's log sink is.
    let plans = [("BILLHOOK_PLANS", "pro=price_a"), ("BILLHOOK_LOG_SINK", "stdout")];
    let nowhere = shell.run(&["tenant", "show", "acme"], &plans);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(!shell.path().join("billhook.db").exists(), "`show` creates no database");
    assert!(shell.run(&["migrate"], &[]).status.success());
    let unknown = shell.run(&["tenant", "show", "acme"], &plans);
    assert_eq!(unknown.status.code(), Some(1));

    let link = |tenant, customer| shell.run(&["tenant", "link", tenant, customer], &plans);
    assert_eq!(text(&link("acme", "cus_1").stdout), "Tenant acme is linked to cus_1.\n");
    assert!(link("acme", "cus_1").status.success(), "linking twice succeeds");
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
fn link_warns_about_id_that_is_not_a_customer_id() {
    let shell = Shell::new();
    assert!(shell.run(&["migrate"], &[]).status.success());
    let plans = [("BILLHOOK_PLANS", "pro=price_a")];
    let linked = shell.run(&["tenant", "link", "acme", "foo"], &plans);
    assert_eq!(text(&linked.stdout), "Tenant acme is linked to foo.\n");
    let warning = text(&linked.stderr);
    assert!(linked.status.success() && warning.contains("foo does not look like `cus_...`"), "{warning}");
    assert_eq!(text(&shell.run(&["tenant", "link", "birch", "cus_1"], &plans).stderr), "");
}

#[test]
fn list_warns_about_unknown_plan_and_status() {
    let shell = Shell::new();
    assert!(shell.run(&["migrate"], &[]).status.success());
    let list = |words: &[&str]| {
        let output = shell.run(&[&["tenant", "list"], words].concat(), &[("BILLHOOK_PLANS", "pro=price_a")]);
        assert!(output.status.success());
        text(&output.stderr)
    };
    assert_eq!(list(&["--plan", "pro,free", "--status", "past_due,none"]), "");
    assert_eq!(list(&["--plan", "pro,gold"]), "billhook: --plan: BILLHOOK_PLANS has no plan `gold`\n");
    assert_eq!(
        list(&["--status", "foo"]),
        "billhook: --status: `foo` is not a status of Stripe, nor `none`\n"
    );
}

#[test]
fn erase_needs_dry_run_or_yes() {
    let output = Shell::new().run(&["tenant", "erase", "acme"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "billhook: `tenant erase` cannot be undone: give --dry-run or --yes\n");
    let both = Shell::new().run(&["tenant", "erase", "acme", "--dry-run", "--yes"], &[]);
    assert_eq!(both.status.code(), Some(2), "{}", text(&both.stderr));
}

#[test]
fn closed_pipe_ends_command_quietly() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut openapi = Command::new(env!("CARGO_BIN_EXE_billhook"));
    let openapi = openapi.arg("openapi").env_clear().stdout(writer).stderr(Stdio::piped());
    let output = openapi.spawn().and_then(Child::wait_with_output).expect("the binary runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn help_fits_100_columns_and_groups_options() {
    for command in [
        &["serve"][..],
        &["doctor"],
        &["migrate"],
        &["deployment", "adopt"],
        &["event", "replay"],
        &["tenant", "erase"],
        &["tenant", "import"],
        &["tenant", "unlink"],
        &["webhook", "rotate"],
    ] {
        let help = text(&Shell::new().run(&[command, &["--help"]].concat(), &[]).stdout);
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{command:?}: {help}");
    }
    let help = text(&Shell::new().run(&["webhook", "rotate", "--help"], &[]).stdout);
    let (before, database) = help.split_once("\nDatabase:\n").expect("a heading");
    for flag in ["--url ", "--secret-file ", "--dry-run "] {
        assert!(before.contains(flag) && !database.contains(flag), "{flag}: {help}");
    }
}

#[test]
fn timeline_shows_tenant_and_fails_for_unknown_one() {
    let shell = Shell::new();
    let show = |words: &[&str]| shell.run(&[&["tenant", "show"], words].concat(), &[]);
    assert!(shell.run(&["migrate"], &[]).status.success());
    assert!(shell.run(&["tenant", "link", "acme", "cus_1"], &[]).status.success());

    let timeline = text(&show(&["acme", "--timeline"]).stdout);
    let words: Vec<&str> = timeline.split_whitespace().collect();
    assert_eq!(
        words[..8],
        ["TIME", "WHAT", "STATUS", "SUBJECT", "EVENT", "REASON", "TYPE", "TRACE"],
        "{timeline}"
    );
    assert_eq!(words[9..], ["customer.linked", "-", "cus_1", "-", "operator", "-"], "{timeline}");

    let timeline: Value =
        serde_json::from_slice(&show(&["acme", "--timeline", "--json"]).stdout).expect("JSON");
    let log = std::fs::read_to_string(shell.path().join("logs/subscription_state.log")).expect("the log");
    let mut line: Value = serde_json::from_str(&log).expect("one line");
    for log_only in ["level", "topic"] {
        line.as_object_mut().expect("an object").remove(log_only);
    }
    // The journal is written just before the log line.
    line["time"] = timeline[0]["time"].clone();
    assert_eq!(timeline, Value::from(vec![line]));

    let (unknown, without_timeline) = (show(&["birch"]), show(&["birch", "--timeline"]));
    assert_eq!(without_timeline.status.code(), Some(1));
    assert_eq!(without_timeline.stderr, unknown.stderr, "{}", text(&unknown.stderr));
    assert!(text(&unknown.stderr).contains("tenant birch is not known"), "{}", text(&unknown.stderr));
}

#[test]
fn token_command_signs_tokens_or_names_missing_setting() {
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
            "only your issuer has the private key",
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
fn token_has_the_claims_that_the_service_requires() {
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
        read.expect("another implementation accepts it").claims
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
fn unusable_certificate_refuses_to_start() {
    let shell = Shell::new();
    for name in ["empty", "other"] {
        std::fs::write(shell.path().join(name), "").expect("written");
    }
    let (certificate, key) = ("BILLHOOK_TLS_CERTIFICATE_FILE", "BILLHOOK_TLS_KEY_FILE");
    for (environment, sentence) in [
        (vec![(certificate, "empty")], format!("{key} is not set, but {certificate} is: HTTPS needs both")),
        (vec![(key, "empty")], format!("{certificate} is not set, but {key} is: HTTPS needs both")),
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
            format!("{certificate} names a file that contains no certificate"),
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
fn empty_variable_counts_as_not_set() {
    let empty = [
        ("DATABASE_URL", ""),
        ("DATABASE_URL_FILE", ""),
        ("STRIPE_SECRET_KEY", ""),
        ("STRIPE_SECRET_KEY_FILE", ""),
        ("STRIPE_WEBHOOK_SECRET", ""),
        ("STRIPE_WEBHOOK_SECRET_FILE", ""),
        ("STRIPE_API_BASE", ""),
        ("BILLHOOK_METRICS_LISTEN", ""),
        ("BILLHOOK_TLS_CERTIFICATE_FILE", ""),
        ("BILLHOOK_TLS_KEY_FILE", ""),
        ("BILLHOOK_APP_URL", ""),
        ("BILLHOOK_PLANS", ""),
        ("BILLHOOK_JWT_ALGORITHM", ""),
        ("BILLHOOK_JWT_SECRET", ""),
        ("BILLHOOK_JWT_SECRET_FILE", ""),
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
    let running = Running::start(&shell, &empty);
    assert!(running.get("/readyz").contains("\"ready\""));
    assert!(running.stop().success());
    assert!(shell.path().join("billhook.db").exists() && shell.path().join("logs").is_dir());
}

#[test]
fn sighup_reopens_log_files_and_sigterm_exits_with_success() {
    let shell = Shell::new();
    let secret = ("STRIPE_WEBHOOK_SECRET", "whsec_1");
    let running = Running::start(&shell, &[secret]);
    let log = shell.path().join("logs/webhook_signatures.log");
    running.get_with("POST", "/api/billing/webhook/");
    eventually("the line is written", || lines(&log) == 1);

    let moved = log.with_extension("log.1");
    std::fs::rename(&log, &moved).expect("moved");
    running.signal("HUP");
    eventually("there is a new file", || log.exists());
    running.get_with("POST", "/api/billing/webhook/");
    assert!(running.stop().success());
    assert_eq!([lines(&moved), lines(&log)], [1, 1]);
}

#[test]
fn log_sink_writes_topic_lines_to_stdout_with_or_without_files() {
    for (sink, in_file) in [("both", 1), ("stdout", 0)] {
        let shell = Shell::new();
        let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_1"), ("BILLHOOK_LOG_SINK", sink)];
        let mut running = Running::start_with(&shell, &environment, Stdio::piped());
        let stdout = running.process.stdout.take().expect("a pipe");
        running.get_with("POST", "/api/billing/webhook/");
        running.signal("HUP");
        assert!(running.stop().success());

        let printed = std::io::read_to_string(stdout).expect("text");
        let line: Value = serde_json::from_str(&printed).expect("one line and nothing else");
        assert_eq!((&line["topic"], &line["reason"]), (&"webhook_signatures".into(), &"missing".into()));
        assert_eq!(lines(&shell.path().join("logs/webhook_signatures.log")), in_file);
        assert_eq!(shell.path().join("logs").exists(), sink == "both");
    }
}

#[test]
fn stalled_or_closed_stdout_is_reported_and_blocks_nothing() {
    for is_closed in [false, true] {
        let shell = Shell::new();
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        while is_writable(&writer) {
            writer.write_all(&[b'\n'; 4096]).expect("written");
        }
        let reader = (!is_closed).then_some(reader);
        let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_1"), ("BILLHOOK_LOG_SINK", "both")];
        let running = Running::start_with(&shell, &environment, writer.into());
        for _ in 0..10 {
            assert!(running.get_with("POST", "/api/billing/webhook/").contains("invalid_signature"));
        }
        let stderr = running.stop_with_stderr();
        assert_eq!(lines(&shell.path().join("logs/webhook_signatures.log")), 10, "the file has every line");
        let reports: Vec<_> = stderr.iter().filter(|line| line.starts_with("billhook: stdout ")).collect();
        assert_eq!(reports.len(), 1, "{stderr:?}");
        let expected = if is_closed { "Broken pipe" } else { "hangs: 10 lines are not written" };
        assert!(reports[0].contains(expected), "{}", reports[0]);
        drop(reader);
    }
}

fn is_writable(pipe: &PipeWriter) -> bool {
    let mut wanted = [PollFd::new(pipe, PollFlags::OUT)];
    poll(&mut wanted, Some(&Timespec::default())).expect("poll works") > 0
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed().as_secs() < 60, "still waiting: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// The service as a process.
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
            // No load balancer has to notice the stop.
            .env("BILLHOOK_STOP_DELAY_SECONDS", "0")
            .envs(environment.iter().copied())
            .current_dir(shell.path())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stderr = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let url = stderr.find_map(|line| line.ok()?.split_once("http://").map(|(_, rest)| rest.to_owned()));
        let address =
            url.expect("the log has the address").split_whitespace().next().expect("an address").to_owned();
        // Further log lines must not fill the pipe.
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
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        response
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.process.wait().expect("the process ends")
    }

    /// Stops the service with SIGTERM. Returns the lines of stderr since it has listened.
    fn stop_with_stderr(mut self) -> Vec<String> {
        self.signal("TERM");
        assert!(self.process.wait().expect("the process ends").success());
        self.stderr.join().expect("the reader ends")
    }
}

#[test]
fn openapi_command_prints_the_document() {
    let printed = Shell::new().run(&["openapi"], &[]);
    assert_eq!(text(&printed.stdout), billhook::http::openapi_document());
}
