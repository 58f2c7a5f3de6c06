//! Whose turn it is. A batch has two stages: it is prepared, and it is committed and told of. One batch is in each of them at
//! a time, and none overtakes another: so of two events that were handed in one after the other the second is decided with
//! what the first has left, since the first has locked all that it is about before the second looks at anything.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Handed, Queue};

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

    /// Takes all events that are there, unless somebody else is to.
    pub(super) fn take_all(&mut self) -> Vec<Handed> {
        let Some(queue) = &mut self.queue else { return Vec::new() };
        (0..queue.len()).map_while(|_| queue.try_recv().ok()).collect()
    }

    /// Lets nobody in before it is over: what is left of this batch goes before what came later.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Waits until the batch before is committed and told of, and lets the next one be prepared meanwhile.
    pub(super) async fn reach_commit(&mut self) {
        if self.commit.is_none() {
            self.commit = Some(self.commits.clone().lock_owned().await);
        }
        if !self.is_kept {
            self.queue = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::mpsc;

    use super::*;

    fn turns() -> Turns {
        let (_, queue) = mpsc::channel(1);
        Turns::at(queue)
    }

    #[tokio::test]
    async fn the_next_is_prepared_while_one_is_committed_and_committed_after_it() {
        let turns = turns();
        let mut first = turns.next().await;
        assert!(turns.next().now_or_never().is_none(), "one is prepared");
        first.reach_commit().await;
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
        first.reach_commit().await;
        first.reach_commit().await;
        assert!(turns.next().now_or_never().is_none(), "it is kept");
        drop(first);
        turns.next().await;
    }
}
