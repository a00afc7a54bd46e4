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
    permit: OwnedSemaphorePermit,
    total: usize,
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
        let permits = self.permits.clone();
        self.share(permits.try_acquire_many_owned(units(bytes, self.total)).ok()?)
    }

    /// Waits for `bytes`; what is more than all there is waits for all there is.
    pub async fn wait(&self, bytes: usize) -> Option<Share> {
        let permits = self.permits.clone();
        self.share(permits.acquire_many_owned(units(bytes, self.total)).await.ok()?)
    }

    fn share(&self, permit: OwnedSemaphorePermit) -> Option<Share> {
        let total = self.total;
        Some(Share { permit, total })
    }
}

impl Share {
    /// Makes it `bytes` in all, if it is less; says whether there was so much.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let wanted = units(bytes, self.total) as usize;
        let more = wanted.saturating_sub(self.permit.num_permits());
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        match self.permit.semaphore().clone().try_acquire_many_owned(more) {
            Ok(permit) => {
                self.permit.merge(permit);
                true
            }
            Err(_) => false,
        }
    }
}

/// Permits for so many bytes; for more than there are, all.
fn units(bytes: usize, total: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).min(total)).unwrap_or(u32::MAX)
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

    #[test]
    fn a_share_grows_as_far_as_there_is_more() {
        let budget = Budget::new(10 * UNIT);
        let mut share = budget.take(0).unwrap();
        assert!(share.grow(UNIT + 1) && share.grow(1));
        let other = budget.take(8 * UNIT).unwrap();
        assert!(!share.grow(3 * UNIT), "there is no third");
        drop(other);
        assert!(share.grow(3 * UNIT));
        assert!(budget.take(8 * UNIT).is_none());
        drop(share);
        assert!(budget.take(10 * UNIT).is_some());
    }
}
