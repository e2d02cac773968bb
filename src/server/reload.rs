//! A new configuration for a server that runs: read, refused whole or taken whole. It touches no socket: what has one
//! behind it is refused by name.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::changes::Changes;
use super::rules_of;
use crate::admin::{Admin, Changeable, NotReloaded, Reloaded, Shards, Wish};
use crate::config::{self, Config, Flags};
use crate::partition::Secrets;
use crate::policy::Policy;
use crate::shard::control::{Answer, Ask};

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
    pub shards: Shards,
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
                    // Who has gone away meanwhile has got the reload all the same.
                    let _ = wish.answer.send(self.reload("request").await);
                }
                Some(()) = hang_up.recv() => {
                    let _ = self.reload("SIGHUP").await;
                }
                else => return,
            }
        }
    }

    /// One line in the log, whatever comes of it.
    async fn reload(&mut self, by: &str) -> Result<Reloaded, NotReloaded> {
        let outcome = self.take().await;
        match &outcome {
            Ok(Reloaded { changed, remarks }) if changed.is_empty() => {
                tracing::info!(by, ?remarks, "reload: the configuration is what it was");
            }
            Ok(Reloaded { changed, remarks }) => {
                let changed = changed.join(" ");
                tracing::info!(by, changed, ?remarks, "reload: new configuration");
            }
            Err(NotReloaded::NoFile) => {
                tracing::warn!(by, "reload: {}", NotReloaded::NoFile);
            }
            Err(error) => tracing::error!(by, "reload refused: {error}"),
        }
        outcome
    }

    async fn take(&mut self) -> Result<Reloaded, NotReloaded> {
        let (config, policy) = self.read().await?;
        let Changes { live, restart } = Changes::between(&self.config, &config);
        if !restart.is_empty() {
            return Err(NotReloaded::NeedsRestart(restart));
        }
        if live.is_empty() && !self.incomplete {
            return Ok(Reloaded::default());
        }
        let policy = Arc::new(policy);
        let rules = Arc::new(rules_of(&config, &policy));
        self.incomplete = true;
        let answers = self.shards.ask_all(|| Ask::Adopt(Arc::clone(&rules))).await;
        for answer in answers.map_err(NotReloaded::Incomplete)? {
            assert!(matches!(answer, Answer::Done), "a shard adopts: {answer:?}");
        }
        self.admin.change(Changeable {
            domains: policy.domains().clone(),
            token: config.admin.token.clone(),
        });
        if let Err(error) = (self.origin.set_log)(&config.log) {
            tracing::error!(%error, "the log goes on as it was");
        }
        self.incomplete = false;
        self.config = config;
        self.policy = policy;
        Ok(Reloaded {
            changed: live,
            remarks: self.policy.remarks().to_vec(),
        })
    }

    /// The file and the policy in it. Disks may be slow, and hashing many passwords takes a while: neither may
    /// keep the control thread.
    async fn read(&self) -> Result<(Config, Policy), NotReloaded> {
        let file = self.origin.file.clone().ok_or(NotReloaded::NoFile)?;
        let flags = self.origin.flags.clone();
        let secrets = self.secrets.clone();
        let read = tokio::task::spawn_blocking(move || {
            let config = config::load(Some(&file), &flags).map_err(|error| error.to_string())?;
            let policy = Policy::new(&config.policy, &secrets, None);
            let policy = policy.map_err(|fault| format!("{}: {fault}", file.display()))?;
            Ok((config, policy))
        });
        let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
        read.map_err(NotReloaded::Wrong)
    }
}
