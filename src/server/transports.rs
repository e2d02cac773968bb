//! The generation swap: carries a plan out on every shard, tends what drains, and closes it. The order of its steps is
//! what keeps every datagram and every transaction; `docs/transports.md` says it in words.
//!
//! ```text
//! opening    rings hold the new sockets, and send on them if told to         may be refused, and is taken back then
//! active     shards adopt rules and listeners in one step
//!            rings receive on the new sockets; living ones are handed over   from here on nothing can fail
//!            the kernel is told to choose the old sockets no more
//! draining   leases are counted, now and then
//! closed     emptied; shards let go; rings reap to the last completion; the descriptor closes
//! ```

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::listen::{Opening, Sockets};
use crate::admin::{Admin, AskError, Shards, TransportRow, TransportsView};
use crate::config::Config;
use crate::policy::GateSettings;
use crate::shard::control::{Adoption, Answer, Ask};
use crate::shard::settings::Rules;
use crate::transport::generations::{Closing, Origin, Plan};
use crate::transport::{Leases, ListenerId, Stage};
use crate::uring::clock;
use crate::uring::post::{HoldError, ShardHandle};

/// What the kernel had begun to deliver when it was told to choose another socket is there after this.
const GRACE: Duration = Duration::from_millis(4);
/// A socket that is not read empty by then is closed as it is, with a line in the log.
const EMPTIED_WITHIN: Duration = Duration::from_secs(2);
/// A shard that does not answer is asked again so often.
const ADOPTION_ATTEMPTS: u32 = 3;

/// The listeners of a running server.
pub struct Transports {
    sockets: Sockets,
    handles: Vec<ShardHandle>,
    shards: Shards,
    admin: Admin,
    swaps: u64,
    refused: u64,
}

/// Why a swap did not come about.
#[derive(Debug)]
pub enum NotSwapped {
    /// The listeners before go on as if nothing had been asked.
    Refused(String),
    /// Not every shard said that it has adopted what the others have.
    Incomplete(AskError),
}

impl Transports {
    /// What was opened at the start, and the ways to the shards that have it.
    pub fn new(sockets: Sockets, handles: Vec<ShardHandle>, shards: Shards, admin: Admin) -> Self {
        let transports = Transports {
            sockets,
            handles,
            shards,
            admin,
            swaps: 0,
            refused: 0,
        };
        for view in transports.sockets.generations.views() {
            tracing::info!(
                listener = view.id.0,
                address = %view.endpoint,
                generation = view.generation,
                "transport active"
            );
        }
        transports.publish();
        transports
    }

    /// The number of the newest generation.
    pub fn generation(&self) -> u32 {
        self.sockets.generations.newest()
    }

    /// The gates of a configuration, and after them those of the listeners that are open now: some of them it may not
    /// name any more, and they demand what they did to their end.
    pub fn gates(&self, config: &Config) -> Vec<GateSettings> {
        let standing = self.sockets.generations.standing();
        let standing = standing.map(|id| self.sockets.open[&id].gate.clone());
        config
            .policy
            .gates
            .iter()
            .cloned()
            .chain(standing)
            .collect()
    }

    /// Gives every shard new rules for the listeners that there are.
    pub async fn adopt(&mut self, config: &Config, rules: Arc<Rules>) -> Result<(), AskError> {
        for row in self.sockets.generations.table().rows {
            if row.stage == Stage::Active
                && let Some(open) = self.sockets.open.get_mut(&row.listener.id)
            {
                let gate = &config.policy.gates[usize::from(row.listener.gate)];
                open.gate.clone_from(gate);
            }
        }
        let standing: Vec<ListenerId> = self.sockets.generations.standing().collect();
        self.number_gates(config, None, &standing);
        self.tell(rules).await
    }

    /// Swaps to a generation of the listeners that the configuration wants. The rules have the gates of `gates`.
    pub async fn swap(
        &mut self,
        config: &Config,
        fresh: bool,
        rules: Arc<Rules>,
    ) -> Result<(), NotSwapped> {
        let standing: Vec<ListenerId> = self.sockets.generations.standing().collect();
        while let Some(closing) = self.sockets.in_the_way(config, fresh) {
            self.close(closing).await;
        }
        // From here on the kernel may choose sockets that nobody reads yet: it must not last.
        let opening = match self.open(config, fresh).await {
            Ok(opening) => opening,
            Err(reason) => {
                self.refused += 1;
                self.publish();
                return Err(NotSwapped::Refused(reason));
            }
        };
        let plan = self.sockets.enter(opening, clock::now(), config.drain_max);
        self.number_gates(config, Some(&plan), &standing);
        let told = self.tell(rules).await;
        self.begin_receiving(&plan).await;
        self.retire_replaced(&plan);
        self.swaps += 1;
        self.log_swap(&plan);
        self.publish();
        told.map_err(NotSwapped::Incomplete)
    }

    /// Whether something drains.
    pub fn is_draining(&self) -> bool {
        self.sockets.generations.is_draining()
    }

    /// Closes what may be closed.
    pub async fn tend(&mut self) {
        let leases = match self.shards.leases().await {
            Ok(leases) => leases,
            Err(error) => {
                tracing::warn!(%error, "leases cannot be counted now");
                return;
            }
        };
        let leased = |id| leases.get(&id).copied().unwrap_or_default();
        while let Some(closing) = self.sockets.generations.closable(clock::now(), leased) {
            self.close(closing).await;
        }
    }

    /// Sockets are open, and every ring holds them; or all is as it was.
    async fn open(&self, config: &Config, fresh: bool) -> Result<Opening, String> {
        let opened = self.sockets.open(config, fresh);
        let opening = opened.map_err(|error| error.to_string())?;
        match self.hold(&opening).await {
            Ok(()) => Ok(opening),
            Err(reason) => {
                self.sockets.withdraw(&opening);
                Err(reason)
            }
        }
    }

    /// Every ring holds the new sockets. What was refused by one is taken from the others.
    async fn hold(&self, opening: &Opening) -> Result<(), String> {
        for (planned, open) in opening.plan.listeners.iter().zip(&opening.open) {
            for (handle, socket) in self.handles.iter().zip(&open.sockets) {
                let held = match planned.origin {
                    Origin::HandedOver(old) if handle.share(old, planned.id).await => Ok(()),
                    Origin::HandedOver(_) => Err("it has lost a socket".to_owned()),
                    Origin::Opened | Origin::Replaces(_) => {
                        let held = handle.hold(planned.id, socket.clone()).await;
                        held.map_err(|error| match error {
                            HoldError::Refused(_, error) => error.to_string(),
                            HoldError::Ended => "it takes no more".to_owned(),
                        })
                    }
                };
                if let Err(error) = held {
                    self.let_go(&opening.plan).await;
                    let shard = handle.shard().0;
                    return Err(format!("shard {shard} cannot have a new socket: {error}"));
                }
            }
        }
        Ok(())
    }

    async fn let_go(&self, plan: &Plan) {
        for planned in &plan.listeners {
            for handle in &self.handles {
                // Who never had it has nothing to give back.
                let _ = handle.disarm(planned.id).await;
            }
        }
    }

    /// Once more where a shard has not answered: told twice is told once.
    async fn tell(&self, rules: Arc<Rules>) -> Result<(), AskError> {
        let adoption = Adoption {
            rules,
            listeners: Arc::new(self.sockets.generations.table()),
            in_flight_max: self.sockets.answers_max(),
        };
        let mut attempt = 1;
        loop {
            match self.shards.ask_all(|| Ask::Adopt(adoption.clone())).await {
                Ok(answers) => {
                    let done = |answer: &Answer| matches!(answer, Answer::Done);
                    assert!(answers.iter().all(done), "shards adopt: {answers:?}");
                    return Ok(());
                }
                Err(error) if attempt == ADOPTION_ATTEMPTS => return Err(error),
                Err(error) => tracing::warn!(%error, attempt, "shards are told again"),
            }
            attempt += 1;
        }
    }

    async fn begin_receiving(&self, plan: &Plan) {
        for planned in &plan.listeners {
            for handle in &self.handles {
                match planned.origin {
                    Origin::HandedOver(_) => handle.hand_over(planned.id).await,
                    Origin::Opened | Origin::Replaces(_) => handle.receive(planned.id).await,
                }
            }
        }
    }

    fn retire_replaced(&self, plan: &Plan) {
        for planned in &plan.listeners {
            if let Origin::Replaces(old) = planned.origin {
                self.retire(old);
            }
        }
    }

    /// The kernel delivers to the other sockets of the address from here on.
    fn retire(&self, id: ListenerId) {
        for socket in &self.sockets.open[&id].sockets {
            if let Err(error) = socket.retire() {
                let address = socket.endpoint();
                tracing::warn!(%address, %error, "an old socket is still chosen by the kernel");
            }
        }
    }

    async fn close(&mut self, closing: Closing) {
        let Closing {
            id,
            to,
            shared,
            why,
        } = closing;
        if !shared {
            self.retire(id);
            self.empty(id).await;
        }
        let close = || Ask::CloseListener { listener: id, to };
        let mut left = Leases::default();
        match self.shards.ask_all(close).await {
            Ok(answers) => {
                for answer in answers {
                    let Answer::Closed(of_shard) = answer else {
                        panic!("shards let go: {answer:?}");
                    };
                    left.add(of_shard);
                }
            }
            Err(error) => tracing::warn!(%error, "a shard has not said that it has let go"),
        }
        for handle in &self.handles {
            // A name that others share gives nothing out.
            drop(handle.disarm(id).await);
        }
        self.sockets.generations.closed(closing);
        let open = self.sockets.open.remove(&id);
        let address = open.map(|open| open.endpoint().to_string());
        let address = address.unwrap_or_default();
        let (listener, to, why) = (id.0, to.0, why.name());
        if left.is_zero() {
            tracing::info!(listener, address, "transport closed: {why}");
        } else {
            tracing::warn!(
                listener,
                address,
                client_transactions = left.clients,
                server_transactions = left.servers,
                dialogs = left.dialogs,
                go_on_with = to,
                "transport closed: {why}"
            );
        }
        self.publish();
    }

    /// Waits until everything has been read that had been received.
    async fn empty(&self, id: ListenerId) {
        let sockets = &self.sockets.open[&id].sockets;
        let begun = Instant::now();
        loop {
            tokio::time::sleep(GRACE).await;
            if sockets.iter().all(|socket| socket.is_read_empty()) {
                return;
            }
            if begun.elapsed() > EMPTIED_WITHIN {
                let listener = id.0;
                tracing::warn!(listener, "what a socket had received was not read in time");
                return;
            }
        }
    }

    /// The gates as `gates` has them: a listener of the plan, or without one an active listener, has that of the
    /// configuration.
    fn number_gates(&mut self, config: &Config, plan: Option<&Plan>, standing: &[ListenerId]) {
        let named = config.policy.gates.len();
        let active = |id| plan.is_none() && self.sockets.generations.is_active(id);
        let beyond = standing.iter().enumerate().filter(|(_, id)| !active(**id));
        let mut gates: BTreeMap<ListenerId, u16> =
            beyond.map(|(at, id)| (*id, (named + at) as u16)).collect();
        for planned in plan.into_iter().flat_map(|plan| &plan.listeners) {
            gates.insert(planned.id, planned.wanted.gate);
        }
        let generations = &mut self.sockets.generations;
        generations.set_gates(|id| gates.get(&id).copied());
    }

    fn log_swap(&self, plan: &Plan) {
        for planned in &plan.listeners {
            let (listener, generation) = (planned.id.0, plan.generation);
            let address = self.sockets.open[&planned.id].endpoint();
            let (how, old) = match planned.origin {
                Origin::Opened => ("opened", None),
                Origin::HandedOver(old) => ("handed over", Some(old.0)),
                Origin::Replaces(old) => ("replaced", Some(old.0)),
            };
            tracing::info!(listener, %address, generation, how, "transport active");
            if let Some(listener) = old {
                tracing::info!(listener, %address, how, "transport draining");
            }
        }
        let before = plan.generation - 1;
        for view in self.sockets.generations.views() {
            if matches!(view.stage, Stage::Leaving(_)) && view.generation == before {
                let (listener, address) = (view.id.0, view.endpoint);
                tracing::info!(listener, %address, how = "leaving", "transport draining");
            }
        }
    }

    /// What people and metrics see.
    fn publish(&self) {
        let (now, instant) = (clock::now(), Instant::now());
        let rows = self.sockets.generations.views().map(|view| TransportRow {
            listener: view.id,
            endpoint: view.endpoint,
            generation: view.generation,
            stage: view.stage,
            since: instant - now.since(view.since),
            deadline: view.deadline.map(|deadline| instant + deadline.since(now)),
        });
        self.admin.show_transports(TransportsView {
            generation: self.generation(),
            rows: rows.collect(),
            swaps: self.swaps,
            refused: self.refused,
        });
    }
}
