//! A delayed debit, told in every order there is.

use super::*;

/// Every order of these events.
fn orders(events: &[Draft]) -> Vec<Vec<Draft>> {
    if events.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for first in 0..events.len() {
        let mut rest = events.to_vec();
        let first = rest.remove(first);
        for mut order in orders(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

/// What `sub_1` grants at the end of each order.
fn grants_at_the_end(events: &[Draft]) -> Vec<bool> {
    let told = orders(events).into_iter().map(|order| {
        let mut stage = Stage::with_acme_at_checkout();
        for event in order {
            stage.plays(event);
        }
        stage.grants("sub_1")
    });
    told.collect()
}

#[test]
fn a_payment_that_succeeded_grants_in_whatever_order_it_is_told() {
    let events = [
        Draft::created("active").at(1),
        Draft::session_completed().unpaid().at(1).named("evt_2"),
        Draft::async_payment_succeeded().at(9).named("evt_3"),
        Draft::invoice_paid().at(9).named("evt_4"),
    ];
    assert_eq!(grants_at_the_end(&events), [true; 24]);
}

#[test]
fn a_payment_that_failed_grants_nothing_in_whatever_order_it_is_told() {
    let events = [
        Draft::created("active").at(1),
        Draft::session_completed().unpaid().at(1).named("evt_2"),
        Draft::async_payment_failed().at(9).named("evt_3"),
        Draft::invoice_payment_failed().at(9).named("evt_4"),
    ];
    assert_eq!(grants_at_the_end(&events), [false; 24]);
}

#[test]
fn a_failed_payment_of_a_later_period_takes_nothing_back() {
    let events = [
        Draft::created("active").at(1),
        Draft::session_completed().at(1).named("evt_2"),
        Draft::invoice_paid().at(1).named("evt_3"),
        Draft::invoice_payment_failed().at(9).named("evt_4"),
    ];
    assert_eq!(grants_at_the_end(&events), [true; 24]);
}
