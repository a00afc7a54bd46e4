//! A few-shot classifier over HTTP: a REST interface under `/v1`, and a web page.
//!
//! A request passes `server.rs` (connections, timeouts), `observe.rs` (its number, log, counters), `guard.rs` (who may
//! ask), `body.rs` and `upload.rs` (bounded bodies, pictures in them), `decode.rs` (bounded pixels), and ends in one of
//! `api/`. Its answer passes `large.rs` (bounded memory; stores come from a file, `download.rs`) and `patience.rs` (clients
//! that don't read). Pictures of many requests are recognised together by `worker.rs`; `workspace.rs` has the classes.

mod answer;
mod api;
mod body;
mod budget;
mod config;
mod convert;
mod decode;
mod download;
mod entries;
mod guard;
mod index;
mod large;
mod metrics;
mod observe;
mod page;
mod patience;
mod plane;
mod problem;
mod router;
mod samples;
mod server;
mod state;
mod transfer;
mod upload;
mod worker;
mod workspace;

use std::sync::Arc;
use std::time::Duration;

use kshot_store::{Library, StoreError};
use tokio::net::TcpListener;

pub use config::{Config, Limits};
use state::App;
use workspace::Workspace;

/// How often the server looks at the latest whether another program has changed the store.
const LOOK: Duration = Duration::from_secs(1);

/// A server that is ready to listen.
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// A server in front of a library.
    ///
    /// # Errors
    /// What the store says, or a system without room for a thread.
    pub fn new(config: Config, library: Library) -> Result<Self, StoreError> {
        let place = library.store().place().to_owned();
        let workspace = Workspace::new(library, config.limits.clone())?;
        let app = App::new(config, workspace).map_err(|error| StoreError::Unusable {
            place,
            problem: format!("no thread for it can be started ({error})"),
        })?;
        Ok(Self { app })
    }

    /// Its routes, for callers that bring connections of their own.
    pub fn router(&self) -> axum::Router {
        router::router(self.app.clone())
    }

    /// Answers what connects to `listener` until `stop` is ready; what was accepted by then is answered first.
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let app = self.app.clone();
        let look = tokio::spawn(async move {
            let mut watcher = app.workspace.watcher();
            loop {
                let waited = tokio::task::spawn_blocking(move || {
                    watcher.wait(LOOK);
                    watcher
                });
                let Ok(returned) = waited.await else { return };
                watcher = returned;
                // What went wrong is in the log already.
                let _ = app.blocking(|workspace| workspace.refresh()).await;
            }
        });
        let router = self.router();
        server::run(self.app, listener, router, stop).await;
        look.abort();
    }
}

/// Ready at the first Ctrl-C or SIGTERM.
///
/// # Errors
/// When the system refuses to say.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
