//! What only Stripe can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::here::Setup;
use super::report::Report;
use crate::cli::asking_stripe;
use crate::clock::{Clock, SystemClock};
use crate::domain::ids::{AccountId, PortalConfigurationId, PriceId};
use crate::domain::mode::Mode;
use crate::domain::plan::{Catalog, FormerKey, Plan};
use crate::domain::webhook_url::WebhookUrl;
use crate::store::Store;
use crate::stripe::{Deadline, PortalConfiguration, Rejection, Stripe, StripeError, TRIALS, WebhookEndpoint};

/// How long Stripe may take for one answer, retries and all.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the way to Stripe and back, and a date in whole seconds, may make of a clock that is right.
const GOOD_SKEW_SECONDS: u64 = 5;

/// A fifth of what a signature's age may be: beyond it good webhooks and tokens are in danger.
const USABLE_SKEW_SECONDS: u64 = 60;

const PERMISSION: &str = "give the restricted key read access to it, or look in the Dashboard";

/// What is not checked without an answer from Stripe.
const AFTER_KEY: [&str; 6] = ["account", "clock", "permissions", "prices", "portal", "webhook"];

/// Looks at everything at Stripe that the service depends on.
pub(super) async fn account(setup: &Setup, store: Option<&Store>, report: &mut Report) {
    let Some(config) = setup.stripe.as_ref().filter(|config| config.api.secret_key.is_some()) else {
        report.skip(&["key"], "STRIPE_SECRET_KEY is not set or cannot be read");
        return report.skip(&AFTER_KEY, "there is no key to ask Stripe with");
    };
    let stripe = match asking_stripe(&config.api) {
        Ok(stripe) => stripe,
        Err(error) => {
            report.red("key", error, "this is a defect: report it");
            return report.skip(&AFTER_KEY, "Stripe cannot be asked");
        }
    };
    let named = config.portal_configuration.as_ref();
    let settings = stripe.portal_settings(named, Deadline::after(PATIENCE)).await;
    match &settings {
        Err(StripeError::Rejected(Rejection { status: 401, .. })) => {
            report.red("key", "Stripe does not know it", "copy it anew from Stripe's Dashboard");
            return report.skip(&AFTER_KEY, "Stripe does not know the key");
        }
        Err(error @ StripeError::Unavailable { .. }) => {
            report.red("key", error, "let this host reach Stripe's API over HTTPS, and try again");
            return report.skip(&AFTER_KEY, "Stripe cannot be reached");
        }
        Ok(_) | Err(StripeError::Rejected(_)) => {
            report.green("key", format_args!("Stripe takes it, in {} mode", stripe.mode()));
        }
    }
    own_account(&stripe, config.account.as_ref(), store, report).await;
    match settings.as_ref().ok().and_then(|settings| settings.answered_at) {
        Some(answered_at) => clock(answered_at, report),
        None => report.skip(&["clock"], "Stripe's answer has no date"),
    }
    permissions(&stripe, report).await;
    match &setup.billing {
        Some(billing) => {
            let looked_up = prices(&stripe, &billing.events.catalog, report).await;
            if let Some(store) = store {
                former_keys(&billing.events.catalog, &looked_up, store, report).await;
            }
        }
        None => report.skip(&["prices"], "BILLHOOK_PLANS cannot be read"),
    }
    portal(settings.map(|settings| settings.configuration), named, stripe.mode(), report);
    let endpoints = stripe.list_webhook_endpoints(Deadline::after(PATIENCE)).await;
    webhook(endpoints, setup.webhook_url.as_ref(), report);
}

/// Which account the key is of, and whether that is the database's.
async fn own_account(
    stripe: &Stripe,
    asserted: Option<&AccountId>,
    store: Option<&Store>,
    report: &mut Report,
) {
    let remembered = match store {
        Some(store) => store.account().await,
        None => Ok(None),
    };
    let known = match remembered {
        Ok(remembered) => asserted.cloned().or(remembered),
        Err(error) => return report.red("account", error, "look at the database's own log"),
    };
    match (stripe.own_account(Deadline::after(PATIENCE)).await, known) {
        (Ok(own), Some(known)) if own != known => report.red(
            "account",
            format_args!("the key is of {own}, the database or STRIPE_ACCOUNT is of {known}"),
            "use the key of the other account, or a database of its own",
        ),
        (Ok(own), _) => report.green("account", format_args!("the key is of {own}")),
        (Err(_), Some(known)) => {
            report.green("account", format_args!("{known}, which the key may not ask Stripe about"));
        }
        (Err(error), None) => report.yellow(
            "account",
            format_args!("is not known, {error}: events that name an account or context are quarantined"),
            "set STRIPE_ACCOUNT, or let the restricted key read the account",
        ),
    }
}

fn clock(answered_at: i64, report: &mut Report) {
    let skew = SystemClock.now_seconds().saturating_sub(answered_at);
    let says = format!("{skew} s from Stripe's");
    let mend = "have it set by NTP: signatures and tokens are held against it";
    if skew.unsigned_abs() <= GOOD_SKEW_SECONDS {
        report.green("clock", says);
    } else if skew.unsigned_abs() <= USABLE_SKEW_SECONDS {
        report.yellow("clock", says, mend);
    } else {
        report.red("clock", says, mend);
    }
}

/// What a restricted key may do, as far as no other check tries it.
async fn permissions(stripe: &Stripe, report: &mut Report) {
    let mut has_all = true;
    for trial in TRIALS {
        let Err(error) = stripe.try_out(trial, Deadline::after(PATIENCE)).await else { continue };
        has_all = false;
        let says = format!("{}: {error}", trial.purpose);
        match &error {
            StripeError::Rejected(Rejection { missing_permission: Some(permission), .. }) => {
                let mend = format!("give the restricted key the permission `{permission}` in the Dashboard");
                report.red("permissions", says, mend);
            }
            error if error.is_not_permitted() => {
                report.red("permissions", says, "give the restricted key this permission in the Dashboard");
            }
            _ => report.yellow("permissions", says, "try again; if it stays, ask Stripe's support"),
        }
    }
    if has_all {
        report.green("permissions", "the key may read events, and create checkout and portal sessions");
    }
}

/// What Stripe says of the configured prices.
#[derive(Default)]
struct LookedUpPrices {
    /// Which price has which of the lookup keys now.
    holders: BTreeMap<PriceId, PriceId>,
    /// Those about which Stripe gave no answer.
    failed: BTreeSet<PriceId>,
}

/// Whether the configured prices can be sold.
async fn prices(stripe: &Stripe, catalog: &Catalog, report: &mut Report) -> LookedUpPrices {
    let (mut looked_at, mut well) = (0, 0);
    let mut metered: Vec<&str> = Vec::new();
    let mut looked_up = LookedUpPrices::default();
    for plan in catalog.plans() {
        for price in &plan.prices {
            looked_at += 1;
            let found = stripe.price(price, Deadline::after(PATIENCE)).await;
            let is_sold = plan.prices.first() == Some(price);
            if let Ok(Some(found)) = &found
                && found.lookup_key.as_ref() == Some(price)
            {
                looked_up.holders.insert(price.clone(), found.id.clone());
            }
            let says = |what: &str| format!("{price} of {} {what}", plan.name);
            match found {
                Err(error) => {
                    report.yellow("prices", format_args!("{price}: {error}"), PERMISSION);
                    looked_up.failed.insert(price.clone());
                }
                Ok(None) => report.red(
                    "prices",
                    says("is not at Stripe"),
                    "correct BILLHOOK_PLANS, or make the price",
                ),
                Ok(Some(found)) if !found.is_recurring() => {
                    report.red("prices", says("is paid once"), "name a recurring price in BILLHOOK_PLANS");
                }
                Ok(Some(found)) if !found.active && is_sold => {
                    report.red(
                        "prices",
                        says("is archived"),
                        "activate it, or put one that can be bought first",
                    );
                }
                Ok(Some(found)) => {
                    well += 1;
                    metered.extend(found.is_metered().then_some(price.as_str()));
                }
            }
        }
    }
    if looked_at == 0 {
        report.skip(&["prices"], "BILLHOOK_PLANS is not set");
    } else if well == looked_at {
        let plans: Vec<&str> = catalog.plans().iter().map(|Plan { name, .. }| name.as_str()).collect();
        let metered = match metered.as_slice() {
            [] => String::new(),
            metered => format!("; metered, and so sold without a quantity: {}", metered.join(", ")),
        };
        report.green("prices", format_args!("all {well} of {} exist and recur{metered}", plans.join(", ")));
    }
    looked_up
}

/// Which prices have their plan only by a lookup key that another price has now: whoever subscribed to them keeps it, for as
/// long as this database remembers the key.
async fn former_keys(catalog: &Catalog, looked_up: &LookedUpPrices, store: &Store, report: &mut Report) {
    let known = match store.all_known_prices().await {
        Ok(known) => known,
        Err(error) => return report.red("prices", error, "look at the database's own log"),
    };
    for FormerKey { price, lookup_key, plan } in catalog.former_keys(&known, &looked_up.holders) {
        if looked_up.failed.contains(&lookup_key) {
            continue;
        }
        let says =
            format!("{price} is recognised as {plan} only by {lookup_key}, a lookup key that it once had");
        report.yellow("prices", says, format_args!("add {price} to the prices of {plan} in BILLHOOK_PLANS"));
    }
}

/// Whether the portal opens, and what its settings keep a tenant from doing there.
fn portal(
    configuration: Result<Option<PortalConfiguration>, StripeError>,
    named: Option<&PortalConfigurationId>,
    mode: Mode,
    report: &mut Report,
) {
    let test = if mode == Mode::Test { "test/" } else { "" };
    let settings = format!("https://dashboard.stripe.com/{test}settings/billing/portal");
    let configuration = match (configuration, named) {
        (Err(error), _) => return report.yellow("portal", error, PERMISSION),
        (Ok(Some(configuration)), _) => configuration,
        (Ok(None), Some(id)) => {
            let says = format!("BILLHOOK_PORTAL_CONFIGURATION names {id}, which is not at Stripe");
            return report.red("portal", says, "name a configuration of this account and mode, or unset it");
        }
        (Ok(None), None) => {
            let says = "its settings were never saved, so that no portal opens";
            return report.red("portal", says, format_args!("save them at {settings}"));
        }
    };
    let name = named.map_or_else(|| "its settings".to_owned(), |id| format!("its configuration {id}"));
    let off = configuration.disabled_features();
    if !configuration.active {
        let says = format!("{name} cannot be used, because the configuration is inactive");
        report.red("portal", says, "activate it at Stripe, or name another in BILLHOOK_PORTAL_CONFIGURATION");
    } else if !off.is_empty() {
        let says = format!("in {name} these are off, and cannot be done there: {}", off.join(", "));
        let mend = named.map_or_else(
            || format!("switch on at {settings} what tenants should be able to do"),
            |_| "switch on in it, through Stripe's API, what tenants should be able to do".to_owned(),
        );
        report.yellow("portal", says, mend);
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
        Err(error) => return report.yellow("webhook", error, PERMISSION),
    };
    let is_ours = |endpoint: &&WebhookEndpoint| match url {
        Some(url) => url.is(&endpoint.url),
        None => WebhookUrl::is_like_ours(&endpoint.url),
    };
    match endpoints.iter().filter(is_ours).collect::<Vec<_>>().as_slice() {
        [] => {
            let url = url.map_or("https://...", WebhookUrl::as_str);
            let mend = format!("run `billhook webhook register --url {url}`");
            report.red("webhook", "no endpoint at Stripe posts to this service", mend);
        }
        [one] => endpoint(one, report),
        several => {
            for one in several {
                endpoint(one, report);
            }
            report.yellow(
                "webhook",
                format_args!("{} endpoints bring every event", several.len()),
                "finish the roll with `billhook webhook rotate --finish`, or remove all but one",
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
        report.red("webhook", says(&format!("is not told {}", missing.join(", "))), register);
    } else if !endpoint.has_usable_version() {
        let what = format!("has the API version {}, before 2020", version.unwrap_or_default());
        report.red("webhook", says(&what), "make another with `billhook webhook rotate`");
    } else if endpoint.is_told_too_much() {
        report.yellow("webhook", says("is told more than is handled, for nothing"), register);
    } else {
        let version = version.unwrap_or("of the account");
        report.green(
            "webhook",
            says(&format!("is enabled and told all that is handled, in version {version}")),
        );
    }
}
