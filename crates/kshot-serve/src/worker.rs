//! Recognising pictures of many requests together.
//!
//! One thread calls the model. While it works, requests wait in a bounded queue; then it takes what is waiting, at most
//! [`MOST`] pictures, in one call, in which all cores share. So under load the batches grow by themselves. What the queue has
//! no room for is sent away at once.
//!
//! While nothing is being recognised, a request of one picture calls the model itself: handing it to the other thread and
//! getting the answer back would take longer than a small model does. A model that takes longer than [`QUICK`] is left to
//! that thread, so that connections don't wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kshot::classifier::{Picture, Show};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::answer::Found;
use crate::budget::Share;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::workspace::Workspace;

/// Most pictures in one call of the model.
const MOST: usize = 256;
/// So long may one picture take a thread that answers connections.
const QUICK: Duration = Duration::from_millis(1);

/// The queue's entrance.
#[derive(Debug)]
pub struct Worker {
    sender: mpsc::UnboundedSender<Job>,
    room: Arc<Semaphore>,
    model: Arc<Model>,
}

/// What recognises, and what is known of its work.
#[derive(Debug)]
struct Model {
    workspace: Arc<Workspace>,
    metrics: Arc<Metrics>,
    /// Calls that are going on.
    calls: AtomicUsize,
    /// Whether a picture of the latest call took less than [`QUICK`].
    quick: AtomicBool,
}

/// A call that is going on.
struct Call<'a>(&'a AtomicUsize);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Model {
    /// A call beside those that are going on.
    fn call(&self) -> Call<'_> {
        self.calls.fetch_add(1, Ordering::Acquire);
        Call(&self.calls)
    }

    /// A call while no other is going on.
    fn lone_call(&self) -> Option<Call<'_>> {
        self.calls
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Call(&self.calls))
    }

    /// The answers to jobs, job by job, from one call; a panic is their problem and not the server's.
    fn answer(&self, jobs: &[(&[Picture], Wish)], _call: &Call<'_>) -> Result<Vec<Vec<Found>>, Problem> {
        let began = Instant::now();
        let found = catch_unwind(AssertUnwindSafe(|| together(&self.workspace, jobs)))
            .unwrap_or_else(|_| Err(Problem::internal("the model panicked")));
        let n: usize = jobs.iter().map(|(pictures, _)| pictures.len()).sum();
        let each = began.elapsed() / u32::try_from(n.max(1)).unwrap_or(u32::MAX);
        self.quick.store(each < QUICK, Ordering::Relaxed);
        if found.is_ok() {
            self.metrics.images.inc_by(n as u64);
        }
        found
    }
}

/// What a request wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// How much of an answer.
    pub show: Show,
    /// Whether the place on the map is wanted.
    pub place: bool,
}

struct Job {
    pictures: Vec<Picture>,
    wish: Wish,
    memory: Share,
    answer: oneshot::Sender<Result<Vec<Found>, Problem>>,
    /// The job's places in the queue.
    room: OwnedSemaphorePermit,
}

impl Job {
    /// Sends the answer. What the job held is there again for whoever hears it.
    fn end(self, found: Result<Vec<Found>, Problem>) {
        let Self {
            pictures,
            memory,
            answer,
            room,
            ..
        } = self;
        drop((pictures, memory, room));
        // Who has hung up wants no answer.
        let _ = answer.send(found);
    }
}

impl Worker {
    /// Starts the thread; it ends when the worker is dropped and the queue is empty.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start(workspace: Arc<Workspace>, metrics: Arc<Metrics>, queue: usize) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(queue.min(Semaphore::MAX_PERMITS)));
        let model = Arc::new(Model {
            workspace,
            metrics,
            calls: AtomicUsize::new(0),
            quick: AtomicBool::new(false),
        });
        let called = model.clone();
        std::thread::Builder::new()
            .name("recognise".to_owned())
            .spawn(move || work(&called, receiver))?;
        Ok(Self { sender, room, model })
    }

    /// Whether there is room for more.
    pub fn has_room(&self) -> bool {
        self.room.available_permits() > 0
    }

    /// Recognises pictures, for which `memory` is held meanwhile, together with what else is waiting.
    ///
    /// # Errors
    /// 503 if the queue has no room; what the model can't do.
    pub async fn recognise(
        &self,
        pictures: Vec<Picture>,
        memory: Share,
        wish: Wish,
    ) -> Result<Vec<Found>, Problem> {
        let n = u32::try_from(pictures.len()).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(n) else {
            self.model.metrics.refused.inc();
            return Err(Problem::busy("the queue is full; try again in a second"));
        };
        // A place may need the map, which is drawn when first asked for.
        if n == 1
            && !wish.place
            && self.model.quick.load(Ordering::Relaxed)
            && let Some(call) = self.model.lone_call()
        {
            self.model.metrics.batch.observe(1.0);
            let mut found = self.model.answer(&[(&pictures, wish)], &call)?;
            return Ok(found.pop().unwrap_or_default());
        }
        self.model.metrics.waiting.inc_by(i64::from(n));
        let (answer, answered) = oneshot::channel();
        let job = Job {
            pictures,
            wish,
            memory,
            answer,
            room,
        };
        let gone = || Problem::internal("the thread that recognises has ended");
        self.sender.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn work(model: &Model, mut queue: mpsc::UnboundedReceiver<Job>) {
    let mut next = None;
    while let Some(first) = next.take().or_else(|| queue.blocking_recv()) {
        let mut n = first.pictures.len();
        let mut jobs = vec![first];
        while n < MOST {
            let Ok(job) = queue.try_recv() else { break };
            if n + job.pictures.len() > MOST {
                next = Some(job);
                break;
            }
            n += job.pictures.len();
            jobs.push(job);
        }
        model.metrics.waiting.dec_by(n as i64);
        model.metrics.batch.observe(n as f64);
        let call = model.call();
        let asked: Vec<(&[Picture], Wish)> = jobs.iter().map(|job| (&job.pictures[..], job.wish)).collect();
        match model.answer(&asked, &call) {
            Ok(found) => jobs
                .into_iter()
                .zip(found)
                .for_each(|(job, found)| job.end(Ok(found))),
            // One job's pictures may be to blame: each for itself then.
            Err(_) if jobs.len() > 1 => {
                for job in jobs {
                    let found = model.answer(&[(&job.pictures, job.wish)], &call);
                    job.end(found.map(|mut found| found.pop().unwrap_or_default()));
                }
            }
            Err(problem) => {
                if let Some(job) = jobs.pop() {
                    job.end(Err(problem));
                }
            }
        }
    }
}

/// The answers to pictures with their wishes, job by job, from one call of the model.
fn together(workspace: &Workspace, jobs: &[(&[Picture], Wish)]) -> Result<Vec<Vec<Found>>, Problem> {
    let pictures: Vec<&Picture> = jobs.iter().flat_map(|(pictures, _)| *pictures).collect();
    let wishes = || jobs.iter().map(|(_, wish)| wish);
    let wish = Wish {
        show: Show {
            top: wishes().map(|wish| wish.show.top).max().unwrap_or(0),
            evidence: wishes().map(|wish| wish.show.evidence).max().unwrap_or(0),
        },
        place: wishes().any(|wish| wish.place),
    };
    let mut found = workspace.recognise(&pictures, wish)?.into_iter();
    let answers = jobs.iter().map(|(pictures, wish)| {
        let mut own: Vec<Found> = found.by_ref().take(pictures.len()).collect();
        own.iter_mut().for_each(|one| one.cut(*wish));
        own
    });
    Ok(answers.collect())
}

#[cfg(test)]
mod tests {
    use kshot::classifier::Head;
    use kshot::trained::Trained;
    use kshot_store::Library;

    use super::*;
    use crate::budget::Budget;

    fn picture() -> Picture {
        Picture::from_values((0..784).map(|pixel| f32::from(pixel % 29 < 2)).collect()).unwrap()
    }

    /// A worker whose thread has ended, so that only what takes the short way is answered.
    fn without_thread(folder: &std::path::Path) -> Worker {
        let store = kshot_store::open_or_create(folder.join("store").to_str().unwrap()).unwrap();
        let model = Trained::find("glyphs-conv4").unwrap();
        let mut library = Library::with_model(store, model, Head::Model).unwrap();
        let file = ("cross.png".to_owned(), b"bytes".to_vec());
        library.add_decoded("cross", vec![file], vec![picture()]).unwrap();
        Worker {
            sender: mpsc::unbounded_channel().0,
            room: Arc::new(Semaphore::new(4)),
            model: Arc::new(Model {
                workspace: Arc::new(Workspace::new(library, crate::config::Limits::default()).unwrap()),
                metrics: Arc::default(),
                calls: AtomicUsize::new(0),
                quick: AtomicBool::new(true),
            }),
        }
    }

    #[tokio::test]
    async fn a_lone_picture_takes_the_short_way_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let worker = without_thread(folder.path());
        let show = Show { top: 1, evidence: 0 };
        let memory = || Budget::new(1).take(1).unwrap();
        let ask = |n: usize, place: bool| {
            worker.model.quick.store(true, Ordering::Relaxed);
            worker.recognise(vec![picture(); n], memory(), Wish { show, place })
        };
        let found = ask(1, false).await.unwrap();
        let found = serde_json::to_value(&found).unwrap();
        assert_eq!(found[0]["ranked"][0]["label"], "cross", "{found}");

        assert!(ask(2, false).await.is_err(), "two pictures");
        assert!(ask(1, true).await.is_err(), "a place on the map");
        let going_on = worker.model.call();
        assert!(ask(1, false).await.is_err(), "another call is going on");
        drop(going_on);
        let slow = ask(1, false);
        worker.model.quick.store(false, Ordering::Relaxed);
        assert!(slow.await.is_err(), "a slow model");
        assert!(ask(1, false).await.is_ok(), "nothing is left of the refused ones");
        assert_eq!(worker.room.available_permits(), 4);
    }
}
