//! What comes in with a request: bodies and queries, read strictly, their mistakes said in words.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::admin::problem::Problem;

/// A query that may be wrong.
pub type QueryResult<T> = Result<Query<T>, QueryRejection>;

/// The query, or what is wrong with it.
pub fn query<T>(query: QueryResult<T>) -> Result<Query<T>, Problem> {
    query.map_err(|rejection| Problem::invalid(cause(&rejection)))
}

/// Reads a JSON body. An error names the place in it: `calls[0].state: …`.
pub fn json_body<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Problem> {
    if !is_json(headers) {
        return Err(Problem::media_type(
            "send it with `Content-Type: application/json`",
        ));
    }
    match Json::from_bytes(body) {
        Ok(Json(value)) => Ok(value),
        Err(rejection) => Err(Problem::invalid(cause(&rejection))),
    }
}

/// What is wrong, without the sentence about types that axum puts before it.
fn cause(error: &dyn core::fmt::Display) -> String {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((_, cause)) => cause.to_owned(),
        None => text,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let essence = value
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next())
        .map(str::trim);
    essence.is_some_and(|essence| {
        essence.eq_ignore_ascii_case("application/json")
            || essence
                .get(essence.len().saturating_sub(5)..)
                .is_some_and(|end| end.eq_ignore_ascii_case("+json"))
    })
}
