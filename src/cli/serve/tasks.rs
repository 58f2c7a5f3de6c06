//! The tasks that make up the service.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

use crate::cli::CommandError;

/// Tasks with names. None of them ends before the service stops.
#[derive(Default)]
pub(super) struct ServiceTasks {
    tasks: JoinSet<Result<(), CommandError>>,
    names: HashMap<Id, &'static str>,
}

impl ServiceTasks {
    pub(super) fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start_fallible(name, async {
            task.await;
            Ok(())
        });
    }

    /// Starts a task that can end the service with a reason.
    pub(super) fn start_fallible(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), CommandError>> + Send + 'static,
    ) {
        let task = self.tasks.spawn(task);
        self.names.insert(task.id(), name);
    }

    /// Waits for the first task that ends, and returns why the service cannot go on.
    pub(super) async fn first_failure(&mut self) -> CommandError {
        match self.tasks.join_next_with_id().await {
            Some(Ok((_, Err(error)))) => error,
            Some(Ok((id, Ok(())))) => CommandError::Failed(format!("{} ended", self.names[&id])),
            Some(Err(error)) => self.crashed(&error),
            None => CommandError::Failed("the service has no tasks".into()),
        }
    }

    /// Waits until every task has ended, and returns the first failure.
    pub(super) async fn all_ended(&mut self) -> Result<(), CommandError> {
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let ended = ended.map_err(|error| self.crashed(&error)).and_then(|(_, ended)| ended);
            result = result.and(ended);
        }
        result
    }

    fn crashed(&self, error: &JoinError) -> CommandError {
        CommandError::Failed(format!("{} ended: {error}", self.names[&error.id()]))
    }
}

impl Drop for ServiceTasks {
    /// Detaches the tasks when the service ends early, because a task failed or a second signal
    /// arrived. They stop by themselves, since the lifecycle's sender is dropped. The process waits
    /// for them only as long as the telemetry takes to flush.
    fn drop(&mut self) {
        self.tasks.detach_all();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn task_that_ends_or_panics_is_named() {
        let mut tasks = ServiceTasks::default();
        tasks.start("jobs", pending());
        tasks.start("ingest", async {});
        assert_eq!(tasks.first_failure().await.to_string(), "ingest ended");
        tasks.start("listener", async { panic!("a defect") });
        let failure = tasks.first_failure().await.to_string();
        assert!(failure.starts_with("listener ended: task") && failure.contains("panicked"), "{failure}");
    }

    #[tokio::test]
    async fn all_ended_waits_for_every_task_and_returns_first_failure() {
        let mut tasks = ServiceTasks::default();
        tasks.start_fallible("jobs", async { Err(CommandError::Failed("another account".into())) });
        tasks.start("listener", tokio::task::yield_now());
        assert_eq!(tasks.all_ended().await.expect_err("a failure").to_string(), "another account");
        assert!(tasks.all_ended().await.is_ok(), "no task is left");
    }
}
