//! Which journey an event belongs to: that of its session, else of its subscription, else the one that its object names
//! if it is this tenant's, else its tenant's; and what none of these leads to begins one.

use super::stage::{checkout, journey};
use super::*;

/// `acme` has come to the end of `cs_1`, which made `sub_1`, and has `cs_2` open; `other` has `cs_3` open. Each
/// checkout began the journey of its number.
fn after_one_checkout() -> Stage {
    let mut stage = Stage::set(
        &[("acme", Some("cus_acme")), ("other", Some("cus_other"))],
        vec![
            checkout("cs_1", "acme", "cus_acme", 1),
            checkout("cs_2", "acme", "cus_acme", 2),
            checkout("cs_3", "other", "cus_other", 3),
        ],
    );
    stage.applies([Draft::session_completed()]);
    stage
}

#[test]
fn a_completed_sessions_journey_becomes_its_tenants() {
    let mut stage = Stage::with_acme_at_checkout();
    assert_eq!(stage.tenant("acme").journey, None);
    let effect = stage.plays(Draft::session_completed());
    assert_eq!(effect.journey, Some(journey(1)));
    assert_eq!(stage.tenant("acme").journey, Some(journey(1)));
    assert!(stage.work.changes().tenants.contains(&tenant_id("acme")));
}

#[test]
fn the_next_completed_session_begins_the_next_journey() {
    let mut stage = after_one_checkout();
    stage.applies([Draft::session_completed().of_session("cs_2").for_subscription("sub_2").at(200)]);
    assert_eq!(stage.tenant("acme").journey, Some(journey(2)));
}

#[test]
fn a_session_that_is_heard_of_late_does_not_turn_the_journey_back() {
    let checkouts = vec![checkout("cs_1", "acme", "cus_acme", 1), checkout("cs_2", "acme", "cus_acme", 2)];
    let mut stage = Stage::set(&[("acme", Some("cus_acme"))], checkouts);
    let second = Draft::session_completed().of_session("cs_2").for_subscription("sub_2").at(200);
    stage.applies([second, Draft::session_completed().at(100)]);
    assert_eq!(stage.tenant("acme").journey, Some(journey(2)));
}

#[test]
fn a_session_that_is_not_ours_begins_no_journey() {
    let mut stage = after_one_checkout();
    let effect = stage.plays(Draft::session_completed().of_session("cs_9").for_subscription("sub_9"));
    assert_eq!(effect.journey, Some(journey(1)), "it belongs to the tenant's");
    assert_eq!(stage.tenant("acme").journey, Some(journey(1)));
}

#[test]
fn a_sessions_events_belong_to_the_journey_that_its_checkout_began() {
    let mut stage = after_one_checkout();
    let expired = stage.plays(Draft::session_expired().of_session("cs_2").tagged_with_journey(1));
    assert_eq!(expired.journey, Some(journey(2)), "whatever its tags say");
    assert_eq!(stage.last_entry().journey, Some(journey(2)));
}

#[test]
fn a_subscriptions_events_belong_to_the_journey_that_made_it() {
    let mut stage = after_one_checkout();
    stage.applies([Draft::session_completed().of_session("cs_2").for_subscription("sub_2")]);
    assert_eq!(stage.plays(Draft::created("active")).journey, Some(journey(1)));
    assert_eq!(stage.last_entry().journey, Some(journey(1)));
    assert_eq!(stage.plays(Draft::invoice_paid()).journey, Some(journey(1)));
    let tagged = Draft::updated("past_due").at(101).tagged_with_journey(2);
    assert_eq!(stage.plays(tagged).journey, Some(journey(1)), "the record counts before the tags");
}

#[test]
fn a_subscription_that_comes_before_its_session_is_placed_by_its_tags() {
    let mut stage = after_one_checkout();
    let created = Draft::created("active").for_subscription("sub_2").tagged_with_journey(2);
    assert_eq!(stage.plays(created).journey, Some(journey(2)));
    assert_eq!(stage.last_entry().journey, Some(journey(2)));
    assert_eq!(
        stage.tenant("acme").journey,
        Some(journey(1)),
        "only a completed session changes the tenant's"
    );
}

#[test]
fn tags_that_name_somebody_elses_journey_or_none_of_ours_are_not_believed() {
    let mut stage = after_one_checkout();
    for foreign in [3, 9] {
        let draft = Draft::updated("active").for_subscription("sub_2").tagged_with_journey(foreign);
        assert_eq!(stage.plays(draft).journey, Some(journey(1)));
    }
}

#[test]
fn what_names_no_checkout_belongs_to_its_tenants_journey() {
    let mut stage = after_one_checkout();
    assert_eq!(stage.plays(Draft::portal_opened()).journey, Some(journey(1)));
    assert_eq!(stage.plays(Draft::customer_deleted()).journey, Some(journey(1)));
    assert_eq!(stage.last_entry().journey, Some(journey(1)));
}

#[test]
fn a_tenant_that_never_completed_a_checkout_has_no_journey() {
    let mut stage = after_one_checkout();
    let opened = stage.plays(Draft::portal_opened().of("cus_other"));
    assert_eq!((opened.outcome, opened.journey), (Outcome::Applied, None));
}

#[test]
fn an_opened_portal_is_a_milestone_of_its_tenant_and_of_nobody_else() {
    let mut stage = after_one_checkout();
    let before = stage.journal();
    assert_eq!(stage.plays(Draft::portal_opened()).tenant, Some(tenant_id("acme")));
    let stranger = Draft::portal_opened().of("cus_stranger");
    assert_eq!(stage.hears(stranger), (Outcome::Ignored, Some("unknown_customer")));
    assert_eq!(stage.journal(), before);
}

#[test]
fn what_is_parked_belongs_to_no_journey_that_only_its_tags_name() {
    let mut stage = after_one_checkout();
    let stranger =
        Draft::created("active").of("cus_stranger").for_subscription("sub_9").tagged_with_journey(1);
    let effect = stage.plays(stranger);
    assert_eq!((effect.outcome, effect.journey), (Outcome::Parked, None));
}

#[test]
fn a_subscription_that_no_checkout_of_ours_made_begins_a_journey_with_its_first_event() {
    let mut stage = Stage::with_acme();
    let created = stage.plays_in(5, Draft::created("active"));
    assert_eq!(created.journey, Some(journey(5)));
    assert_eq!(stage.last_entry().journey, Some(journey(5)));
    assert_eq!(stage.tenant("acme").journey, Some(journey(5)));

    let later = stage.plays_in(6, Draft::updated("past_due").at(101));
    assert_eq!(later.journey, Some(journey(5)), "and what follows belongs to it");
    assert_eq!(stage.plays_in(7, Draft::portal_opened()).journey, Some(journey(5)));
}

#[test]
fn an_event_that_links_its_customer_begins_the_journey_with_the_link() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    stage.plays_in(5, Draft::created("active").of("cus_new").tagged("acme"));
    let journeys: Vec<_> = stage.work.changes().journal.iter().map(|entry| entry.journey).collect();
    assert_eq!(journeys, [Some(journey(5)), Some(journey(5))]);
}

#[test]
fn whatever_comes_first_of_a_tenant_without_a_journey_begins_one() {
    let mut stage = Stage::with_acme();
    assert_eq!(stage.plays_in(5, Draft::portal_opened()).journey, Some(journey(5)));
    let mut stage = Stage::with_acme();
    let foreign = Draft::session_completed().of_session("cs_9").for_subscription("sub_9");
    assert_eq!(stage.plays_in(5, foreign).journey, Some(journey(5)));
    assert_eq!(stage.last_entry().journey, Some(journey(5)));
    let mut stage = Stage::with_acme();
    assert_eq!(stage.plays_in(5, Draft::invoice_paid()).journey, None, "one that changes nothing does not");
}

#[test]
fn an_invoice_that_comes_before_its_session_is_placed_by_its_subscriptions_tags() {
    let mut stage = Stage::with_acme_at_checkout();
    stage.plays_in(5, Draft::created("active").tagged_with_journey(1));
    let paid = stage.plays_in(6, Draft::invoice_paid().tagged_with_journey(1));
    assert_eq!(paid.journey, Some(journey(1)));
    assert_eq!(stage.tenant("acme").journey, None);

    let mut stage = after_one_checkout();
    let renewed = Draft::created("active").for_subscription("sub_2").tagged_with_journey(2);
    stage.applies([renewed]);
    let paid = stage.plays(Draft::invoice_paid().for_subscription("sub_2").tagged_with_journey(2));
    assert_eq!(paid.journey, Some(journey(2)), "not the tenant's old one");
}

#[test]
fn a_completed_checkout_takes_a_journey_over_that_began_by_itself_whichever_is_older() {
    for began in [1, 9] {
        let checkouts = vec![checkout("cs_2", "acme", "cus_acme", 2)];
        let mut stage = Stage::set(&[("acme", Some("cus_acme"))], checkouts);
        stage.plays_in(began, Draft::created("active").for_subscription("sub_9"));
        assert_eq!(stage.tenant("acme").journey, Some(journey(began)));
        let completed = Draft::session_completed().of_session("cs_2").for_subscription("sub_2").at(200);
        stage.plays_in(5, completed);
        assert_eq!(stage.tenant("acme").journey, Some(journey(2)));
    }
}

/// What a backup that is older than a checkout leaves of it: what Stripe tells of its session and its subscription.
#[test]
fn a_checkout_whose_record_is_lost_gives_its_tenant_its_journey_by_its_tags() {
    let mut stage = Stage::set(&[("acme", None)], vec![]);
    let origin = |stage: &Stage| stage.tenant("acme").journey.map(|journey| journey.origin);
    let created = Draft::created("active").of("cus_new").tagged("acme").tagged_with_journey(4);
    stage.plays_in(5, created);
    assert_eq!(origin(&stage), Some(journey(4).origin));
    let first = stage.tenant("acme").journey;
    stage.applies([Draft::session_completed().of("cus_new").at(150).tagged("acme").tagged_with_journey(4)]);
    assert_eq!(stage.tenant("acme").journey, first, "it began when it was first heard of");

    let next = Draft::session_completed().of_session("cs_2").for_subscription("sub_2").of("cus_new").at(200);
    stage.applies([next.tagged("acme").tagged_with_journey(6)]);
    assert_eq!(origin(&stage), Some(journey(6).origin));
    let later =
        stage.plays(Draft::updated("past_due").of("cus_new").at(300).tagged("acme").tagged_with_journey(4));
    assert_eq!(later.journey.map(|journey| journey.origin), Some(journey(6).origin), "the tenant's latest");
}

#[test]
fn a_lost_checkout_is_no_other_tenants_and_no_other_checkouts() {
    let mut stage = after_one_checkout();
    let foreign = Draft::session_completed().of_session("cs_9").for_subscription("sub_9").at(200);
    stage.applies([foreign.tagged("acme").tagged_with_journey(3)]);
    assert_eq!(stage.tenant("acme").journey, Some(journey(1)), "the journey of another tenant's checkout");
    let foreign = Draft::session_completed().of_session("cs_8").for_subscription("sub_8").at(200);
    stage.applies([foreign.tagged("other").tagged_with_journey(9)]);
    assert_eq!(stage.tenant("acme").journey, Some(journey(1)), "a tenant that the customer is not");
}
