//! The list of plans: it is parsed completely, or refused with the right error.

use std::collections::BTreeSet;

use crate::domain::ids::{PlanName, PriceId};
use crate::domain::known_prices::KnownPrices;
use crate::domain::plan::{Catalog, InvalidPlans, Recognition};
use crate::domain::subscription::Item;

/// Random bytes as a list of plans.
pub fn list(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Catalog::parse(text, true) {
        Ok(catalog) => check_plans(&catalog, text),
        Err(error) => assert!(has_error(text, error), "{error}: {text:?}"),
    }
}

/// The names and prices between the separators.
fn entries(text: &str) -> Vec<(&str, Vec<&str>)> {
    let entries = text.split(';').filter_map(|entry| entry.split_once('='));
    entries.map(|(name, prices)| (name.trim(), prices.split(',').map(str::trim).collect())).collect()
}

fn check_plans(catalog: &Catalog, text: &str) {
    let entries = entries(text);
    assert_eq!(entries.len(), text.matches(';').count() + 1, "every entry is a plan");
    assert_eq!(catalog.default_plan().map(|plan| plan.name.as_str()), Some(entries[0].0));
    for (name, prices) in &entries {
        let plan = catalog.plan(name).expect("a plan with this name");
        assert_eq!(plan.name.as_str(), *name);
        assert_eq!(plan.prices.iter().map(PriceId::as_str).collect::<Vec<_>>(), *prices);
        assert!(plan.prices.iter().all(|price| is_known(catalog, price)));
    }
    let unknown = PriceId::parse("price_of_nothing").expect("a price");
    assert_eq!(
        is_known(catalog, &unknown),
        entries.iter().any(|(_, prices)| prices.contains(&unknown.as_str()))
    );

    let compact = entries.iter().map(format_entry).collect::<Vec<_>>().join(";");
    assert_eq!(plans(&compact, &entries), plans(text, &entries), "whitespace has no meaning");
    let reversed = entries.iter().rev().map(format_entry).collect::<Vec<_>>().join(" ; ");
    assert_eq!(plans(&reversed, &entries), plans(text, &entries), "the order changes only the ranks");
}

fn is_known(catalog: &Catalog, price: &PriceId) -> bool {
    let items = [Item { price: price.clone(), lookup_key: None, quantity: None }];
    catalog.recognise(&items, &KnownPrices::default()) != Recognition::Unknown
}

fn format_entry((name, prices): &(&str, Vec<&str>)) -> String {
    format!("{name}={}", prices.join(","))
}

/// The prices of each plan.
fn plans(text: &str, entries: &[(&str, Vec<&str>)]) -> Vec<Option<Vec<PriceId>>> {
    let catalog = Catalog::parse(text, true).expect("a valid list");
    entries.iter().map(|(name, _)| catalog.plan(name).map(|plan| plan.prices.clone())).collect()
}

/// Whether the list has the reported error.
fn has_error(text: &str, error: InvalidPlans) -> bool {
    let entries = entries(text);
    let names = || entries.iter().map(|(name, _)| *name);
    let prices = || entries.iter().flat_map(|(_, prices)| prices.iter().copied());
    match error {
        InvalidPlans::EmptyEntry => text.split(';').any(|entry| entry.trim().is_empty()),
        InvalidPlans::NoPrices => text.split(';').any(|entry| !entry.contains('=')),
        InvalidPlans::BadName => names().any(|name| PlanName::parse(name).is_err()),
        InvalidPlans::BadPrice => prices().any(|price| PriceId::parse(price).is_err()),
        InvalidPlans::PlanTwice => !all_differ(names()),
        InvalidPlans::PriceTwice => !all_differ(prices()),
    }
}

fn all_differ<'a>(mut texts: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    texts.all(|text| seen.insert(text))
}
