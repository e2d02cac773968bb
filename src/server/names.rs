//! Host names, between the shards that want them and the resolver that looks them up. Each is a task of its own: a name
//! server that does not answer keeps nobody but those who go there.

use std::sync::Arc;

use crate::config::Config;
use crate::dns::{self, Dns};
use crate::partition::ShardId;
use crate::shard::mail::{Mail, Resolution};
use crate::transport::locate::Question;
use crate::uring::post::ShardHandle;

/// The resolver, and the ways back to the shards.
pub struct Names {
    dns: Dns,
    handles: Vec<ShardHandle>,
}

impl Names {
    pub fn new(dns: Dns, handles: Vec<ShardHandle>) -> Self {
        Names { dns, handles }
    }

    /// Looks a name up for a shard, and tells it what came of that.
    pub fn look_up(&self, shard: ShardId, question: Arc<Question>) {
        let dns = self.dns.clone();
        let handle = self.handles[usize::from(shard.0)].clone();
        tokio::spawn(async move {
            let (located, lasts) = dns.locate(&question).await;
            let resolution = Resolution {
                question,
                located,
                lasts,
            };
            // A shard that takes no mail now stops to wait for this by itself.
            let _ = handle.send(Mail::Resolved(Box::new(resolution)));
        });
    }
}

/// From now on the resolver asks whom the configuration wants. Phones are served without one, too.
pub fn adopt(dns: &Dns, config: &Config) {
    let settings = config.dns.as_ref().map(|dns| dns::Settings {
        servers: dns.servers.clone(),
        timeout: dns.timeout,
    });
    if let Err(error) = dns.adopt(settings.as_ref()) {
        tracing::warn!(%error, "host names cannot be looked up: name servers in [dns]");
    }
}
