//! `/v1/hints`: what is known of resources, one by one and many at once.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::body::{QueryResult, json_body, query};
use crate::admin::model::{HintBody, hint_json, order, source};
use crate::admin::pages::{Cursor, collect, rows_of};
use crate::admin::problem::Problem;
use crate::admin::{Admin, ask::AskError};
use crate::config::limits;
use crate::hint::ResourceKey;
use crate::shard::control::{Answer, Ask, HintChange, HintOutcome, ResourceRow, Rows};

/// Sets what one source says of one resource.
pub async fn put(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let body: HintBody = json_body(&headers, &body)?;
    if body.resource.is_some() || body.remove.is_some() {
        return Err(Problem::invalid(
            "resource, remove: these are for POST /v1/hints; here the path names the resource",
        ));
    }
    let resource = admin.resource(&name)?;
    let update = body
        .into_update(Arc::clone(&resource))
        .map_err(Problem::invalid)?;
    let changed = change(&admin, HintChange::Set(update)).await?;
    Ok(axum::Json(json!({ "resource": &*resource, "changed": changed })).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    source: Option<String>,
    epoch: Option<u64>,
    seq: Option<u64>,
}

/// Takes back what one source says of one resource.
pub async fn delete(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    origin: QueryResult<Origin>,
) -> Result<StatusCode, Problem> {
    let Query(origin) = query(origin)?;
    let removal = HintChange::Remove {
        resource: admin.resource(&name)?,
        source: source(origin.source.as_deref()),
        order: order(origin.epoch, origin.seq).map_err(Problem::invalid)?,
    };
    change(&admin, removal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows one resource.
pub async fn get(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let resource = admin.resource(&name)?;
    match find(&admin, &resource).await? {
        Some(row) => Ok(axum::Json(hint_json(&row)).into_response()),
        None => Err(Problem::not_found(format!(
            "nothing is known of {resource}"
        ))),
    }
}

/// What the home shard knows of a resource.
pub(super) async fn find(
    admin: &Admin,
    resource: &ResourceKey,
) -> Result<Option<Box<ResourceRow>>, Problem> {
    let home = admin.shards.home(resource);
    let ask = Ask::ShowHint(Arc::clone(resource));
    let answer = admin.shards.ask(home, ask).await?;
    let Answer::Hint(row) = answer else {
        return Err(unfitting(&answer));
    };
    Ok(row)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Lists resources, page by page.
pub async fn list(
    State(admin): State<Admin>,
    list: QueryResult<ListQuery>,
) -> Result<Response, Problem> {
    let Query(list) = query(list)?;
    let from = Cursor::parse(list.cursor.as_deref())?;
    let limit = rows_of(list.limit)?;
    let take = |answer: Answer| {
        let Answer::Hints(Rows { rows, next }) = answer else {
            return Err(unfitting(&answer));
        };
        Ok((rows, next))
    };
    let (rows, next) = collect(&admin.shards, from, limit, Ask::ListHints, take).await?;
    let rows: Vec<Value> = rows.iter().map(hint_json).collect();
    Ok(axum::Json(json!({ "hints": rows, "next": next })).into_response())
}

/// Which part of a snapshot a request is: all that a source knows, told anew.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum SnapshotPart {
    Begin,
    End,
    Whole,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotQuery {
    snapshot: Option<SnapshotPart>,
    source: Option<String>,
    epoch: Option<u64>,
}

impl SnapshotQuery {
    /// Whose snapshot begins or ends with this request, and in which epoch.
    fn begins_or_ends(&self) -> Result<Option<(SnapshotPart, Arc<str>, u64)>, Problem> {
        match (self.snapshot, self.epoch) {
            (Some(part), Some(epoch)) => Ok(Some((part, source(self.source.as_deref()), epoch))),
            (None, None) if self.source.is_none() => Ok(None),
            (Some(_), None) | (None, _) => Err(Problem::invalid(
                "snapshot, epoch: a snapshot is of a `source` in an `epoch`, and neither stands alone",
            )),
        }
    }
}

/// Sets and removes many at once. The body is understood whole or refused whole;
/// then each hint has a result of its own.
pub async fn bulk(
    State(admin): State<Admin>,
    snapshot: QueryResult<SnapshotQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Query(snapshot) = query(snapshot)?;
    let snapshot = snapshot.begins_or_ends()?;
    let items: Vec<HintBody> = json_body(&headers, &body)?;
    if items.len() > limits::BULK_HINTS {
        let detail = format!("at most {} hints in one request", limits::BULK_HINTS);
        return Err(Problem::too_large(detail));
    }
    if let Some((SnapshotPart::Begin | SnapshotPart::Whole, source, epoch)) = &snapshot {
        let outcome = admin.shards.begin_epoch(Arc::clone(source), *epoch).await;
        judge(source, false, outcome)?;
    }
    let answer = change_many(&admin, items).await;
    if let Some((SnapshotPart::End | SnapshotPart::Whole, source, epoch)) = &snapshot {
        let outcome = admin.shards.end_snapshot(Arc::clone(source), *epoch).await;
        judge(source, false, outcome)?;
    }
    Ok(axum::Json(answer).into_response())
}

async fn change_many(admin: &Admin, items: Vec<HintBody>) -> Value {
    let mut results: Vec<Value> = Vec::with_capacity(items.len());
    let mut places = Vec::with_capacity(items.len());
    let mut changes = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        let name = item.resource.clone().unwrap_or_default();
        match bulk_change(admin, item) {
            Ok(change) => {
                results.push(json!({ "resource": &**change.resource() }));
                places.push(place);
                changes.push(change);
            }
            Err(problem) => results.push(result_json(&name, problem.to_json())),
        }
    }
    let removals: Vec<bool> = changes.iter().map(is_removal).collect();
    let outcomes = admin.shards.change_hints(changes).await;
    let mut accepted = 0;
    for ((place, outcome), removal) in places.into_iter().zip(outcomes).zip(removals) {
        let name = results[place]["resource"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        results[place] = match judge(&name, removal, outcome) {
            Ok(changed) => {
                accepted += 1;
                json!({ "resource": name, "status": 200, "changed": changed })
            }
            Err(problem) => result_json(&name, problem.to_json()),
        };
    }
    let refused = results.len() - accepted;
    json!({ "accepted": accepted, "refused": refused, "results": results })
}

fn result_json(name: &str, problem: Value) -> Value {
    json!({ "resource": name, "status": problem["status"], "problem": problem })
}

fn bulk_change(admin: &Admin, item: HintBody) -> Result<HintChange, Problem> {
    let Some(name) = &item.resource else {
        return Err(Problem::invalid("resource: which one is not said"));
    };
    let resource = admin.resource(name)?;
    if item.remove != Some(true) {
        return item
            .into_update(resource)
            .map(HintChange::Set)
            .map_err(Problem::invalid);
    }
    if !item.is_empty() {
        return Err(Problem::invalid(
            "remove: a removal says nothing but `resource`, `source`, `epoch` and `seq`",
        ));
    }
    let (source, order) = item.origin().map_err(Problem::invalid)?;
    Ok(HintChange::Remove {
        resource,
        source,
        order,
    })
}

fn is_removal(change: &HintChange) -> bool {
    match change {
        HintChange::Set(_) => false,
        HintChange::Remove { .. } => true,
    }
}

async fn change(admin: &Admin, change: HintChange) -> Result<bool, Problem> {
    let name = change.resource().to_string();
    let removal = is_removal(&change);
    let outcome = admin.shards.change_hints(vec![change]).await.pop();
    judge(&name, removal, outcome.unwrap_or(Err(AskError::Busy)))
}

/// Whether watchers see a difference, or why it was not taken.
fn judge(
    name: &str,
    removal: bool,
    outcome: Result<HintOutcome, AskError>,
) -> Result<bool, Problem> {
    match outcome? {
        HintOutcome::Accepted { changed } => Ok(changed),
        HintOutcome::Absent if removal => Err(Problem::not_found(format!(
            "this source has said nothing of {name}"
        ))),
        HintOutcome::Absent => Ok(false),
        HintOutcome::Stale { standing } => {
            let detail = format!(
                "epoch {} seq {} of this source stands for {name}",
                standing.epoch, standing.seq
            );
            let standing = json!({ "epoch": standing.epoch, "seq": standing.seq });
            Err(Problem::stale(detail).with("standing", standing))
        }
        HintOutcome::Refused { limit } => Err(Problem::no_room(format!(
            "{name} was refused: the limit `{limit}` is reached"
        ))),
    }
}

/// A shard that answers something else than it was asked is a bug; the asker is told, and nothing else happens.
pub(super) fn unfitting(answer: &Answer) -> Problem {
    tracing::error!(?answer, "an answer that does not fit its question");
    Problem::unavailable("a shard gave an answer that does not fit")
}
