//! What tests and developers tell the double, under `/_sandbox`.

mod clock;
mod events;
mod faults;
mod happenings;
mod problem;
mod records;
mod told;

use poem::{Endpoint, EndpointExt, Response, Route, delete, get, post};

/// Every control call, one line each.
pub(crate) fn routes() -> impl Endpoint<Output = Response> {
    Route::new()
        .at("/clock", get(clock::show).post(clock::set))
        .at("/faults", post(faults::add).delete(faults::clear))
        .at("/requests", get(records::requests))
        .at("/deliveries", get(records::deliveries))
        .at("/webhook_endpoints", post(events::register_endpoint))
        .at("/events", post(events::invent))
        .at("/events/:id/deliver", post(events::deliver))
        .at(
            "/subscriptions/:id",
            post(happenings::change_subscription).delete(happenings::forget_subscription),
        )
        .at("/prices", post(happenings::create_price))
        .at("/customers", post(happenings::create_customer))
        .at("/customers/:id", delete(happenings::forget_customer))
        .at("/checkout/:id", delete(happenings::forget_checkout_session))
        .at("/checkout/:id/pay", post(happenings::pay))
        .at("/checkout/:id/settle", post(happenings::settle))
        .at("/portal_configuration", delete(happenings::remove_portal_configuration))
        .catch_all_error(problem::answer)
}
