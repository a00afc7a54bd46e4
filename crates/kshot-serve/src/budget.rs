//! Memory that requests share: who wants more than there is waits or is sent away.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes in one permit.
const UNIT: usize = 4096;

/// So much memory that may be in use at a time.
#[derive(Clone, Debug)]
pub struct Budget {
    permits: Arc<Semaphore>,
    total: usize,
}

/// A share of a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Share {
    _permit: OwnedSemaphorePermit,
}

impl Budget {
    /// `bytes` in all.
    pub fn new(bytes: usize) -> Self {
        let total = bytes.div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// `bytes` at once, or nothing.
    pub fn take(&self, bytes: usize) -> Option<Share> {
        let permit = self
            .permits
            .clone()
            .try_acquire_many_owned(self.units(bytes))
            .ok()?;
        Some(Share { _permit: permit })
    }

    /// Waits for `bytes`; what is more than all there is waits for all there is.
    pub async fn wait(&self, bytes: usize) -> Option<Share> {
        let permit = self
            .permits
            .clone()
            .acquire_many_owned(self.units(bytes))
            .await
            .ok()?;
        Some(Share { _permit: permit })
    }

    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).min(self.total)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_there_again_once_it_is_given_back() {
        let budget = Budget::new(10 * UNIT);
        let first = budget.take(6 * UNIT).unwrap();
        assert!(budget.take(5 * UNIT).is_none());
        let second = budget.take(4 * UNIT).unwrap();
        drop(first);
        assert!(budget.take(6 * UNIT).is_some());
        drop(second);
        assert!(budget.take(usize::MAX).is_some());
    }
}
