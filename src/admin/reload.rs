//! `POST /v1/reload`: asks those who know where the configuration came from to read it again. What may change while
//! the server runs is not decided here.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::admin::Admin;
use crate::admin::ask::AskError;
use crate::admin::body::json_body;
use crate::admin::problem::Problem;
use crate::config::limits;

/// Somebody wants a reload, and waits for what becomes of it.
#[derive(Debug)]
pub struct Wish {
    /// No living socket is handed over: each listener gets another one.
    pub fresh_sockets: bool,
    pub answer: oneshot::Sender<Result<Reloaded, NotReloaded>>,
}

/// Room for those who wait.
pub fn wishes() -> (mpsc::Sender<Wish>, mpsc::Receiver<Wish>) {
    mpsc::channel(limits::RELOADS_WAITING)
}

/// A configuration that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys and tables of the file that are new; none: it is what it was.
    pub changed: Vec<&'static str>,
    /// The generation of listeners that serves now.
    pub generation: u32,
    /// Settings that work, and about which something should be known.
    pub remarks: Vec<String>,
}

/// Why the configuration before goes on to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReloaded {
    /// The server was started without a file.
    NoFile,
    /// The file cannot be read or has mistakes: each with file, line, column, and what to write instead.
    Wrong(String),
    /// These keys and tables are new, and hold from a restart only.
    NeedsRestart(Vec<&'static str>),
    /// What the file wants cannot be listened on now.
    NotOpened(String),
    /// A shard did not answer: the others have taken it, and the next reload tells all of them again.
    Incomplete(AskError),
}

impl core::fmt::Display for NotReloaded {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            NotReloaded::NoFile => f.write_str(
                "the server was started without --config: there is no file to read again",
            ),
            NotReloaded::Wrong(text) => f.write_str(text.trim_end()),
            NotReloaded::NeedsRestart(keys) => write!(
                f,
                "nothing was changed: {} cannot change while the server runs; restart it, or write what stood there before",
                keys.join(", ")
            ),
            NotReloaded::NotOpened(error) => write!(f, "nothing was changed: {error}"),
            NotReloaded::Incomplete(error) => write!(
                f,
                "{error}: not every shard has the new configuration; ask for a reload again"
            ),
        }
    }
}

impl From<NotReloaded> for Problem {
    fn from(error: NotReloaded) -> Self {
        let detail = error.to_string();
        match error {
            NotReloaded::NoFile => Problem::not_reloadable(detail),
            NotReloaded::Wrong(_) => Problem::wrong_configuration(detail),
            NotReloaded::NeedsRestart(keys) => {
                Problem::not_reloadable(detail).with("keys", json!(keys))
            }
            NotReloaded::NotOpened(_) => Problem::not_reloadable(detail),
            NotReloaded::Incomplete(_) => Problem::unavailable(detail),
        }
    }
}

/// How it is to be done.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct How {
    fresh_sockets: bool,
}

/// Reads the configuration again, and says what is new.
pub async fn reload(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    // It may have no body whose type a browser would have to ask for first, so any page could send it.
    if headers.contains_key(header::ORIGIN) {
        return Err(Problem::web_page());
    }
    let how = match body.is_empty() {
        true => How::default(),
        false => json_body(&headers, &body)?,
    };
    let (answer, answered) = oneshot::channel();
    let wish = Wish {
        fresh_sockets: how.fresh_sockets,
        answer,
    };
    admin.wishes.try_send(wish).map_err(|error| {
        Problem::unavailable(match error {
            TrySendError::Full(_) => "other reloads are waiting already",
            TrySendError::Closed(_) => STOPPING,
        })
    })?;
    let outcome = answered.await.map_err(|_| Problem::unavailable(STOPPING))?;
    let Reloaded {
        changed,
        generation,
        remarks,
    } = outcome?;
    let answer = json!({ "changed": changed, "generation": generation, "remarks": remarks });
    Ok(axum::Json(answer).into_response())
}

const STOPPING: &str = "the server is about to stop";
