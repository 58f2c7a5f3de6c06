//! A delayed debit, with its events in every possible order.

use super::*;

fn orders(events: &[TestEvent]) -> Vec<Vec<TestEvent>> {
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

/// For each order, whether `sub_1` grants access at the end.
fn grants_at_the_end(events: &[TestEvent]) -> Vec<bool> {
    let grants = orders(events).into_iter().map(|order| {
        let mut scenario = Scenario::with_open_checkout();
        for event in order {
            scenario.apply(event);
        }
        scenario.grants("sub_1")
    });
    grants.collect()
}

#[test]
fn succeeded_payment_grants_access_in_any_order() {
    let events = [
        TestEvent::created("active").at(1),
        TestEvent::session_completed().unpaid().at(1).id("evt_2"),
        TestEvent::async_payment_succeeded().at(9).id("evt_3"),
        TestEvent::invoice_paid().at(9).id("evt_4"),
    ];
    assert_eq!(grants_at_the_end(&events), [true; 24]);
}

#[test]
fn failed_payment_grants_no_access_in_any_order() {
    let events = [
        TestEvent::created("active").at(1),
        TestEvent::session_completed().unpaid().at(1).id("evt_2"),
        TestEvent::async_payment_failed().at(9).id("evt_3"),
        TestEvent::invoice_payment_failed().at(9).id("evt_4"),
    ];
    assert_eq!(grants_at_the_end(&events), [false; 24]);
}

#[test]
fn later_failed_payment_keeps_access_in_any_order() {
    let events = [
        TestEvent::created("active").at(1),
        TestEvent::session_completed().at(1).id("evt_2"),
        TestEvent::invoice_paid().at(1).id("evt_3"),
        TestEvent::invoice_payment_failed().at(9).id("evt_4"),
    ];
    assert_eq!(grants_at_the_end(&events), [true; 24]);
}
