//! Large scratch memory that is kept from call to call.
//!
//! A fresh allocation of megabytes costs a page fault and a page of zeros for every 4 KiB, at every
//! training step. So a buffer that is dropped goes to a list, and the next one of a like size takes it
//! from there, with its old contents. The list keeps at most [`KEPT_BYTES`].
//!
//! With `--cfg kshot_exact_buffers` every buffer is an allocation of its own that ends where the buffer does, for runs
//! under a memory checker.

use std::sync::Mutex;

/// The most that the list of free buffers holds on to.
const KEPT_BYTES: usize = 512 << 20;

/// Floats in front, so that the contents start at a multiple of 64 bytes.
const SLACK: usize = 15;

static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// `len` floats at a multiple of 64 bytes. Their first values are unspecified (zeros, or what an earlier
/// buffer left), but never uninitialised memory.
#[derive(Debug)]
pub struct Buffer {
    storage: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// A buffer with unspecified contents.
    pub fn take(len: usize) -> Self {
        let need = len + SLACK;
        if cfg!(kshot_exact_buffers) {
            return Self {
                start: SLACK,
                len,
                storage: vec![0.0; need],
            };
        }
        let storage = reuse(need).unwrap_or_else(|| vec![0.0; need]);
        let misaligned = storage.as_ptr() as usize % 64 / size_of::<f32>();
        Self {
            start: (16 - misaligned) % 16,
            len,
            storage,
        }
    }

    /// A buffer of zeros.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::take(len);
        buffer.fill(0.0);
        buffer
    }

    /// A buffer of at least `len` bytes, the contents unspecified.
    pub fn take_bytes(len: usize) -> Self {
        Self::take(len.div_ceil(size_of::<f32>()))
    }

    /// The same memory as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: initialised floats are initialised bytes, of no stricter alignment.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len * size_of::<f32>()) }
    }

    /// The same memory as bytes.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and any bytes are valid floats.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.len * size_of::<f32>()) }
    }
}

/// The smallest free allocation of at least `need` floats that isn't wastefully large.
fn reuse(need: usize) -> Option<Vec<f32>> {
    let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let fitting = |v: &Vec<f32>| v.len() >= need && v.len() <= need + need / 4 + 4096;
    // Later entries were used last and may still be in this core's cache.
    let (at, _) = free
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, v)| fitting(v))
        .min_by_key(|(_, v)| v.len())?;
    Some(free.remove(at))
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if cfg!(kshot_exact_buffers) {
            return;
        }
        let storage = std::mem::take(&mut self.storage);
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        free.push(storage);
        let mut kept: usize = free.iter().map(|v| v.len() * size_of::<f32>()).sum();
        while kept > KEPT_BYTES {
            kept -= free.remove(0).len() * size_of::<f32>();
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::take(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

/// Gives the memory that is kept for later calls back to the allocator.
///
/// Up to 512 MiB stay allocated between calls, so that a training step doesn't pay for fresh pages.
pub fn release_memory() {
    FREE.lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(kshot_exact_buffers))]
    fn buffers_are_aligned_and_their_memory_is_used_again() {
        let len = 123_457;
        let first = Buffer::take(len);
        assert_eq!(first.as_ptr() as usize % 64, 0);
        assert_eq!(first.len(), len);
        let at = first.as_ptr();
        drop(first);
        let second = Buffer::take(len - 100);
        assert_eq!(second.as_ptr(), at);
        assert!(Buffer::zeroed(100).iter().all(|v| *v == 0.0));
        assert_eq!(Buffer::take_bytes(5).as_bytes().len(), 8);
    }
}
