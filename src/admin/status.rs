//! What the server is, whether it lives, and whether it takes work.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::admin::hints::unfitting;
use crate::admin::problem::Problem;
use crate::shard::control::{Answer, Ask, Figures};
use crate::stats::Gauge;

/// Version, process, shards, listeners.
pub async fn status(State(admin): State<Admin>) -> Result<Response, Problem> {
    let mut subscriptions = 0;
    let mut resources = 0;
    for figures in figures(&admin).await? {
        let gauges = &figures.gauges;
        subscriptions += gauges.get(Gauge::SubscriptionsActive)
            + gauges.get(Gauge::SubscriptionsSilent)
            + gauges.get(Gauge::SubscriptionsParked);
        resources += gauges.get(Gauge::ResourcesHome);
    }
    let listeners: Vec<Value> = admin
        .transports()
        .active()
        .map(|listener| {
            let transport = listener.transport.name();
            json!({ "transport": transport, "address": listener.address.to_string() })
        })
        .collect();
    Ok(axum::Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": admin.started.elapsed().as_secs(),
        "ready": admin.is_ready(),
        "shards": admin.shards.count(),
        "listeners": listeners,
        "tls": admin.tls,
        "subscriptions": subscriptions,
        "resources": resources,
    }))
    .into_response())
}

/// The process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// New work is taken.
pub async fn readyz(State(admin): State<Admin>) -> Result<&'static str, Problem> {
    if admin.is_ready() {
        Ok("ready\n")
    } else {
        Err(Problem::unavailable("the server is about to stop"))
    }
}

/// Every counter and gauge of every shard, of the listeners and of the process, as Prometheus reads them.
pub async fn metrics(State(admin): State<Admin>) -> Result<Response, Problem> {
    let mut text = super::metrics::text(&figures(&admin).await?);
    let leases = admin.shards.leases().await?;
    text.push_str(&super::transports::metrics(&admin.transports(), &leases));
    text.push_str(&super::process::metrics());
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((kind, text).into_response())
}

async fn figures(admin: &Admin) -> Result<Vec<Box<Figures>>, Problem> {
    let answers = admin.shards.ask_all(|| Ask::ReadFigures).await?;
    answers
        .into_iter()
        .map(|answer| {
            let Answer::Figures(figures) = answer else {
                return Err(unfitting(&answer));
            };
            Ok(figures)
        })
        .collect()
}
