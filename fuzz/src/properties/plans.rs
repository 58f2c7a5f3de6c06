//! The list of plans. What is read is what is written there, and what is refused is wrong in the way that is told.

use std::collections::BTreeSet;

use crate::domain::ids::{PlanName, PriceId};
use crate::domain::known_prices::KnownPrices;
use crate::domain::plan::{Catalog, InvalidPlans, Recognition};
use crate::domain::subscription::Item;

/// A list of any bytes.
pub fn list(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Catalog::parse(text, true) {
        Ok(catalog) => is_what_is_written(&catalog, text),
        Err(error) => assert!(is_so(text, error), "{error}: {text:?}"),
    }
}

/// The names and prices between the separators, whatever they are.
fn entries(text: &str) -> Vec<(&str, Vec<&str>)> {
    let entries = text.split(';').filter_map(|entry| entry.split_once('='));
    entries.map(|(name, prices)| (name.trim(), prices.split(',').map(str::trim).collect())).collect()
}

fn is_what_is_written(catalog: &Catalog, text: &str) {
    let entries = entries(text);
    assert_eq!(entries.len(), text.matches(';').count() + 1, "every entry is a plan");
    assert_eq!(catalog.default_plan().map(|plan| plan.name.as_str()), Some(entries[0].0));
    for (name, prices) in &entries {
        let plan = catalog.plan(name).expect("a plan by its name");
        assert_eq!(plan.name.as_str(), *name);
        assert_eq!(plan.prices.iter().map(PriceId::as_str).collect::<Vec<_>>(), *prices);
        assert!(plan.prices.iter().all(|price| knows(catalog, price)));
    }
    let nowhere = PriceId::parse("price_of_nothing").expect("a price");
    assert_eq!(
        knows(catalog, &nowhere),
        entries.iter().any(|(_, prices)| prices.contains(&nowhere.as_str()))
    );

    let forwards = entries.iter().map(written).collect::<Vec<_>>().join(";");
    assert_eq!(plans(&forwards, &entries), plans(text, &entries), "white space means nothing");
    let backwards = entries.iter().rev().map(written).collect::<Vec<_>>().join(" ; ");
    assert_eq!(
        plans(&backwards, &entries),
        plans(text, &entries),
        "nor does the order, but for which is best"
    );
}

fn knows(catalog: &Catalog, price: &PriceId) -> bool {
    let items = [Item { price: price.clone(), lookup_key: None, quantity: None }];
    catalog.recognise(&items, &KnownPrices::default()) != Recognition::Unknown
}

fn written((name, prices): &(&str, Vec<&str>)) -> String {
    format!("{name}={}", prices.join(","))
}

/// The plans of a list by their names.
fn plans(text: &str, entries: &[(&str, Vec<&str>)]) -> Vec<Option<Vec<PriceId>>> {
    let catalog = Catalog::parse(text, true).expect("a list that was read before");
    entries.iter().map(|(name, _)| catalog.plan(name).map(|plan| plan.prices.clone())).collect()
}

/// Whether a list has the fault that it was refused for.
fn is_so(text: &str, error: InvalidPlans) -> bool {
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
