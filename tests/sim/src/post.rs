//! The post between the shards of one simulated server: mail and blocks on their way, each kind in its order, within the
//! bounds of the true post (`src/uring/post`), and shards that take nothing of it for a while. When something arrives is
//! said by whoever sends it; what arrives is the next that stands in line.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lampfield::config::limits;
use lampfield::partition::ShardId;
use lampfield::time::Time;

use crate::edge::Parcel;

/// So many blocks are on their way to a shard before the next one waits to be filled, as in the true post.
const BLOCKS_UNREAD: usize = 2;
/// How soon a shard tries again to send what found no room.
pub const RETRY: Duration = Duration::from_millis(1);

/// One way from a shard to another, of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub from: ShardId,
    pub to: ShardId,
    pub is_block: bool,
}

/// What a look at a way has brought.
#[derive(Debug)]
pub enum Taken {
    Parcel(ShardId, Parcel),
    /// Its shard takes nothing yet: to be looked at again then.
    Later(Time),
}

#[derive(Debug, Default)]
struct Line {
    parcels: VecDeque<Parcel>,
    /// When the last of them arrives: each kind keeps its order.
    last: Time,
}

/// What is on its way between shards.
#[derive(Debug, Default)]
pub struct Post {
    lines: BTreeMap<Way, Line>,
    /// Until when a shard takes nothing.
    lagging: BTreeMap<ShardId, Time>,
}

impl Post {
    /// A shard sends something that would be there after `delay`: by which way it goes, and when it is there.
    pub fn send(
        &mut self,
        now: Time,
        [from, to]: [ShardId; 2],
        parcel: Parcel,
        delay: Duration,
    ) -> (Time, Way) {
        let is_block = matches!(parcel, Parcel::Block { .. });
        let way = Way { from, to, is_block };
        let line = self.lines.entry(way).or_default();
        line.parcels.push_back(parcel);
        line.last = line.last.max(now + delay);
        (line.last, way)
    }

    /// How many more blocks may go by this way; `behind` more than one waits to.
    pub fn room(&self, from: ShardId, to: ShardId, is_behind: bool) -> usize {
        let way = Way {
            from,
            to,
            is_block: true,
        };
        let unread = self.lines.get(&way).map_or(0, |line| line.parcels.len());
        let most = match is_behind {
            true => limits::FORWARD_BLOCKS_QUEUED,
            false => BLOCKS_UNREAD,
        };
        most.saturating_sub(unread)
    }

    /// What arrives by a way, if its shard takes anything now. A block says itself how long it has waited, and its reader
    /// believes that.
    pub fn take(&mut self, now: Time, way: Way) -> Result<Taken, String> {
        if let Some(until) = self.lags_until(now, way.to) {
            return Ok(Taken::Later(until));
        }
        let line = self.lines.get_mut(&way);
        let next = line.and_then(|line| line.parcels.pop_front());
        let parcel = next.ok_or("nothing arrives that was not sent")?;
        if let Parcel::Block { block, begun, .. } = &parcel {
            let [longest, shortest] = begun.map(|begun| now.since(begun));
            let waited = block.waited(now);
            if waited < shortest || waited > longest {
                return Err(format!(
                    "{way:?}: a block says that it has waited for {waited:?}, and has for {shortest:?} to {longest:?}"
                ));
            }
        }
        Ok(Taken::Parcel(way.to, parcel))
    }

    /// A shard takes nothing until then.
    pub fn lag(&mut self, shard: ShardId, until: Time) {
        let known = self.lagging.entry(shard).or_default();
        *known = until.max(*known);
    }

    /// Until when a shard takes nothing; None: it does.
    pub fn lags_until(&self, now: Time, shard: ShardId) -> Option<Time> {
        self.lagging
            .get(&shard)
            .copied()
            .filter(|until| *until > now)
    }
}
