//! The store and the server: opened before anything is served, read into the shards before a socket is, and closed
//! when no shard can give out a record any more.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::partition::{Owners, Secrets, ShardId};
use crate::shard::control::{Answer, Aside, Ask, Reply, Request};
use crate::shard::mail::Mail;
use crate::store::Durability;
use crate::store::format::Key;
use crate::store::io::{self as disk, Disk, Home, OpenError, Owner, Post, Writer};
use crate::store::records::Records;
use crate::uring::post::{Control, HoldError, RecordsEnd};

use super::listen::Sockets;
use super::secrets;

/// Records that travel to a shard together.
const BLOCK_BYTES: usize = 64 * 1024;
/// Blocks on their way to one shard: enough that it never waits for the disk.
const BLOCKS_OPEN: usize = 4;
/// So many records that nobody believes are named one by one.
const NAMED: u64 = 10;

/// The store of this process.
pub struct Store {
    disk: Option<Disk>,
    data_dir: PathBuf,
    durability: Durability,
    incarnation: u32,
    set_back: Duration,
    secrets: Secrets,
}

/// What came back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restored {
    pub kept: u64,
    pub gone: u64,
    pub aside: u64,
}

impl Store {
    /// Opens what lies in the data directory. None: nothing is to outlive the process.
    pub fn open(
        data_dir: Option<&Path>,
        durability: Durability,
        secrets: &Secrets,
    ) -> Result<Option<Store>, OpenError> {
        let Some(data_dir) = data_dir else {
            return Ok(None);
        };
        if durability == Durability::None {
            match disk::leave(data_dir, &owner(secrets))? {
                None => {}
                Some(Ok(to)) => tracing::warn!(
                    "store: nothing will be kept in it (durability = \"none\"), so what an earlier process kept was set aside as {}",
                    to.display()
                ),
                Some(Err(error)) => tracing::error!(
                    "store: nothing will be kept in it (durability = \"none\"), and it cannot be set aside: {error}"
                ),
            }
            return Ok(None);
        }
        let opened = disk::open(data_dir, &owner(secrets))?;
        for warning in &opened.warnings {
            tracing::error!("store: {warning}");
        }
        if opened.disk.is_none() {
            tracing::error!(
                "the store cannot be used: lampfield serves, but nothing outlives a restart, until it can"
            );
        }
        Ok(Some(Store {
            disk: opened.disk,
            data_dir: data_dir.to_owned(),
            durability,
            incarnation: opened.incarnation,
            set_back: opened.set_back,
            secrets: secrets.clone(),
        }))
    }

    /// The number of this process among those that wrote into the store.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// How far the clock was set back since it was last written.
    pub fn set_back(&self) -> Duration {
        self.set_back
    }

    /// Starts the thread that writes.
    pub fn start_writer(&self, control: &Control) -> io::Result<Writer> {
        let end = control.records();
        let (data_dir, secrets) = (self.data_dir.clone(), self.secrets.clone());
        let home = Home {
            data_dir: self.data_dir.clone(),
            owner: owner(&self.secrets),
            incarnation: self.incarnation,
            make_ready: Arc::new(move || secrets::keep(&data_dir, &secrets)),
        };
        let shards = control.shards();
        Writer::start(self.disk.clone(), home, self.durability, shards, end)
    }

    /// Reads everything into the shards. Afterwards they know what they knew, and tell nobody yet.
    pub async fn restore(&self, control: &mut Control) -> Restored {
        let Some(disk) = &self.disk else {
            return Restored::default();
        };
        let mut hands = Hands::new(control, disk);
        let mut in_subscriptions = false;
        for item in disk.read() {
            let (key, value) = match item {
                Ok(item) => item,
                Err(error) => {
                    tracing::error!(?error, "a part of the store cannot be read");
                    break;
                }
            };
            if !in_subscriptions && key.first() == Some(&Key::SUBSCRIPTIONS) {
                // Whoever asks for a state must find it.
                in_subscriptions = true;
                hands.deliver_all().await;
            }
            hands.take(&key, &value).await;
        }
        hands.deliver_all().await;
        hands.restored
    }
}

/// What a store of these secrets says of its owner.
fn owner(secrets: &Secrets) -> Owner {
    secrets.derive(b"store")
}

/// Everything that an earlier process knew is known again; then the sockets are read, and whoever is owed something
/// is told. Without a store there is nothing to bring back. Says who writes, and how many records came back.
pub async fn bring_back(
    store: Option<&Store>,
    control: &mut Control,
    sockets: &Sockets,
) -> io::Result<(Option<Writer>, u64)> {
    let mut writer = None;
    let mut restored = Restored::default();
    if let Some(store) = store {
        writer = Some(store.start_writer(control)?);
        let began = Instant::now();
        restored = store.restore(control).await;
        let Restored { kept, gone, aside } = restored;
        let millis = began.elapsed().as_millis();
        tracing::info!(kept, gone, aside, millis, "the store has been read");
    }
    for shard in (0..control.shards()).map(ShardId) {
        for (listener, socket) in sockets.of_shard(shard) {
            let armed = control.shard(shard).arm(listener, socket).await;
            armed.map_err(|error| match error {
                HoldError::Refused(_, error) => error,
                HoldError::Ended => io::Error::other("the thread of a shard has ended"),
            })?;
        }
    }
    for shard in (0..control.shards()).map(ShardId) {
        let ask = Ask::Resume;
        let request = Mail::Request(Request { id: 0, ask });
        if control.shard(shard).deliver(request).await.is_ok() {
            let _ = control.receive().await;
        }
    }
    Ok((writer, restored.kept))
}

/// Who carries records to the shards.
struct Hands<'a> {
    control: &'a mut Control,
    disk: &'a Disk,
    owners: Owners,
    /// By shard.
    blocks: Vec<Records>,
    open: Vec<usize>,
    restored: Restored,
}

impl<'a> Hands<'a> {
    fn new(control: &'a mut Control, disk: &'a Disk) -> Self {
        let shards = usize::from(control.shards());
        Hands {
            owners: Owners::new(control.shards()),
            control,
            disk,
            blocks: (0..shards).map(|_| Records::default()).collect(),
            open: vec![0; shards],
            restored: Restored::default(),
        }
    }

    async fn take(&mut self, key: &[u8], value: &[u8]) {
        let owner = match Key::read(key) {
            Ok(name) => name.partition().map(|partition| self.owners.of(partition)),
            Err(fault) => {
                let key = key.into();
                return self.set_aside(&Aside { key, fault });
            }
        };
        let shards = match owner {
            Some(shard) => shard.0..shard.0 + 1,
            None => 0..self.control.shards(),
        };
        for shard in shards.map(usize::from) {
            self.blocks[shard].copy(key, value);
            if self.blocks[shard].size() >= BLOCK_BYTES {
                self.deliver(shard).await;
            }
        }
    }

    async fn deliver(&mut self, shard: usize) {
        while self.open[shard] >= BLOCKS_OPEN {
            self.receive().await;
        }
        let ask = Ask::Restore(core::mem::take(&mut self.blocks[shard]));
        let request = Mail::Request(Request { id: 0, ask });
        let handle = self.control.shard(ShardId(shard as u16));
        if handle.deliver(request).await.is_ok() {
            self.open[shard] += 1;
        }
    }

    async fn deliver_all(&mut self) {
        for shard in 0..self.blocks.len() {
            if !self.blocks[shard].is_empty() {
                self.deliver(shard).await;
            }
        }
        while self.open.iter().any(|open| *open > 0) {
            self.receive().await;
        }
    }

    async fn receive(&mut self) {
        let (shard, mail) = self.control.receive().await;
        let Mail::Reply(Reply {
            answer: Answer::Restored { kept, gone, aside },
            ..
        }) = mail
        else {
            return;
        };
        self.open[usize::from(shard.0)] -= 1;
        self.restored.kept += kept;
        self.restored.gone += gone;
        for aside in &aside {
            self.set_aside(aside);
        }
    }

    fn set_aside(&mut self, aside: &Aside) {
        self.restored.aside += 1;
        if self.restored.aside <= NAMED {
            let key = String::from_utf8_lossy(&aside.key);
            tracing::warn!(?key, "a record is set aside: {}", aside.fault);
        }
        if let Err(error) = self.disk.set_aside(&aside.key) {
            tracing::error!(?error, "a record cannot be set aside");
        }
    }
}

impl Post for RecordsEnd {
    fn claim(&mut self) {
        RecordsEnd::claim(self);
    }

    fn take(&mut self) -> Option<(ShardId, Records)> {
        RecordsEnd::take(self)
    }

    fn wait(&mut self, at_most: Duration) {
        RecordsEnd::wait(self, at_most);
    }

    fn give_back(&mut self, shard: ShardId, block: Records) {
        RecordsEnd::give_back(self, shard, block);
    }

    fn send(&mut self, shard: ShardId, mail: Mail) -> bool {
        RecordsEnd::send(self, shard, mail)
    }

    fn has_overrun(&mut self) -> bool {
        RecordsEnd::has_overrun(self)
    }
}
