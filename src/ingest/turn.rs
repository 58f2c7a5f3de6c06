//! Whose turn it is. A batch has two stages: it is prepared, and it is committed and told of. One batch is in each of them at
//! a time, and none overtakes another. So of two events that were handed in one after the other the second is decided with
//! what the first has left: all that the first is about is locked before anybody looks at the second.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::queue::{Handed, Queue};

/// The turns of all writers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns {
    queue: Arc<Mutex<Queue>>,
    commits: Arc<Mutex<()>>,
}

/// A writer's turn: first at the queue, then at the commit.
pub(super) struct Turn {
    queue: Option<OwnedMutexGuard<Queue>>,
    commits: Arc<Mutex<()>>,
    commit: Option<OwnedMutexGuard<()>>,
    is_kept: bool,
}

impl Turns {
    pub(super) fn at(queue: Queue) -> Self {
        Self { queue: Arc::new(Mutex::new(queue)), commits: Arc::default() }
    }

    /// Waits for the next turn.
    pub(super) async fn next(&self) -> Turn {
        let queue = self.queue.clone().lock_owned().await;
        Turn { queue: Some(queue), commits: self.commits.clone(), commit: None, is_kept: false }
    }
}

impl Turn {
    /// Waits for events, and takes those that are there, up to so many; none at the end.
    pub(super) async fn take_waiting(&mut self, most: usize) -> Vec<Handed> {
        let mut batch = Vec::new();
        if let Some(queue) = &mut self.queue {
            queue.recv_many(&mut batch, most).await;
        }
        batch
    }

    /// Takes all events that are there, unless somebody else is to, or does well yet: the batch before, at its commit.
    pub(super) fn take_all(&mut self) -> Vec<Handed> {
        if self.commit.is_none() && self.commits.try_lock().is_err() {
            return Vec::new();
        }
        let Some(queue) = &mut self.queue else { return Vec::new() };
        (0..queue.len()).map_while(|_| queue.try_recv().ok()).collect()
    }

    /// Lets nobody in before it is over: what is left of this batch goes before what came later.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Whether nobody can have been let in.
    pub(super) fn is_at_the_queue(&self) -> bool {
        self.queue.is_some()
    }

    /// Waits until the batch before is committed and told of.
    pub(super) async fn reach_commit(&mut self) {
        if self.commit.is_none() {
            self.commit = Some(self.commits.clone().lock_owned().await);
        }
    }

    /// Lets the next batch be prepared.
    pub(super) fn let_in(&mut self) {
        if !self.is_kept {
            self.queue = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::domain::event::Event;
    use crate::ingest::delivery::Delivery;

    fn turns() -> Turns {
        let (_, queue) = mpsc::channel(1);
        Turns::at(queue)
    }

    #[tokio::test]
    async fn the_next_is_prepared_while_one_is_committed_and_committed_after_it() {
        let turns = turns();
        let mut first = turns.next().await;
        first.reach_commit().await;
        assert!(turns.next().now_or_never().is_none(), "one is prepared");
        first.let_in();
        assert!(!first.is_at_the_queue());
        let mut second = turns.next().await;
        assert!(second.reach_commit().now_or_never().is_none(), "one is committed");
        drop(first);
        second.reach_commit().await;
    }

    #[tokio::test]
    async fn a_turn_that_is_kept_lets_nobody_in_until_it_is_over() {
        let turns = turns();
        let mut first = turns.next().await;
        first.keep();
        for _ in 0..2 {
            first.reach_commit().await;
            first.let_in();
        }
        assert!(first.is_at_the_queue());
        assert!(turns.next().now_or_never().is_none(), "it is kept");
        drop(first);
        turns.next().await;
    }

    #[tokio::test]
    async fn what_waits_is_not_taken_for_lost_while_the_batch_before_may_do_well() {
        let (waiting, queue) = mpsc::channel(1);
        let turns = Turns::at(queue);
        let mut first = turns.next().await;
        first.reach_commit().await;
        first.let_in();
        let mut second = turns.next().await;
        waiting.try_send(handed()).expect("room");
        assert!(second.take_all().is_empty(), "the first is at its commit");
        drop(first);
        assert_eq!(second.take_all().len(), 1);
    }

    fn handed() -> Handed {
        let event = br#"{"id": "evt_1", "object": "event", "type": "invoice.upcoming", "created": 1, "data": {"object": {}}}"#;
        let read = Event::read(event).expect("an event");
        (Delivery::by_backfill(read, event.to_vec(), 0), oneshot::channel().0)
    }
}
