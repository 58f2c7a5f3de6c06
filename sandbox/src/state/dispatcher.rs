//! Decides which deliveries are sent, and in which order. It decides when the event is emitted, so
//! a test knows exactly which events a fault affects.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One event for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    pub(crate) event: String,
    pub(crate) endpoint: String,
}

/// A command for `delivery::run`.
pub(crate) enum DeliveryCommand {
    /// Send the events of a new endpoint.
    ServeQueue(UnboundedReceiver<Delivery>),
    /// Collect events for a short time, then end the window.
    EndReorderWindow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeliveryFault {
    /// Each event is sent twice.
    Duplicate,
    /// The events of a short time window are sent in reverse order.
    Reorder,
    /// Events are sent when the fault is cleared.
    Hold,
    /// Events are never sent.
    Drop,
}

/// The delivery queues, one for each endpoint.
pub(crate) struct Dispatcher {
    commands: UnboundedSender<DeliveryCommand>,
    queues: HashMap<String, UnboundedSender<Delivery>>,
    fault: Option<DeliveryFault>,
    held_back: Vec<Delivery>,
    /// The deliveries that were answered with a 2xx.
    settled: HashSet<Delivery>,
}

impl Dispatcher {
    pub(crate) fn new(commands: UnboundedSender<DeliveryCommand>) -> Dispatcher {
        Dispatcher {
            commands,
            queues: HashMap::new(),
            fault: None,
            held_back: Vec::new(),
            settled: HashSet::new(),
        }
    }

    /// Gives a new endpoint its own queue, so that a slow endpoint does not delay others.
    pub(crate) fn add_endpoint(&mut self, endpoint: String) {
        let (sender, queue) = unbounded_channel();
        self.send(DeliveryCommand::ServeQueue(queue));
        self.queues.insert(endpoint, sender);
    }

    pub(crate) fn remove_endpoint(&mut self, endpoint: &str) {
        self.queues.remove(endpoint);
    }

    pub(crate) fn dispatch(&mut self, event: String, endpoint: String) {
        let delivery = Delivery { event, endpoint };
        match self.fault {
            None => self.enqueue(delivery),
            Some(DeliveryFault::Duplicate) => {
                self.enqueue(delivery.clone());
                self.enqueue(delivery);
            }
            Some(DeliveryFault::Drop) => {}
            Some(DeliveryFault::Hold) => self.held_back.push(delivery),
            Some(DeliveryFault::Reorder) => {
                if self.held_back.is_empty() {
                    self.send(DeliveryCommand::EndReorderWindow);
                }
                self.held_back.push(delivery);
            }
        }
    }

    /// Sets or clears the fault for future events. Deliveries that were held back are sent.
    pub(crate) fn set_fault(&mut self, fault: Option<DeliveryFault>) {
        self.release();
        self.fault = fault;
    }

    /// Records a 2xx. Returns whether it is the first for this event and endpoint.
    pub(crate) fn settle(&mut self, delivery: &Delivery) -> bool {
        self.settled.insert(delivery.clone())
    }

    pub(crate) fn end_reorder_window(&mut self) {
        if self.fault == Some(DeliveryFault::Reorder) {
            self.release();
        }
    }

    fn send(&self, command: DeliveryCommand) {
        // The receiver lives as long as the double.
        let _ = self.commands.send(command);
    }

    fn release(&mut self) {
        let mut deliveries = std::mem::take(&mut self.held_back);
        if self.fault == Some(DeliveryFault::Reorder) {
            deliveries.reverse();
        }
        for delivery in deliveries {
            self.enqueue(delivery);
        }
    }

    fn enqueue(&self, delivery: Delivery) {
        if let Some(queue) = self.queues.get(&delivery.endpoint) {
            // Fails only when the double itself is dropped.
            let _ = queue.send(delivery);
        }
    }
}
