//! A new configuration for a server that runs: read, refused whole or taken whole. Where it wants other listeners, or
//! somebody wants other sockets, the transports are swapped with it.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::changes::Changes;
use super::names;
use super::rules_of;
use super::transports::{NotSwapped, Transports};
use crate::admin::{Admin, Changeable, NotReloaded, Reloaded, Wish};
use crate::config::{self, Config, Flags};
use crate::dns::Dns;
use crate::partition::Secrets;
use crate::policy::Policy;
use crate::uring::stream::Doors;

/// How often what drains is looked after.
const TEND: Duration = Duration::from_millis(200);

/// Where the configuration came from, so that it can be read again.
pub struct Origin {
    pub file: Option<PathBuf>,
    pub flags: Flags,
    pub set_log: SetLog,
}

/// Puts a filter of the log in place of the one before; an error says why not.
pub type SetLog = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Takes new configurations, one after the other.
pub struct Reloader {
    pub origin: Origin,
    pub secrets: Secrets,
    /// What holds.
    pub config: Config,
    /// What shards have: kept here until all have let it go, so that none of them spends its time on freeing it.
    pub policy: Arc<Policy>,
    pub transports: Transports,
    pub doors: Arc<Doors>,
    pub dns: Dns,
    pub admin: Admin,
    /// A shard may not have what the others have: the next reload tells all of them again, whatever it brings.
    pub incomplete: bool,
}

impl Reloader {
    /// Serves those who want a reload, and SIGHUP, for ever.
    pub async fn serve(mut self, mut wishes: mpsc::Receiver<Wish>, mut hang_up: Signal) {
        loop {
            tokio::select! {
                Some(wish) = wishes.recv() => {
                    let outcome = self.reload("request", wish.fresh_sockets).await;
                    // Who has gone away meanwhile has got the reload all the same.
                    let _ = wish.answer.send(outcome);
                }
                Some(()) = hang_up.recv() => {
                    let _ = self.reload("SIGHUP", false).await;
                }
                () = tokio::time::sleep(TEND), if self.transports.is_draining() => {
                    self.transports.tend().await;
                }
                else => return,
            }
        }
    }

    /// One line in the log, whatever comes of it.
    async fn reload(&mut self, by: &str, fresh: bool) -> Result<Reloaded, NotReloaded> {
        let outcome = self.take(fresh).await;
        match &outcome {
            Ok(Reloaded {
                changed,
                generation,
                remarks,
            }) => {
                let what = match (changed.is_empty(), fresh) {
                    (true, false) => "the configuration is what it was",
                    (true, true) => "new sockets",
                    (false, _) => "new configuration",
                };
                let changed = changed.join(" ");
                tracing::info!(by, changed, generation, ?remarks, "reload: {what}");
            }
            Err(NotReloaded::NoFile) => {
                tracing::warn!(by, "reload: {}", NotReloaded::NoFile);
            }
            Err(error) => tracing::error!(by, "reload refused: {error}"),
        }
        outcome
    }

    async fn take(&mut self, fresh: bool) -> Result<Reloaded, NotReloaded> {
        let config = self.read(fresh).await?;
        let Changes {
            live,
            restart,
            listeners,
        } = Changes::between(&self.config, &config);
        if !restart.is_empty() {
            return Err(NotReloaded::NeedsRestart(restart));
        }
        let swap = listeners || fresh;
        if live.is_empty() && !swap && !self.incomplete {
            return Ok(Reloaded {
                generation: self.transports.generation(),
                ..Reloaded::default()
            });
        }
        let policy = Arc::new(self.policy_of(&config).await?);
        let rules = Arc::new(rules_of(&config, &policy));
        let told = match swap {
            true => self.transports.swap(&config, fresh, rules).await,
            false => {
                let told = self.transports.adopt(&config, rules).await;
                told.map_err(NotSwapped::Incomplete)
            }
        };
        match told {
            Ok(()) => self.incomplete = false,
            Err(NotSwapped::Refused(reason)) => return Err(NotReloaded::NotOpened(reason)),
            Err(NotSwapped::Incomplete(error)) => {
                self.incomplete = true;
                return Err(NotReloaded::Incomplete(error));
            }
        }
        self.doors.adopt(config.sources, Arc::clone(&policy));
        if self.config.dns != config.dns {
            names::adopt(&self.dns, &config);
        }
        self.admin.change(Changeable {
            domains: policy.domains().clone(),
            token: config.admin.token.clone(),
        });
        if let Err(error) = (self.origin.set_log)(&config.log) {
            tracing::error!(%error, "the log goes on as it was");
        }
        self.config = config;
        self.policy = policy;
        Ok(Reloaded {
            changed: live,
            generation: self.transports.generation(),
            remarks: self.policy.remarks().to_vec(),
        })
    }

    /// Disks may be slow: they may not keep the control thread. Without a file there is nothing new to read, and
    /// still there may be new sockets.
    async fn read(&self, fresh: bool) -> Result<Config, NotReloaded> {
        let file = self.origin.file.clone();
        if file.is_none() && !fresh {
            return Err(NotReloaded::NoFile);
        }
        let flags = self.origin.flags.clone();
        aside(move || config::load(file.as_deref(), &flags).map_err(|error| error.to_string()))
            .await
    }

    /// Hashing many passwords takes a while, too.
    async fn policy_of(&self, config: &Config) -> Result<Policy, NotReloaded> {
        let mut settings = config.policy.clone();
        settings.gates = self.transports.gates(config);
        let secrets = self.secrets.clone();
        let file = self.origin.file.clone();
        aside(move || {
            Policy::new(&settings, &secrets, None).map_err(|fault| match file {
                Some(file) => format!("{}: {fault}", file.display()),
                None => fault.to_string(),
            })
        })
        .await
    }
}

/// Does something slow beside the control thread.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, NotReloaded> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(error.to_string()));
    done.map_err(NotReloaded::Wrong)
}
