//! A flag that stops long work from another thread, with an optional deadline.
//!
//! Every long call of this crate takes a `&Cancel` and looks at it between pieces of work (a few milliseconds).
//! Cancelling is never an abort: the call returns [`Error::Cancelled`] or [`Error::Deadline`] and leaves nothing
//! half-written. Clones share the flag; each clone keeps its own deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A shared stop flag. [`Cancel::default`] is never triggered until somebody triggers it.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    triggered: Arc<AtomicBool>,
    deadline: Option<Instant>,
    parent: Option<Arc<Cancel>>,
}

impl Cancel {
    /// A flag without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that counts as triggered once `after` has passed. A time too far away to represent means no deadline.
    pub fn with_deadline(after: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(after), ..Self::default() }
    }

    /// A flag of its own that is also triggered when this one is: for work that has one more reason to stop.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { parent: Some(Arc::new(self.clone())), ..Self::default() }
    }

    /// Asks all work that holds this flag, or a clone of it, to stop. May be called from any thread.
    pub fn trigger(&self) {
        self.triggered.store(true, Ordering::Relaxed);
    }

    /// Takes a [`Cancel::trigger`] back, so that the flag can be used again. A deadline stays.
    pub fn reset(&self) {
        self.triggered.store(false, Ordering::Relaxed);
    }

    /// Whether work should stop: triggered, or past the deadline.
    pub fn is_triggered(&self) -> bool {
        self.check().is_err()
    }

    /// `Ok` to go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`] after [`Cancel::trigger`], [`Error::Deadline`] once the deadline has passed.
    pub fn check(&self) -> Result<()> {
        if self.triggered.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match (self.deadline, &self.parent) {
            (Some(deadline), _) if Instant::now() >= deadline => Err(Error::Deadline),
            (_, Some(parent)) => parent.check(),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_triggered_together_with_its_origin_and_reset_takes_it_back() {
        let cancel = Cancel::new();
        let clone = cancel.clone();
        assert!(!clone.is_triggered());
        cancel.trigger();
        assert!(matches!(clone.check(), Err(Error::Cancelled)));
        clone.reset();
        assert!(!cancel.is_triggered());
    }

    #[test]
    fn a_child_stops_with_its_parent_and_not_the_other_way_round() {
        let parent = Cancel::new();
        let (child, other) = (parent.child(), parent.child());
        child.trigger();
        assert!(child.is_triggered() && !parent.is_triggered() && !other.is_triggered());
        parent.trigger();
        assert!(other.child().is_triggered());
        assert!(matches!(Cancel::with_deadline(Duration::ZERO).child().check(), Err(Error::Deadline)));
    }

    #[test]
    fn a_passed_deadline_stops_and_a_huge_one_does_not() {
        assert!(matches!(Cancel::with_deadline(Duration::ZERO).check(), Err(Error::Deadline)));
        assert!(Cancel::with_deadline(Duration::MAX).check().is_ok());
    }
}
