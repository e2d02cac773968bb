//! Whose a request is and what it names: questions that the settings alone answer.

use super::answer::Refused;
use super::settings::Settings;
use crate::partition::{Mark, Partition};
use crate::policy::{Asked, Identity, Key};
use crate::sip::{Contact, Method, NameAddr, Request};
use crate::subscription::phones::PhoneName;
use crate::transport::Flow;

impl Settings {
    /// The partition that a request belongs to: found in the tag that we gave, in who sends it, or in what it names.
    /// None: any shard may answer.
    pub(super) fn partition_of(&self, request: &Request<'_>) -> Option<Partition> {
        self.partition_with(request, || self.phone_partition(request))
    }

    /// The same, where the partition of the phone may be known already.
    fn partition_with(
        &self,
        request: &Request<'_>,
        phone: impl FnOnce() -> Partition,
    ) -> Option<Partition> {
        match request.method {
            // A CANCEL goes where the SUBSCRIBE went that it means.
            Method::Subscribe | Method::Cancel => match request.to_tag {
                Some(tag) => Mark::read(tag).map(|mark| mark.partition),
                None => Some(phone()),
            },
            Method::Publish => {
                let resource = self.resource_of(request).ok()?;
                Some(self.secrets.resource(resource.as_str()))
            }
            _ => None,
        }
    }

    /// Everything of one phone is on one shard: the one of its From address-of-record, or of its Call-ID
    /// where it does not say who it is.
    pub(super) fn phone_partition(&self, request: &Request<'_>) -> Partition {
        self.partition_of_watcher(self.watcher_of(request).as_ref(), request)
    }

    fn partition_of_watcher(&self, watcher: Option<&Key>, request: &Request<'_>) -> Partition {
        match watcher {
            Some(watcher) if !self.rules.policy.is_shared(watcher) => {
                self.secrets.phone(watcher.as_bytes())
            }
            Some(_) | None => self.secrets.phone(request.call_id),
        }
    }

    /// The address-of-record in From.
    pub(super) fn watcher_of(&self, request: &Request<'_>) -> Option<Key> {
        self.rules.policy.sender(&request.from).ok()
    }

    /// Which phone asks for a subscription: whose it is, and which of their devices. An instance says that best
    /// (RFC 5626 4.1); without one, the Contact does, without the parameters that may be others after a reboot.
    pub(super) fn phone_name(&self, identity: &Identity, request: &Request<'_>) -> PhoneName {
        let number = identity.number().to_le_bytes();
        let mut by_instance = false;
        let device = match request.contact {
            Some(Contact::Address(address)) => match address.params.value("+sip.instance") {
                Some(instance) => {
                    by_instance = true;
                    self.secrets.hash(&[&number, b"instance", instance])
                }
                None => {
                    let params = address.sip_uri().map_or(0, |uri| {
                        let uri = uri.without_headers();
                        uri.raw_params().len() + (address.uri.len() - uri.raw.len())
                    });
                    let bare = &address.uri[..address.uri.len() - params];
                    self.secrets.hash(&[&number, b"contact", bare])
                }
            },
            Some(Contact::Star) | None => self.secrets.hash(&[&number]),
        };
        PhoneName {
            identity: identity.number() as u64,
            device,
            by_instance,
            is_shared: self.is_many(identity, request),
        }
    }

    /// Whether many phones stand behind who asks, so that no user's limit and pace are theirs. Who has proved a name is that
    /// one, whatever From says.
    pub(super) fn is_many(&self, identity: &Identity, request: &Request<'_>) -> bool {
        match identity.name() {
            Some(name) => self.rules.policy.is_listed_as_shared(name),
            None => self.is_shared(request.from.raw),
        }
    }

    /// Whether the address in a From stands for many phones.
    pub(super) fn is_shared(&self, from: &[u8]) -> bool {
        let policy = &self.rules.policy;
        let watcher = NameAddr::parse(from)
            .ok()
            .and_then(|from| policy.sender(&from).ok());
        watcher.is_some_and(|watcher| policy.is_shared(&watcher))
    }

    /// The resource that a Request-URI names.
    pub(super) fn resource_of(&self, request: &Request<'_>) -> Result<Key, Refused> {
        self.rules
            .policy
            .resource(&request.target)
            .map_err(|_| Refused::plain(404))
    }

    /// The question who sends a request, as policy wants it put.
    pub(super) fn asked<'a>(
        &self,
        request: &Request<'a>,
        flow: &Flow,
        from: &'a Key,
        gate: u16,
        unix_seconds: u64,
    ) -> Asked<'a> {
        Asked {
            gate,
            method: request.method.as_bytes(),
            uri: request.uri,
            from,
            source: flow.peer.ip(),
            message: [request.message.head(), request.message.body],
            partition: self.nonce_partition(request, from),
            unix_seconds,
        }
    }

    /// Where the counts of a nonce are kept: with the one who handles the request, so that no two shards
    /// accept one count.
    fn nonce_partition(&self, request: &Request<'_>, from: &Key) -> Partition {
        let phone = || self.partition_of_watcher(Some(from), request);
        self.partition_with(request, phone).unwrap_or_else(phone)
    }
}
