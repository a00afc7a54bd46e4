//! What the server counts, for Prometheus.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What tells requests apart. Every field has few values, none of them a client's own: what was counted once stays.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Request {
    /// `GET`, or `other` for one that nothing here knows.
    pub method: &'static str,
    /// The route: `/v1/classes/{class}`, or `other` for an address that isn't there.
    pub path: String,
    /// 200.
    pub status: u16,
}

/// What the server counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests that were answered.
    pub requests: Family<Request, Counter>,
    /// How long they took.
    pub seconds: Histogram,
    /// Pictures that were recognised.
    pub images: Counter,
    /// Pictures per call of the model.
    pub batch: Histogram,
    /// Pictures that wait.
    pub waiting: Gauge<i64, AtomicI64>,
    /// Requests that were sent away because the queue was full.
    pub refused: Counter,
    /// Connections that are open.
    pub connections: Gauge<i64, AtomicI64>,
    /// Classes in the store.
    pub classes: Gauge<i64, AtomicI64>,
    /// Examples in the store.
    pub examples: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("kshot"),
            requests: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            images: Counter::default(),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            waiting: Gauge::default(),
            refused: Counter::default(),
            connections: Gauge::default(),
            classes: Gauge::default(),
            examples: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "http_requests",
            "Requests that were answered",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "From the head of a request to its answer",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "images_classified",
            "Pictures that were recognised",
            metrics.images.clone(),
        );
        registry.register(
            "batch_images",
            "Pictures per call of the model",
            metrics.batch.clone(),
        );
        registry.register(
            "queue_images",
            "Pictures that wait to be recognised",
            metrics.waiting.clone(),
        );
        registry.register(
            "queue_refused",
            "Requests sent away from a full queue",
            metrics.refused.clone(),
        );
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("classes", "Classes in the store", metrics.classes.clone());
        registry.register("examples", "Examples in the store", metrics.examples.clone());
        metrics
    }
}

impl Metrics {
    /// All of them, in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics can't be written as text");
        }
        text
    }
}
