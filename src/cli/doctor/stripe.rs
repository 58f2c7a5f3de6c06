//! The checks that call Stripe.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::local::Setup;
use super::report::Report;
use crate::cli::required_stripe_client;
use crate::clock::{Clock, SystemClock};
use crate::domain::ids::{AccountId, PortalConfigurationId, PriceId};
use crate::domain::mode::Mode;
use crate::domain::plan::{Catalog, FormerKey, Plan};
use crate::domain::webhook_url::WebhookUrl;
use crate::store::Store;
use crate::stripe::{
    Deadline, PERMISSION_CHECKS, PortalConfiguration, Rejection, Stripe, StripeError, WebhookEndpoint,
};

/// For one call to Stripe with its retries.
const STRIPE_TIMEOUT: Duration = Duration::from_secs(10);

/// A correct clock can differ this much, because of the time of the call and because Stripe's date
/// has whole seconds.
const MAX_GREEN_SKEW_SECONDS: u64 = 5;

/// A fifth of the allowed age of a signature. With a larger skew, genuine webhooks and tokens may
/// be rejected.
const MAX_YELLOW_SKEW_SECONDS: u64 = 60;

/// `resource` is the name of the permission in the Dashboard.
fn grant_read_access(resource: &str) -> String {
    format!("give the restricted key read access to {resource}, or look there in the Dashboard")
}

/// The checks that are skipped if Stripe cannot be reached with the key.
const CHECKS_WITH_KEY: [&str; 6] = ["account", "clock", "permissions", "prices", "portal", "webhook"];

pub(super) async fn run_checks(setup: &Setup, store: Option<&Store>, report: &mut Report) {
    let Some(config) = setup.stripe.as_ref().filter(|config| config.api.secret_key.is_some()) else {
        report.skip(&["key"], "STRIPE_SECRET_KEY is not set or cannot be read");
        return report.skip(&CHECKS_WITH_KEY, "there is no key to call Stripe with");
    };
    let stripe = match required_stripe_client(&config.api) {
        Ok(stripe) => stripe,
        Err(error) => {
            report.red("key", error, "this is a bug in Billhook: report it");
            return report.skip(&CHECKS_WITH_KEY, "Stripe cannot be called");
        }
    };
    let named = config.portal_configuration.as_ref();
    let settings = stripe.portal_settings(named, Deadline::after(STRIPE_TIMEOUT)).await;
    match &settings {
        Err(StripeError::Rejected(Rejection { status: 401, .. })) => {
            report.red("key", "Stripe rejects the key", "copy it again from Stripe's Dashboard");
            return report.skip(&CHECKS_WITH_KEY, "Stripe rejects the key");
        }
        Err(error @ StripeError::Unavailable { .. }) => {
            report.red("key", error, "allow this host to reach Stripe's API over HTTPS, and try again");
            return report.skip(&CHECKS_WITH_KEY, "Stripe cannot be reached");
        }
        Ok(_) | Err(StripeError::Rejected(_)) => {
            report.green("key", format_args!("Stripe accepts the key, in {} mode", stripe.mode()));
        }
    }
    own_account(&stripe, config.account.as_ref(), store, report).await;
    match settings.as_ref().ok().and_then(|settings| settings.answered_at) {
        Some(answered_at) => clock(answered_at, report),
        None => report.skip(&["clock"], "Stripe's response has no date"),
    }
    permissions(&stripe, report).await;
    match &setup.billing {
        Some(billing) => {
            let fetched = prices(&stripe, &billing.events.catalog, report).await;
            if let Some(store) = store {
                former_keys(&billing.events.catalog, &fetched, store, report).await;
            }
        }
        None => report.skip(&["prices"], "BILLHOOK_PLANS cannot be read"),
    }
    portal(settings.map(|settings| settings.configuration), named, stripe.mode(), report);
    let endpoints = stripe.list_webhook_endpoints(Deadline::after(STRIPE_TIMEOUT)).await;
    webhook(endpoints, setup.webhook_url.as_ref(), report);
}

/// Checks that the key belongs to the database's account.
async fn own_account(
    stripe: &Stripe,
    asserted: Option<&AccountId>,
    store: Option<&Store>,
    report: &mut Report,
) {
    let stored = match store {
        Some(store) => store.account().await,
        None => Ok(None),
    };
    let known = match stored {
        Ok(stored) => asserted.cloned().or(stored),
        Err(error) => return report.database_error("account", &error),
    };
    match (stripe.own_account(Deadline::after(STRIPE_TIMEOUT)).await, known) {
        (Ok(own), Some(known)) if own != known => report.red(
            "account",
            format_args!("the key belongs to {own}, but the database or STRIPE_ACCOUNT has {known}"),
            "use a key of that account, or another database",
        ),
        (Ok(own), _) => report.green("account", format_args!("the key belongs to {own}")),
        (Err(_), Some(known)) => {
            report
                .green("account", format_args!("{known}; the key has no permission to read it from Stripe"));
        }
        (Err(error), None) => report.yellow(
            "account",
            format_args!("is not known: {error}; events that name an account or context are quarantined"),
            "set STRIPE_ACCOUNT, or give the restricted key read access to the account",
        ),
    }
}

fn clock(answered_at: i64, report: &mut Report) {
    let skew = SystemClock.now_seconds().saturating_sub(answered_at);
    let says = format!("{skew} s off Stripe's clock");
    let fix = "synchronise it with NTP: it decides whether signatures and tokens have expired";
    if skew.unsigned_abs() <= MAX_GREEN_SKEW_SECONDS {
        report.green("clock", says);
    } else if skew.unsigned_abs() <= MAX_YELLOW_SKEW_SECONDS {
        report.yellow("clock", says, fix);
    } else {
        report.red("clock", says, fix);
    }
}

/// Checks the permissions of a restricted key that no other check needs.
async fn permissions(stripe: &Stripe, report: &mut Report) {
    let mut has_all = true;
    for check in PERMISSION_CHECKS {
        let Err(error) = stripe.check_permission(check, Deadline::after(STRIPE_TIMEOUT)).await else {
            continue;
        };
        has_all = false;
        let says = format!("{}: {error}", check.purpose);
        match &error {
            StripeError::Rejected(Rejection { missing_permission: Some(permission), .. }) => {
                let fix = format!("give the restricted key the permission `{permission}` in the Dashboard");
                report.red("permissions", says, fix);
            }
            error if error.is_not_permitted() => {
                report.red("permissions", says, "give the restricted key this permission in the Dashboard");
            }
            _ => report.yellow("permissions", says, "try again; if it fails again, contact Stripe's support"),
        }
    }
    if has_all {
        report.green(
            "permissions",
            "the key can read events, subscriptions and invoices, and create checkout and portal sessions",
        );
    }
}

#[derive(Default)]
struct FetchedPrices {
    /// The price that has each lookup key now.
    holders: BTreeMap<PriceId, PriceId>,
    /// The configured prices that could not be fetched.
    failed: BTreeSet<PriceId>,
}

/// Checks that the configured prices can be sold.
async fn prices(stripe: &Stripe, catalog: &Catalog, report: &mut Report) -> FetchedPrices {
    let (mut checked, mut good) = (0, 0);
    let mut metered: Vec<&str> = Vec::new();
    let mut fetched = FetchedPrices::default();
    for plan in catalog.plans() {
        for price in &plan.prices {
            checked += 1;
            let found = stripe.price(price, Deadline::after(STRIPE_TIMEOUT)).await;
            let is_sold = plan.prices.first() == Some(price);
            if let Ok(Some(found)) = &found
                && found.lookup_key.as_ref() == Some(price)
            {
                fetched.holders.insert(price.clone(), found.id.clone());
            }
            let says = |what: &str| format!("{price} of {} {what}", plan.name);
            match found {
                Err(error) => {
                    report.yellow("prices", format_args!("{price}: {error}"), grant_read_access("Prices"));
                    fetched.failed.insert(price.clone());
                }
                Ok(None) => report.red(
                    "prices",
                    says("does not exist at Stripe"),
                    "correct BILLHOOK_PLANS, or create the price",
                ),
                Ok(Some(found)) if !found.is_recurring() => {
                    report.red(
                        "prices",
                        says("is a one-time price"),
                        "use a recurring price in BILLHOOK_PLANS",
                    );
                }
                Ok(Some(found)) if !found.active && is_sold => {
                    report.red("prices", says("is archived"), "activate it, or put an active price first");
                }
                Ok(Some(found)) => {
                    good += 1;
                    metered.extend(found.is_metered().then_some(price.as_str()));
                }
            }
        }
    }
    if checked == 0 {
        report.skip(&["prices"], "BILLHOOK_PLANS is not set");
    } else if good == checked {
        let names: Vec<&str> = catalog.plans().iter().map(|Plan { name, .. }| name.as_str()).collect();
        let metered = match metered.as_slice() {
            [] => String::new(),
            metered => format!("; metered, so sold without a quantity: {}", metered.join(", ")),
        };
        let prices = match (good, names.as_slice()) {
            (1, _) => format!("the price of the plan {} exists and is", names.join("")),
            (_, [name]) => format!("all {good} prices of the plan {name} exist and are"),
            (_, [first @ .., last]) => {
                format!("all {good} prices of the plans {} and {last} exist and are", first.join(", "))
            }
            (_, []) => unreachable!("a catalog with prices has a plan"),
        };
        report.green("prices", format_args!("{prices} recurring{metered}"));
    }
    fetched
}

/// Finds prices that belong to a plan only by a lookup key that has moved to another price. Their
/// subscribers keep the plan as long as this database stores the old key.
async fn former_keys(catalog: &Catalog, fetched: &FetchedPrices, store: &Store, report: &mut Report) {
    let known = match store.all_known_prices().await {
        Ok(known) => known,
        Err(error) => return report.database_error("prices", &error),
    };
    for FormerKey { price, lookup_key, plan } in catalog.former_keys(&known, &fetched.holders) {
        if fetched.failed.contains(&lookup_key) {
            continue;
        }
        let says =
            format!("{price} is recognised as {plan} only by {lookup_key}, a lookup key that it had before");
        report.yellow("prices", says, format_args!("add {price} to the prices of {plan} in BILLHOOK_PLANS"));
    }
}

/// Checks that the portal opens, and lists the features that its settings disable.
fn portal(
    configuration: Result<Option<PortalConfiguration>, StripeError>,
    named: Option<&PortalConfigurationId>,
    mode: Mode,
    report: &mut Report,
) {
    let test = if mode == Mode::Test { "test/" } else { "" };
    let settings = format!("https://dashboard.stripe.com/{test}settings/billing/portal");
    let configuration = match (configuration, named) {
        (Err(error), _) => return report.yellow("portal", error, grant_read_access("Customer portal")),
        (Ok(Some(configuration)), _) => configuration,
        (Ok(None), Some(id)) => {
            let says = format!("BILLHOOK_PORTAL_CONFIGURATION is {id}, which does not exist at Stripe");
            return report.red("portal", says, "use a configuration of this account and mode, or unset it");
        }
        (Ok(None), None) => {
            let says = "its settings were never saved, so no portal opens";
            return report.red("portal", says, format_args!("save them at {settings}"));
        }
    };
    let name = named.map_or_else(|| "its settings".to_owned(), |id| format!("the configuration {id}"));
    let off = configuration.disabled_features();
    if !configuration.active {
        let says = format!("{name} cannot be used because it is inactive");
        report.red("portal", says, "activate it at Stripe, or set another in BILLHOOK_PORTAL_CONFIGURATION");
    } else if !off.is_empty() {
        let says = format!("these features are off in {name}: {}", off.join(", "));
        let fix = named.map_or_else(
            || format!("enable at {settings} what tenants should be able to do"),
            |_| "enable in it, through Stripe's API, what tenants should be able to do".to_owned(),
        );
        report.yellow("portal", says, fix);
    } else if named.is_some() {
        report.green("portal", format_args!("{name} is active"));
    } else {
        report.green("portal", "its settings are saved");
    }
}

fn webhook(
    endpoints: Result<Vec<WebhookEndpoint>, StripeError>,
    url: Option<&WebhookUrl>,
    report: &mut Report,
) {
    let endpoints = match endpoints {
        Ok(endpoints) => endpoints,
        Err(error) => return report.yellow("webhook", error, grant_read_access("Webhook Endpoints")),
    };
    let has_our_url = |endpoint: &&WebhookEndpoint| match url {
        Some(url) => url.matches(&endpoint.url),
        None => WebhookUrl::has_webhook_path(&endpoint.url),
    };
    match endpoints.iter().filter(has_our_url).collect::<Vec<_>>().as_slice() {
        [] => {
            let url = url.map_or("https://...", WebhookUrl::as_str);
            let fix = format!("run `billhook webhook register --url {url}`");
            report.red("webhook", "no endpoint at Stripe posts to this service", fix);
        }
        [one] => endpoint(one, report),
        several => {
            for one in several {
                endpoint(one, report);
            }
            report.yellow(
                "webhook",
                format_args!("{} endpoints send every event", several.len()),
                "finish the rotation with `billhook webhook rotate --finish`, or remove all but one",
            );
        }
    }
}

fn endpoint(endpoint: &WebhookEndpoint, report: &mut Report) {
    let says = |what: &str| format!("{} at {} {what}", endpoint.id, endpoint.url);
    let register = format!("run `billhook webhook register --url {}`", endpoint.url);
    let missing = endpoint.missing_events();
    let version = endpoint.api_version.as_deref();
    if !endpoint.is_enabled() {
        report.red("webhook", says("is disabled"), register);
    } else if !missing.is_empty() {
        report.red("webhook", says(&format!("does not send {}", missing.join(", "))), register);
    } else if !endpoint.has_usable_version() {
        let what = format!("has the API version {}, older than 2020", version.unwrap_or_default());
        report.red("webhook", says(&what), "create another with `billhook webhook rotate`");
    } else if endpoint.has_unhandled_events() {
        report.yellow("webhook", says("sends event types that Billhook does not handle"), register);
    } else {
        let version = version.unwrap_or("of the account");
        report.green(
            "webhook",
            says(&format!("is enabled and sends all handled event types, in version {version}")),
        );
    }
}
