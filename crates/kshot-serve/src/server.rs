//! Connections: accepting them, what they may take, and ending them in order.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::config::Limits;
use crate::patience::Patient;
use crate::problem::Problem;
use crate::state::App;

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 32 << 10;
/// Pause after a connection could not be accepted: file descriptors may have run out.
const BREATH: Duration = Duration::from_millis(50);

/// Connections that were sent away and are listened to until they hear of it, for so long.
const MOST_LEAVING: usize = 64;
const LEAVE: Duration = Duration::from_secs(1);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Answers connections until `stop` is ready, then ends those that are open: requests that were accepted are answered.
pub async fn run(app: Arc<App>, listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(app.config.limits.connections));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let connection = graceful.watch(connection(stream, peer, router.clone(), &app.config.limits));
                let open = app.metrics.connections.clone();
                open.inc();
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%peer, %error, "a connection broke off");
                    }
                    open.dec();
                    drop(place);
                });
            }
            Err(_) => refuse(stream),
        }
    }
    drop(listener);
    tracing::info!("stopping: no new connections, answering what was accepted");
    if tokio::time::timeout(app.config.limits.drain_timeout, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time and are cut off");
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: &Limits,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + use<> {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        // A router is always ready.
        router.clone().call(request.map(Body::new))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(Patient::new(TokioIo::new(stream), limits.write_timeout), service)
}

/// Sends one connection too many away, whatever it wants, even to know whether the server is well.
fn refuse(mut stream: TcpStream) {
    static ANSWER: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let problem =
            Problem::busy("as many connections are open as may be; try again in a moment").to_json();
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
             Content-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n",
            problem.len()
        );
        [head.as_bytes(), &problem].concat()
    });
    static LEAVING: Semaphore = Semaphore::const_new(MOST_LEAVING);
    let _ = stream.try_write(&ANSWER);
    let Ok(place) = LEAVING.try_acquire() else { return };
    // A connection that is closed on a request that was not read takes the answer with it.
    tokio::spawn(async move {
        let _place = place;
        let _ = stream.shutdown().await;
        let mut rest = [0; 4096];
        let read = async { while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
        let _ = tokio::time::timeout(LEAVE, read).await;
    });
}
