//! Which delivery goes out when. Everything is decided while the event is being made, so that a test that sets a
//! fault knows exactly which events it concerns.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One event for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) event: String,
    pub(crate) endpoint: String,
}

/// What the courier is asked to do.
pub(crate) enum Errand {
    /// Carry the events of a new endpoint.
    Carry(UnboundedReceiver<Job>),
    /// Collect events for a moment, and then end the window.
    EndReorderWindow,
}

/// What is wrong with deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Disorder {
    /// Each event comes twice.
    Duplicate,
    /// What happens within a moment comes in reverse.
    Reorder,
    /// Nothing comes until the fault is cleared.
    Hold,
    /// Nothing ever comes.
    Drop,
}

/// The queues of the endpoints.
pub(crate) struct Dispatch {
    errands: UnboundedSender<Errand>,
    queues: HashMap<String, UnboundedSender<Job>>,
    disorder: Option<Disorder>,
    set_aside: Vec<Job>,
    /// What was answered with a 2xx.
    settled: HashSet<Job>,
}

impl Dispatch {
    pub(crate) fn new(errands: UnboundedSender<Errand>) -> Dispatch {
        Dispatch {
            errands,
            queues: HashMap::new(),
            disorder: None,
            set_aside: Vec::new(),
            settled: HashSet::new(),
        }
    }

    /// A new endpoint gets a queue of its own, so that a slow one delays nobody else.
    pub(crate) fn open(&mut self, endpoint: String) {
        let (sender, queue) = unbounded_channel();
        self.send(Errand::Carry(queue));
        self.queues.insert(endpoint, sender);
    }

    /// The endpoint's queue ends.
    pub(crate) fn close(&mut self, endpoint: &str) {
        self.queues.remove(endpoint);
    }

    /// An event is to go to an endpoint.
    pub(crate) fn post(&mut self, event: String, endpoint: String) {
        let job = Job { event, endpoint };
        match self.disorder {
            None => self.queue(job),
            Some(Disorder::Duplicate) => {
                self.queue(job.clone());
                self.queue(job);
            }
            Some(Disorder::Drop) => {}
            Some(Disorder::Hold) => self.set_aside.push(job),
            Some(Disorder::Reorder) => {
                if self.set_aside.is_empty() {
                    self.send(Errand::EndReorderWindow);
                }
                self.set_aside.push(job);
            }
        }
    }

    /// From now on deliveries go wrong in this way, or not at all. What was set aside goes out.
    pub(crate) fn set_disorder(&mut self, disorder: Option<Disorder>) {
        self.release();
        self.disorder = disorder;
    }

    /// Notes a 2xx; false if the endpoint had given one for this event before.
    pub(crate) fn settle(&mut self, job: &Job) -> bool {
        self.settled.insert(job.clone())
    }

    /// The time in which events were collected is over.
    pub(crate) fn end_reorder_window(&mut self) {
        if self.disorder == Some(Disorder::Reorder) {
            self.release();
        }
    }

    fn send(&self, errand: Errand) {
        // The courier lives as long as the double.
        let _ = self.errands.send(errand);
    }

    fn release(&mut self) {
        let mut jobs = std::mem::take(&mut self.set_aside);
        if self.disorder == Some(Disorder::Reorder) {
            jobs.reverse();
        }
        for job in jobs {
            self.queue(job);
        }
    }

    fn queue(&self, job: Job) {
        if let Some(queue) = self.queues.get(&job.endpoint) {
            // The other end goes away only with the double itself, and then nobody waits for the event.
            let _ = queue.send(job);
        }
    }
}
