//! The control API under `/_sandbox`, with which tests and developers simulate customers, banks,
//! time and failures. It has no authentication. Start with the routes below.

mod clock;
mod control_body;
mod events;
mod faults;
mod problem;
mod records;
mod simulate;

use poem::{Endpoint, EndpointExt, Response, Route, delete, get, post};

pub(crate) fn routes() -> impl Endpoint<Output = Response> {
    Route::new()
        .at("/clock", get(clock::show).post(clock::set))
        .at("/faults", post(faults::add).delete(faults::clear))
        .at("/requests", get(records::requests))
        .at("/deliveries", get(records::deliveries))
        .at("/webhook_endpoints", post(events::register_endpoint))
        .at("/events", post(events::emit_custom))
        .at("/events/:id/deliver", post(events::deliver))
        .at("/subscriptions/:id", post(simulate::change_subscription).delete(simulate::forget_subscription))
        .at("/prices", post(simulate::create_price))
        .at("/customers", post(simulate::create_customer))
        .at("/customers/:id", delete(simulate::forget_customer))
        .at("/checkout/:id", delete(simulate::forget_checkout_session))
        .at("/checkout/:id/pay", post(simulate::pay))
        .at("/checkout/:id/settle", post(simulate::settle))
        .at("/portal_configuration", delete(simulate::remove_portal_configuration))
        .catch_all_error(problem::error_response)
}
