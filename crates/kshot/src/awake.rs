//! Threads that stay awake between the short parallel parts of a step.

use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread without work waits for more before it sleeps.
const PATIENCE: Duration = Duration::from_micros(500);

/// Runs `work`, a step of training, on a thread of the pool, while the pool's other threads look out for its parallel parts.
///
/// A step of a few images has dozens of parts that take less than a tenth of a millisecond each, with as little between them. A
/// thread that slept in between would take as long to wake up, above all on a virtual machine. Who finds nothing to do for half a
/// millisecond sleeps nevertheless.
pub fn on_awake_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = AtomicBool::new(false);
    rayon::scope(|scope| {
        let _end = End(&done);
        let here = rayon::current_thread_index();
        let done = &done;
        scope.spawn_broadcast(move |_, context| {
            if Some(context.index()) != here {
                look_out(done);
            }
        });
        work()
    })
}

/// Takes over work of others until `done`.
fn look_out(done: &AtomicBool) {
    let mut idle_since = None;
    while !done.load(Ordering::Relaxed) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle_since = None;
        } else if idle_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return;
        } else {
            hint::spin_loop();
        }
    }
}

/// Sets its flag when it goes, by a panic of the work as well.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;

    use rayon::prelude::*;

    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    }

    #[test]
    fn parallel_parts_and_parts_within_parts_come_to_their_end() {
        for threads in [1, 2, 5] {
            let sum = pool(threads).install(|| {
                on_awake_threads(|| {
                    let numbers: Vec<u64> = (0..100).collect();
                    let inner = |&n: &u64| on_awake_threads(|| rayon::join(|| n, || n + 1)).1;
                    numbers.par_iter().map(inner).sum::<u64>()
                })
            });
            assert_eq!(sum, 5050, "{threads} threads");
        }
    }

    #[test]
    fn work_after_a_long_pause_is_done_as_well() {
        let threads = Mutex::new(Vec::new());
        pool(3).install(|| {
            on_awake_threads(|| {
                std::thread::sleep(4 * PATIENCE);
                (0..64).into_par_iter().for_each(|_| {
                    std::thread::sleep(PATIENCE);
                    threads.lock().unwrap().push(rayon::current_thread_index());
                });
            });
        });
        let mut threads = threads.into_inner().unwrap();
        assert_eq!(threads.len(), 64);
        threads.sort_unstable();
        threads.dedup();
        assert!(threads.len() > 1, "all on {threads:?}");
    }

    #[test]
    fn a_panic_gets_out_and_the_threads_stay() {
        let pool = pool(2);
        for _ in 0..3 {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                pool.install(|| on_awake_threads(|| -> u8 { panic!("of the work") }));
            }));
            assert!(panicked.is_err());
        }
        assert_eq!(
            pool.install(|| on_awake_threads(|| rayon::join(|| 1, || 2))),
            (1, 2)
        );
    }
}
