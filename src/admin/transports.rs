//! `GET /v1/transports` and the metrics of transports: which listeners are open, and what holds those that drain.

use core::fmt::Write;
use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::admin::ask::{AskError, Shards};
use crate::admin::problem::Problem;
use crate::shard::control::{Answer, Ask};
use crate::transport::{Endpoint, Leases, ListenerId, Stage};

/// One listener, as whoever swaps them tells of it.
#[derive(Clone, Debug)]
pub struct TransportRow {
    pub listener: ListenerId,
    pub endpoint: Endpoint,
    pub generation: u32,
    pub stage: Stage,
    /// Since when it is in this stage.
    pub since: Instant,
    /// When it is closed whatever is leased.
    pub deadline: Option<Instant>,
}

/// All of them, and how many swaps there were.
#[derive(Clone, Debug, Default)]
pub struct TransportsView {
    pub generation: u32,
    pub rows: Vec<TransportRow>,
    pub swaps: u64,
    pub refused: u64,
}

impl TransportsView {
    /// The addresses that are served.
    pub fn active(&self) -> impl Iterator<Item = Endpoint> {
        let active = self.rows.iter().filter(|row| row.stage == Stage::Active);
        active.map(|row| row.endpoint)
    }
}

impl Shards {
    /// What is leased on each listener, over all shards.
    pub async fn leases(&self) -> Result<BTreeMap<ListenerId, Leases>, AskError> {
        let mut sums: BTreeMap<ListenerId, Leases> = BTreeMap::new();
        for answer in self.ask_all(|| Ask::ReadLeases).await? {
            let Answer::Leases(rows) = answer else {
                panic!("shards count their leases: {answer:?}");
            };
            for (id, leases) in rows {
                sums.entry(id).or_default().add(leases);
            }
        }
        Ok(sums)
    }
}

/// The listeners of every generation that is open.
pub async fn list(State(admin): State<Admin>) -> Result<Response, Problem> {
    let leases = admin.shards.leases().await?;
    let view = admin.transports();
    let rows: Vec<Value> = view.rows.iter().map(|row| show(row, &leases)).collect();
    Ok(axum::Json(json!({ "generation": view.generation, "listeners": rows })).into_response())
}

fn show(row: &TransportRow, leases: &BTreeMap<ListenerId, Leases>) -> Value {
    let leases = leases.get(&row.listener).copied().unwrap_or_default();
    let goes_to = match row.stage {
        Stage::Active => None,
        Stage::Replaced(to) | Stage::Leaving(to) => Some(to.0),
    };
    let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
    json!({
        "listener": row.listener.0,
        "address": row.endpoint.to_string(),
        "generation": row.generation,
        "state": row.stage.name(),
        "age_seconds": row.since.elapsed().as_secs_f64(),
        "closes_in_seconds": row.deadline.map(|deadline| left(deadline).as_secs_f64()),
        "goes_to": goes_to,
        "client_transactions": leases.clients,
        "server_transactions": leases.servers,
        "dialogs": leases.dialogs,
    })
}

/// The names of the metrics, each with its help and type.
pub(super) const FAMILIES: [(&str, &str, &str); 5] = [
    (
        "lampfield_transport_generation",
        "The newest generation of listeners.",
        "gauge",
    ),
    (
        "lampfield_transport_swaps_total",
        "Swaps to another generation, and those that were refused before anything had changed.",
        "counter",
    ),
    (
        "lampfield_transport_listeners",
        "Open listeners by state.",
        "gauge",
    ),
    (
        "lampfield_transport_leases",
        "What holds listeners open: transactions and dialogs, by the listener's state.",
        "gauge",
    ),
    (
        "lampfield_transport_oldest_seconds",
        "How long the oldest listener has been in its state.",
        "gauge",
    ),
];

/// The figures, as Prometheus reads them.
pub(super) fn metrics(view: &TransportsView, leases: &BTreeMap<ListenerId, Leases>) -> String {
    let mut out = String::new();
    let mut lines = FAMILIES.iter();
    let mut family = |out: &mut String| {
        let (name, help, kind) = lines.next().expect("as many as are written");
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        *name
    };
    let name = family(&mut out);
    let _ = writeln!(out, "{name} {}", view.generation);
    let name = family(&mut out);
    for (outcome, count) in [("done", view.swaps), ("refused", view.refused)] {
        let _ = writeln!(out, "{name}{{outcome=\"{outcome}\"}} {count}");
    }
    let states = [false, true].map(|draining| {
        let rows = view
            .rows
            .iter()
            .filter(move |row| row.stage.is_draining() == draining);
        let name = if draining { "draining" } else { "active" };
        (name, rows.collect::<Vec<_>>())
    });
    let name = family(&mut out);
    for (state, rows) in &states {
        let _ = writeln!(out, "{name}{{state=\"{state}\"}} {}", rows.len());
    }
    let name = family(&mut out);
    for (state, rows) in &states {
        let mut sum = Leases::default();
        for row in rows {
            sum.add(leases.get(&row.listener).copied().unwrap_or_default());
        }
        for (kind, count) in [
            ("client", sum.clients),
            ("server", sum.servers),
            ("dialog", sum.dialogs),
        ] {
            let _ = writeln!(out, "{name}{{state=\"{state}\",kind=\"{kind}\"}} {count}");
        }
    }
    let name = family(&mut out);
    for (state, rows) in &states {
        let ages = rows.iter().map(|row| row.since.elapsed().as_secs_f64());
        let oldest = ages.fold(0.0, f64::max);
        let _ = writeln!(out, "{name}{{state=\"{state}\"}} {oldest:.3}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Transport;

    #[test]
    fn each_state_has_its_figures() {
        let row = |id, stage| TransportRow {
            listener: ListenerId(id),
            endpoint: Endpoint {
                transport: Transport::Udp,
                address: "192.0.2.1:5060".parse().unwrap(),
            },
            generation: 1 + id,
            stage,
            since: Instant::now(),
            deadline: None,
        };
        let view = TransportsView {
            generation: 2,
            rows: vec![
                row(0, Stage::Replaced(ListenerId(1))),
                row(1, Stage::Active),
            ],
            swaps: 1,
            refused: 3,
        };
        let leases = Leases {
            clients: 5,
            servers: 0,
            dialogs: 7,
        };
        let text = metrics(&view, &BTreeMap::from([(ListenerId(0), leases)]));
        for line in [
            "lampfield_transport_generation 2\n",
            "lampfield_transport_swaps_total{outcome=\"refused\"} 3\n",
            "lampfield_transport_listeners{state=\"draining\"} 1\n",
            "lampfield_transport_leases{state=\"draining\",kind=\"client\"} 5\n",
            "lampfield_transport_leases{state=\"active\",kind=\"dialog\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        for (name, ..) in FAMILIES {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
