//! `/v1/subscriptions`: who watches what.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::admin::body::{QueryResult, query};
use crate::admin::hints::unfitting;
use crate::admin::pages::{Cursor, collect, rows_of};
use crate::admin::problem::Problem;
use crate::shard::control::{Answer, Ask, Rows, SubscriptionRow};
use crate::shard::filter::SubscriptionFilter;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    like: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Lists subscriptions that fit a filter, page by page.
pub async fn list(
    State(admin): State<Admin>,
    list: QueryResult<ListQuery>,
) -> Result<Response, Problem> {
    let Query(list) = query(list)?;
    let from = Cursor::parse(list.cursor.as_deref())?;
    let limit = rows_of(list.limit)?;
    let filter = SubscriptionFilter::parse(list.like.as_deref().unwrap_or(""))
        .map_err(|error| Problem::invalid(format!("like: {error}")))?;
    let filter = Arc::new(filter);
    let ask = |page| Ask::ListSubscriptions {
        filter: Arc::clone(&filter),
        page,
    };
    let take = |answer: Answer| {
        let Answer::Subscriptions(Rows { rows, next }) = answer else {
            return Err(unfitting(&answer));
        };
        Ok((rows, next))
    };
    let (rows, next) = collect(&admin.shards, from, limit, ask, take).await?;
    let rows: Vec<Value> = rows.iter().map(row_json).collect();
    Ok(axum::Json(json!({ "subscriptions": rows, "next": next })).into_response())
}

fn row_json(row: &SubscriptionRow) -> Value {
    json!({
        "watcher": &*row.watcher,
        "resource": &*row.resource,
        "package": &*row.package,
        "state": row.state,
        "expiry": row.expires_in_seconds,
        "peer": row.peer.to_string(),
        "cseq": row.cseq,
        "version": row.version,
        "dirty": row.dirty,
        "in_flight": row.in_flight,
        "call_id": &*row.call_id,
    })
}
