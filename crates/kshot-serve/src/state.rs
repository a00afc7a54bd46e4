//! What all requests share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::budget::Budget;
use crate::config::Config;
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::worker::Worker;
use crate::workspace::Workspace;

/// One part in so many of the memory for bodies is for their beginnings.
const BEGINNINGS: usize = 4;
/// Stores that may be on their way in at a time: each takes room on the disk.
const UPLOADS: usize = 4;
/// Requests that may read stored pictures to show them at a time; the others wait beside no thread.
const SHOWN: usize = 4;

/// What all requests share.
#[derive(Debug)]
pub struct App {
    /// The setup.
    pub config: Config,
    /// Who may ask.
    pub guard: Guard,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The classes.
    pub workspace: Arc<Workspace>,
    /// Who recognises.
    pub worker: Worker,
    /// Memory for the beginnings of bodies under way: see [`crate::body::FIRST`].
    pub beginnings: Budget,
    /// Memory for the rest of them.
    pub bodies: Budget,
    /// Memory for pictures while they are decoded.
    pub pixels: Budget,
    /// Memory for decoded pictures until they are recognised.
    pub pictures: Budget,
    /// Memory for large answers until they are sent.
    pub answers: Budget,
    /// Places for stores that are being uploaded.
    pub uploads: Semaphore,
    /// Places for requests that want stored pictures to look at.
    pub shown: Arc<Semaphore>,
}

impl App {
    /// A server's state in front of classes.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn new(config: Config, workspace: Workspace) -> std::io::Result<Arc<Self>> {
        let workspace = Arc::new(workspace);
        let metrics = Arc::new(Metrics::default());
        Ok(Arc::new(Self {
            guard: Guard::new(&config),
            worker: Worker::start(workspace.clone(), metrics.clone(), config.limits.queue)?,
            beginnings: Budget::new(config.limits.bodies_memory / BEGINNINGS),
            bodies: Budget::new(config.limits.bodies_memory / BEGINNINGS * (BEGINNINGS - 1)),
            pixels: Budget::new(config.limits.pixels_memory),
            pictures: Budget::new(config.limits.pictures_memory),
            answers: Budget::new(config.limits.answers_memory),
            uploads: Semaphore::new(UPLOADS),
            shown: Arc::new(Semaphore::new(SHOWN)),
            metrics,
            workspace,
            config,
        }))
    }

    /// Most pictures in a request: no more than there is memory for once they are as the model takes them.
    pub fn most_pictures(&self) -> usize {
        let limits = &self.config.limits;
        limits
            .images_per_request
            .min((limits.pictures_memory / self.picture()).max(1))
    }

    /// Memory for a picture as the model takes it, in bytes.
    pub fn picture(&self) -> usize {
        self.workspace.input().shape.len() * size_of::<f32>()
    }

    /// Does something with the classes that may wait for the disk, beside the threads that answer.
    ///
    /// # Errors
    /// Its own.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Workspace) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let workspace = self.workspace.clone();
        tokio::task::spawn_blocking(move || work(&workspace))
            .await
            .unwrap_or_else(|error| Err(Problem::internal(error)))
    }
}
