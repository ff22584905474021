//! The way to the one task that learns: orders from outside it, one after the other.

use tokio::sync::{mpsc, oneshot};

use crate::{
    ScorerError,
    record::{SavedPolicy, Serving},
};

/// Orders that wait at most; more are refused.
const WAITING: usize = 8;

/// What [`super::Learning`] can be asked to do.
pub(super) enum Order {
    /// Let the shadow serve.
    Promote { shadow: u64, by: String, why: String, answer: Answer<Serving> },
    /// Let an earlier snapshot serve.
    RollBack { version: Option<u64>, by: String, answer: Answer<Serving> },
    /// Register a snapshot that training made, and let the shadow go on from it where it is the shadow's.
    TakeUp { saved: Box<SavedPolicy>, answer: Answer<()> },
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, ScorerError>>;

/// Hands orders to the task that learns.
#[derive(Clone)]
pub struct Steering(mpsc::Sender<Order>);

pub(super) fn channel() -> (Steering, mpsc::Receiver<Order>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Steering(sender), receiver)
}

impl Steering {
    /// Lets the shadow serve from now on, if it is the policy that was judged. `by` asked for it, for the reasons
    /// `why`, a JSON text.
    ///
    /// # Errors
    /// No such shadow, a log that does not take the change, a process that does not learn.
    pub async fn promote(&self, shadow: u64, by: String, why: String) -> Result<Serving, ScorerError> {
        self.ask(|answer| Order::Promote { shadow, by, why, answer }).await
    }

    /// Lets an earlier snapshot serve: see [`super::Learning::roll_back`].
    ///
    /// # Errors
    /// As [`Steering::promote`]; a version that is not there.
    pub async fn roll_back(&self, version: Option<u64>, by: String) -> Result<Serving, ScorerError> {
        self.ask(|answer| Order::RollBack { version, by, answer }).await
    }

    /// Registers a snapshot that training made: see [`super::Learning::take_up`].
    ///
    /// # Errors
    /// As [`Steering::promote`].
    pub async fn take_up(&self, saved: SavedPolicy) -> Result<(), ScorerError> {
        self.ask(|answer| Order::TakeUp { saved: Box::new(saved), answer }).await
    }

    async fn ask<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, ScorerError> {
        let stopped = || {
            ScorerError::Unavailable(
                "nothing learns in this process; start it with the role `score`, or try again once it runs"
                    .into(),
            )
        };
        let (answer, answered) = oneshot::channel();
        self.0.send(order(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}
