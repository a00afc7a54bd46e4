//! How work is spread over the threads of the caller's pool, without putting them to sleep for less than a millisecond.
//!
//! A training step of a few images has dozens of parallel parts that take less than a tenth of a millisecond each, with as little
//! between them. A thread that slept in between, or while it waits for another's part, would take as long to wake up, above
//! all on a virtual machine.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a thread without work waits for more before it sleeps.
const PATIENCE: Duration = Duration::from_micros(500);

/// Runs `work`, a step of training, on a thread of the `rayon` pool, while the pool's other threads look out for its parallel
/// parts. One that finds nothing to do for half a millisecond sleeps nevertheless.
pub fn on_awake_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = AtomicBool::new(false);
    rayon::scope(|scope| {
        let _end = End(&done);
        let here = rayon::current_thread_index();
        let done = &done;
        scope.spawn_broadcast(move |_, context| {
            if Some(context.index()) != here {
                look_out(|| done.load(Ordering::Relaxed));
            }
        });
        work()
    })
}

/// What `work` gives for each of `items`, in their order.
pub(crate) fn each<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items: Vec<T> = items.into_iter().collect();
    if items.len() < 2 || rayon::current_num_threads() == 1 {
        return items.into_iter().map(work).collect();
    }
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let open = AtomicUsize::new(items.len());
    let part = |item: T, result: &mut Option<R>| {
        *result = Some(work(item));
        open.fetch_sub(1, Ordering::Release);
    };
    rayon::scope(|scope| {
        let part = &part;
        let mut pairs = items.into_iter().zip(&mut results);
        let own = pairs.next();
        for (item, result) in pairs {
            scope.spawn(move |_| part(item, result));
        }
        if let Some((item, result)) = own {
            part(item, result);
        }
        // The scope would wait as well, but asleep.
        look_out(|| open.load(Ordering::Acquire) == 0);
    });
    results.into_iter().flatten().collect()
}

/// Takes over work of others until `done`, or until there has been none for a while.
fn look_out(done: impl Fn() -> bool) {
    let mut idle_since = None;
    while !done() {
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
    fn results_come_in_the_order_of_the_items() {
        for threads in [1, 2, 5] {
            for count in [0, 1, 2, 33] {
                let results = pool(threads).install(|| {
                    each(0..count, |n: usize| {
                        // The first ones end last, and have parts themselves.
                        std::thread::sleep(PATIENCE * u32::from(n < 2));
                        each([n, n + 1], |n| 2 * n)
                    })
                });
                let expected: Vec<Vec<usize>> = (0..count).map(|n| vec![2 * n, 2 * n + 2]).collect();
                assert_eq!(results, expected, "{threads} threads");
            }
        }
    }

    #[test]
    fn a_panic_of_a_part_gets_out() {
        for bad in [0, 3] {
            let panicked = catch_unwind(|| pool(2).install(|| each(0..5, |n| assert_ne!(n, bad))));
            assert!(panicked.is_err());
        }
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
