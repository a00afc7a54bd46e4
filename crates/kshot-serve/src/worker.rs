//! Recognising pictures of many requests together.
//!
//! One thread calls the model. While it works, requests wait in a bounded queue; then it takes what is waiting, at most
//! [`MOST`] pictures, in one call, in which all cores share. So a lone request waits for nothing, and under load the
//! batches grow by themselves. What the queue has no room for is sent away at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kshot::classifier::{Picture, Show};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::answer::Found;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::workspace::Workspace;

/// Most pictures in one call of the model.
const MOST: usize = 256;

/// The queue's entrance.
#[derive(Debug)]
pub struct Worker {
    sender: mpsc::UnboundedSender<Job>,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
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
    answer: oneshot::Sender<Result<Vec<Found>, Problem>>,
    /// The job's places in the queue.
    room: OwnedSemaphorePermit,
}

impl Worker {
    /// Starts the thread; it ends when the worker is dropped and the queue is empty.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start(workspace: Arc<Workspace>, metrics: Arc<Metrics>, queue: usize) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(queue.min(Semaphore::MAX_PERMITS)));
        let counted = metrics.clone();
        std::thread::Builder::new()
            .name("recognise".to_owned())
            .spawn(move || work(&workspace, &counted, receiver))?;
        Ok(Self {
            sender,
            room,
            metrics,
        })
    }

    /// Whether there is room for more.
    pub fn has_room(&self) -> bool {
        self.room.available_permits() > 0
    }

    /// Recognises pictures, together with what else is waiting.
    ///
    /// # Errors
    /// 503 if the queue has no room; what the model can't do.
    pub async fn recognise(&self, pictures: Vec<Picture>, wish: Wish) -> Result<Vec<Found>, Problem> {
        let n = u32::try_from(pictures.len()).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(n) else {
            self.metrics.refused.inc();
            return Err(Problem::busy("the queue is full; try again in a second"));
        };
        self.metrics.waiting.inc_by(i64::from(n));
        let (answer, answered) = oneshot::channel();
        let job = Job {
            pictures,
            wish,
            answer,
            room,
        };
        let gone = || Problem::internal("the thread that recognises has ended");
        self.sender.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn work(workspace: &Workspace, metrics: &Metrics, mut queue: mpsc::UnboundedReceiver<Job>) {
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
        metrics.waiting.dec_by(n as i64);
        metrics.batch.observe(n as f64);
        let found = catch_unwind(AssertUnwindSafe(|| together(workspace, &jobs)))
            .unwrap_or_else(|_| Err(Problem::internal("the model panicked")));
        match found {
            Ok(found) => {
                metrics.images.inc_by(n as u64);
                for (job, found) in jobs.into_iter().zip(found) {
                    drop(job.room);
                    // Who has hung up wants no answer.
                    let _ = job.answer.send(Ok(found));
                }
            }
            // One job's pictures may be to blame: each for itself then.
            Err(_) if jobs.len() > 1 => {
                for job in jobs {
                    let found = catch_unwind(AssertUnwindSafe(|| {
                        together(workspace, std::slice::from_ref(&job))
                    }));
                    let found = found.unwrap_or_else(|_| Err(Problem::internal("the model panicked")));
                    drop(job.room);
                    let _ = job
                        .answer
                        .send(found.map(|mut found| found.pop().unwrap_or_default()));
                }
            }
            Err(problem) => {
                if let Some(job) = jobs.pop() {
                    drop(job.room);
                    let _ = job.answer.send(Err(problem));
                }
            }
        }
    }
}

/// The answers to jobs, job by job, from one call of the model.
fn together(workspace: &Workspace, jobs: &[Job]) -> Result<Vec<Vec<Found>>, Problem> {
    let pictures: Vec<&Picture> = jobs.iter().flat_map(|job| &job.pictures).collect();
    let wish = Wish {
        show: Show {
            top: jobs.iter().map(|job| job.wish.show.top).max().unwrap_or(0),
            evidence: jobs.iter().map(|job| job.wish.show.evidence).max().unwrap_or(0),
        },
        place: jobs.iter().any(|job| job.wish.place),
    };
    let mut found = workspace.recognise(&pictures, wish)?.into_iter();
    let answers = jobs.iter().map(|job| {
        let mut own: Vec<Found> = found.by_ref().take(job.pictures.len()).collect();
        own.iter_mut().for_each(|one| one.cut(job.wish));
        own
    });
    Ok(answers.collect())
}
