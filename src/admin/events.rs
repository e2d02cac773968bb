//! `/v1/events`: every change as it happens, as server-sent events.

use core::convert::Infallible;
use core::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio_stream::{Stream, StreamExt};

use crate::admin::Admin;
use crate::admin::ask::Shards;
use crate::admin::body::{QueryResult, query};
use crate::admin::changes::Reading;
use crate::admin::hints::find;
use crate::admin::model::snapshot_json;
use crate::admin::problem::Problem;
use crate::hint::{ResourceKey, Snapshot};
use crate::shard::control::Ask;

/// A comment this often shows both sides that the other one lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    resource: Option<String>,
}

/// Streams changes; with `?resource=`, of that one, and its present state first.
pub async fn stream(
    State(admin): State<Admin>,
    events: QueryResult<EventsQuery>,
) -> Result<Response, Problem> {
    let Query(events) = query(events)?;
    let resource = match events.resource {
        Some(name) => Some(admin.resource(&name)?),
        None => None,
    };
    let Some(reading) = admin.shards.changes().read(resource.clone()) else {
        return Err(Problem::unavailable(
            "no more readers of the event stream now",
        ));
    };
    // Every shard must be reporting before the present state is read, or a change in between is lost.
    admin.shards.ask_all(|| Ask::ReportChanges(true)).await?;
    let present = match &resource {
        Some(resource) => {
            let row = find(&admin, resource).await?;
            let snapshot = row.map_or_else(Snapshot::empty, |row| row.snapshot);
            Some(event(resource, &snapshot))
        }
        None => None,
    };
    let stream = tokio_stream::iter(present).chain(changes(reading));
    let heartbeat = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(stream).keep_alive(heartbeat).into_response())
}

fn changes(reading: Reading) -> impl Stream<Item = Result<Event, Infallible>> {
    reading.map(|changed| event(&changed.resource, &changed.snapshot))
}

fn event(resource: &ResourceKey, snapshot: &Snapshot) -> Result<Event, Infallible> {
    let data = snapshot_json(resource, snapshot).to_string();
    Ok(Event::default().event("hint").data(data))
}

/// Tells the shards to report changes, or to stop it, as readers come and go. Ends with the server.
pub async fn steer_reports(shards: Shards) {
    let mut wanted = shards.changes().wanted();
    while wanted.changed().await.is_ok() {
        // Read and posted without waiting in between: a reader who comes now finds its own request behind this one.
        let wanted = *wanted.borrow_and_update();
        if let Err(error) = shards.ask_all(|| Ask::ReportChanges(wanted)).await {
            tracing::warn!(%error, wanted, "a shard did not hear whether changes are wanted");
        }
    }
}
