//! Who sends a request, and whether they may.

use super::Shard;
use super::answer::{Refused, With};
use crate::partition::Partition;
use crate::policy::{Action, Asked, Cause, Identity, Key, Outcome};
use crate::sip::{Message, Method, Name, Request, Writer};
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
            .watcher_of(request)
            .ok_or(Refused::because(400, "Malformed From"))?;
        let policy = self.settings.policy.clone();
        let asked = self
            .asked(now, request, flow, &from)
            .ok_or(Refused::plain(500))?;
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

    /// The lines of a challenge, for a request that was refused with 401.
    pub(super) fn write_challenges(
        &self,
        message: &Message<'_>,
        flow: &Flow,
        stale: bool,
        writer: &mut Writer<'_>,
    ) {
        let Ok(request) = message.request() else {
            return;
        };
        let Some(from) = self.watcher_of(&request) else {
            return;
        };
        let Some(asked) = self.asked(self.now, &request, flow, &from) else {
            return;
        };
        let branch = request.via.branch.unwrap_or(&[]);
        let salt = self.settings.secrets.hash(&[request.call_id, branch]) as u32;
        self.settings
            .policy
            .write_challenges(&asked, stale, salt, |bytes| writer.put(bytes));
    }

    fn asked<'a>(
        &self,
        now: Time,
        request: &Request<'a>,
        flow: &Flow,
        from: &'a Key,
    ) -> Option<Asked<'a>> {
        let local = self.settings.listener(flow.listener)?;
        Some(Asked {
            gate: local.listener.gate,
            method: request.method.as_bytes(),
            uri: request.uri,
            from,
            source: flow.peer.ip(),
            partition: self.nonce_partition(request),
            unix_seconds: self.wall.unix_seconds(now),
        })
    }

    /// Where the counts of a nonce are kept: with the one who handles the request.
    fn nonce_partition(&self, request: &Request<'_>) -> Partition {
        match (request.method, self.resource_of(request)) {
            (Method::Publish, Ok(resource)) => self.settings.secrets.resource(resource.as_str()),
            _ => self.phone_partition(request),
        }
    }
}
