//! What all requests share.

use std::sync::Arc;

use crate::budget::Budget;
use crate::config::Config;
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::worker::Worker;
use crate::workspace::Workspace;

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
    /// Memory for bodies under way.
    pub bodies: Budget,
    /// Memory for pictures while they are decoded.
    pub pixels: Budget,
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
            bodies: Budget::new(config.limits.bodies_memory),
            pixels: Budget::new(config.limits.pixels_memory),
            metrics,
            workspace,
            config,
        }))
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
