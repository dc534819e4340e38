//! The compared servers. Each prints its address and serves until its standard input ends.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use vigie::api::{Connector, ConnectorState};
use vigie::heartbeat::registry::Registry;
use vigie::heartbeat::routes::{self, Options};
use vigie::http::server::{Limits, serve};
use vigie::metrics::Metrics;
use vigie::time::Now;

use crate::fleet::{self, Past};
use crate::operator::Operator;
use crate::process::until_dismissed;

/// The limit of the stack: plain axum, which reads the body and answers like vigie.
pub(crate) async fn bare() -> anyhow::Result<()> {
    async fn answer(_body: Bytes) -> ([(axum::http::HeaderName, &'static str); 1], &'static str) {
        const BODY: &str = r#"{"status":"ok","state":"Online","next_heartbeat_seconds":30,"actions":[]}"#;
        ([(CONTENT_TYPE, "application/json")], BODY)
    }
    let router = Router::new().route("/api/connector/heartbeat", post(answer));
    let listener = listen().await?;
    tokio::select! {
        served = async { axum::serve(listener, router).await } => Ok(served?),
        () = until_dismissed() => Ok(()),
    }
}

/// vigie's public port over a registry of this many connectors, each with a token of its own.
pub(crate) async fn vigie(connectors: usize) -> anyhow::Result<()> {
    let operator = Operator::start(Box::new(|_, _| {}));
    let now = operator.registry.clock().read();
    for i in 0..connectors {
        operator.keep(&operator.upsert(&frequent(i, now), now)?);
    }
    operator.settled().await;
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve_registry(operator.registry.clone(), listen().await?, stop.clone()));
    until_dismissed().await;
    stop.cancel();
    Ok(served.await?)
}

/// A connector that may beat once a second without being told to slow down (10 × its rate), and that becomes Offline
/// only after an hour: no deadline falls between two turns of a comparison.
fn frequent(i: usize, now: Now) -> Connector {
    let past = Past {
        state: ConnectorState::Online,
        heard_ago: SignedDuration::from_secs(5),
        site: format!("site-{:03}", i % 100),
        interval: 10,
    };
    let mut connector = fleet::connector(i, past, now.wall);
    connector.spec.heartbeat.late_after_seconds = Some(3600);
    connector.spec.heartbeat.offline_after_seconds = Some(7200);
    connector
}

/// The public port as `vigie run` serves it.
pub(crate) async fn serve_registry(registry: Arc<Registry>, listener: TcpListener, stop: CancellationToken) {
    let counters = Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default()));
    let clock = registry.clock();
    let router = routes::router(registry, Options { trusted_proxies: Vec::new(), counters, clock });
    serve(listener, router, None, Limits::default(), stop).await;
}

/// Listens on a free port, and prints the address.
pub(crate) async fn listen() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}
