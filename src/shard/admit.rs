//! Who sends a request, and whether they may.

use super::Shard;
use super::answer::{Refused, With};
use crate::policy::{Action, Cause, Identity, Key, Outcome};
use crate::sip::{Name, Request};
use crate::stats::Counter;
use crate::time::Time;
use crate::transport::Flow;

impl Shard {
    /// The identity behind a request that wants something of a resource; an error is 401 or 403.
    pub(super) fn admit(
        &mut self,
        now: Time,
        action: Action,
        request: &Request<'_>,
        flow: &Flow,
        resource: &Key,
    ) -> Result<Identity, Refused> {
        let from = self
            .settings
            .watcher_of(request)
            .ok_or(Refused::because(400, "Malformed From"))?;
        let policy = &self.settings.rules.policy;
        let gate = self.listeners.gate(flow.listener);
        let unix_seconds = self.wall.unix_seconds(now);
        let asked = self
            .settings
            .asked(request, flow, &from, gate, unix_seconds);
        let authorizations = request.message.lines_of(Name::Authorization);
        let identity = match policy.authenticate(&asked, authorizations, &mut self.nonce_windows) {
            Outcome::Identity(identity) => identity,
            Outcome::Challenge { stale, cause } => {
                self.stats.record(match cause {
                    Cause::NoCredentials => Counter::AuthenticationChallenged,
                    Cause::Replayed => Counter::AuthenticationReplayed,
                    _ if stale => Counter::AuthenticationStale,
                    _ => Counter::AuthenticationFailed,
                });
                return Err(Refused::with(401, With::Challenge { stale }));
            }
            Outcome::Forbidden(_) => {
                self.stats.record(Counter::AuthenticationFailed);
                return Err(Refused::plain(403));
            }
        };
        if identity.name().is_some() {
            self.stats.record(Counter::AuthenticationOk);
        }
        if !policy.permits(action, &identity, &from, resource) {
            self.stats.record(match action {
                Action::Watch => Counter::ForbiddenSubscribe,
                Action::Publish => Counter::ForbiddenPublish,
            });
            return Err(Refused::plain(403));
        }
        Ok(identity)
    }
}
