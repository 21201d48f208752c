//! Metrics and probes on one port.
//!
//! Nothing here changes anything, and nothing needs a password: an answer holds counts only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;

use crate::agent::Metrics;
use crate::error::{Code, Error, Result};

/// Serves /metrics, /livez and /readyz until the process ends.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>, ready: Arc<AtomicBool>) -> Result<()> {
    let refused =
        |error: std::io::Error| Error::new(Code::Usage, format!("cannot listen on {address}: {error}"));
    let listener = tokio::net::TcpListener::bind(address).await.map_err(refused)?;
    let router = Router::new()
        .route(
            "/metrics",
            get(move || async move {
                (
                    [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
                    metrics.text(),
                )
            }),
        )
        .route("/livez", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(move || async move {
                if ready.load(Ordering::Acquire) {
                    (StatusCode::OK, "ok")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "the Applications are not listed yet")
                }
            }),
        );
    axum::serve(listener, router).await.map_err(refused)
}
