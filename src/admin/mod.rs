//! The HTTP side, on the control thread: hints in, what is known out, and how the server fares.
//! It holds no state of resources or subscriptions; it asks the shards.

mod ask;
mod body;
mod changes;
mod connections;
mod epochs;
mod events;
mod hints;
mod metrics;
mod model;
mod openapi;
mod pages;
mod problem;
mod process;
mod reload;
mod routes;
mod status;
mod subscriptions;
mod token;
mod transports;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::mpsc;

pub use ask::{AskError, Post, Shards};
pub use events::steer_reports;
pub use reload::{NotReloaded, Reloaded, Wish, wishes};
pub use transports::{TransportRow, TransportsView};

use crate::hint::ResourceKey;
use crate::policy::{Domains, NotFound};
use problem::Problem;

/// What every request handler sees. Clones are the same.
#[derive(Clone)]
pub struct Admin(Arc<State>);

/// Behind [`Admin`].
pub struct State {
    pub shards: Shards,
    changeable: RwLock<Arc<Changeable>>,
    /// To whoever reads the configuration again.
    wishes: mpsc::Sender<Wish>,
    transports: RwLock<Arc<TransportsView>>,
    pub started: Instant,
    /// Who computes for TLS.
    tls: &'static str,
    ready: AtomicBool,
}

/// What a new configuration replaces. A request keeps what it began with.
pub struct Changeable {
    pub domains: Domains,
    /// What requests must bring; none: nothing.
    pub token: Option<String>,
}

impl core::ops::Deref for Admin {
    type Target = State;
    fn deref(&self) -> &State {
        &self.0
    }
}

impl Admin {
    /// Ready from the start. `tls`: who computes for it.
    pub fn new(
        shards: Shards,
        tls: &'static str,
        changeable: Changeable,
        wishes: mpsc::Sender<Wish>,
    ) -> Self {
        Admin(Arc::new(State {
            shards,
            changeable: RwLock::new(Arc::new(changeable)),
            wishes,
            transports: RwLock::default(),
            started: Instant::now(),
            tls,
            ready: AtomicBool::new(true),
        }))
    }

    /// What holds now.
    fn changeable(&self) -> Arc<Changeable> {
        let changeable = self.changeable.read();
        Arc::clone(&changeable.unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this holds.
    pub fn change(&self, changeable: Changeable) {
        let standing = self.changeable.write();
        *standing.unwrap_or_else(PoisonError::into_inner) = Arc::new(changeable);
    }

    /// The listeners as they are now.
    fn transports(&self) -> Arc<TransportsView> {
        let transports = self.transports.read();
        Arc::clone(&transports.unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on the listeners are these.
    pub fn show_transports(&self, view: TransportsView) {
        let standing = self.transports.write();
        *standing.unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// Whether new work is taken.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// From now on the server says that it is not ready, and lets its readers of changes go.
    pub fn retire(&self) {
        self.ready.store(false, Ordering::Relaxed);
        self.shards.changes().close();
    }

    /// The resource that a name means: `1001`, `1001@example.com`, `sip:1001@example.com`.
    fn resource(&self, name: &str) -> Result<ResourceKey, Problem> {
        self.changeable().domains.named(name).map_or_else(
            |error| {
                Err(Problem::not_found(match error {
                    NotFound::UnknownHost => format!("resource: `{name}` is of no domain of ours"),
                    NotFound::NoUser => format!("resource: `{name}` names no user"),
                    NotFound::TooLong => format!("resource: `{name}` is too long"),
                }))
            },
            |key| Ok(key.as_str().into()),
        )
    }
}

/// Serves until `stop` is ready, and then to the end of the requests that are being answered.
pub async fn serve(
    listener: tokio::net::TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(connections::Limited::new(listener), routes::router(admin))
        .with_graceful_shutdown(stop)
        .await
}
