//! `pending_update`: a plan change that waits for payment.

use serde_json::json;

use super::*;
use crate::domain::previous_attributes::PreviousAttributes;

#[test]
fn pending_update_leaves_items_and_trial_unchanged() {
    let current = read(SUBSCRIPTION_UPDATED);
    let pending = read_with_object(SUBSCRIPTION_UPDATED, |subscription| {
        subscription["pending_update"] = json!({
            "billing_cycle_anchor": null,
            "expires_at": 1_790_000_000,
            "subscription_items": [{ "id": "si_new", "price": { "id": "price_team" }, "quantity": 9 }],
            "trial_end": 1_780_000_000,
            "trial_from_plan": false,
        });
    });
    assert_eq!(snapshot(&pending).state, snapshot(&current).state);
}

#[test]
fn new_pending_update_changes_no_previous_attribute() {
    let event = read_with(SUBSCRIPTION_UPDATED, |event| {
        event["data"]["previous_attributes"] = json!({ "pending_update": null });
    });
    assert_eq!(snapshot(&event).previous, Some(PreviousAttributes::default()));
}
