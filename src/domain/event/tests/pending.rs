//! A change of plan that waits for its payment.

use serde_json::json;

use super::*;
use crate::domain::previous::Previous;

#[test]
fn while_an_update_is_pending_the_old_items_and_the_old_trial_hold() {
    let now = read(SUBSCRIPTION_UPDATED);
    let pending = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        subscription["pending_update"] = json!({
            "billing_cycle_anchor": null,
            "expires_at": 1_790_000_000,
            "subscription_items": [{ "id": "si_new", "price": { "id": "price_team" }, "quantity": 9 }],
            "trial_end": 1_780_000_000,
            "trial_from_plan": false,
        });
    });
    assert_eq!(snapshot(&pending).state, snapshot(&now).state);
}

#[test]
fn that_an_update_began_to_wait_replaces_nothing_that_is_kept() {
    let event = read_with(SUBSCRIPTION_UPDATED, |event| {
        event["data"]["previous_attributes"] = json!({ "pending_update": null });
    });
    assert_eq!(snapshot(&event).previous, Some(Previous::default()));
}
