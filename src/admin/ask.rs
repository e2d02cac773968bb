//! The control thread's end of the mail: a question out, its answer back, never waited for without end.

use core::fmt;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::admin::changes::Changes;
use crate::admin::epochs::Epochs;
use crate::config::limits;
use crate::partition::{Owners, Secrets, ShardId};
use crate::shard::control::{Answer, Ask, HintChange, HintOutcome, Reply, Request};
use crate::shard::mail::Mail;

/// A shard answers within a turn; one that takes this long is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changes of one request: a shard takes them in one step, and phones wait for so long.
const CHANGES_PER_REQUEST: usize = 256;

/// Puts mail for one shard on its way; gives it back where there is no room.
pub type Post = Box<dyn Fn(ShardId, Mail) -> Result<(), Mail> + Send + Sync>;

/// All shards, as the control thread sees them. Clones are the same.
#[derive(Clone)]
pub struct Shards(Arc<Inner>);

struct Inner {
    owners: Owners,
    secrets: Secrets,
    post: Post,
    open: Mutex<Open>,
    changes: Arc<Changes>,
    epochs: Epochs,
}

#[derive(Default)]
struct Open {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskError {
    /// Too many questions are open already.
    Busy,
    /// The shard's mail box is full.
    Full(ShardId),
    /// The shard did not answer in time.
    Silent(ShardId),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Busy => f.write_str("too many questions are open; try again"),
            AskError::Full(shard) => write!(f, "shard {} takes no more mail now", shard.0),
            AskError::Silent(shard) => write!(f, "shard {} did not answer in time", shard.0),
        }
    }
}

/// A question that is on its way. Dropping it gives its answer up.
struct Question {
    shards: Shards,
    shard: ShardId,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Question {
    async fn answer(mut self, patience: Duration) -> Result<Answer, AskError> {
        match tokio::time::timeout(patience, &mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(AskError::Silent(self.shard)),
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.shards.open().waiting.remove(&self.id);
    }
}

impl Shards {
    /// `post` carries the mail.
    pub fn new(owners: Owners, secrets: Secrets, post: Post) -> Self {
        Shards(Arc::new(Inner {
            owners,
            secrets,
            post,
            open: Mutex::default(),
            changes: Arc::default(),
            epochs: Epochs::default(),
        }))
    }

    /// How many there are.
    pub fn count(&self) -> u16 {
        self.0.owners.shards()
    }

    /// Every shard, in order.
    pub fn ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.count()).map(ShardId)
    }

    /// Those who listen for changes of hints.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.0.changes
    }

    /// The shard where the state of a resource is composed.
    pub fn home(&self, resource: &str) -> ShardId {
        self.0.owners.of(self.0.secrets.resource(resource))
    }

    /// Mail from a shard. An answer that nobody waits for is forgotten.
    pub fn deliver(&self, mail: Mail) {
        match mail {
            Mail::Reply(Reply { id, answer, .. }) => {
                let waiting = self.open().waiting.remove(&id);
                if let Some(waiting) = waiting {
                    let _ = waiting.send(answer);
                }
            }
            Mail::Changed(changed) => self.0.changes.tell(&changed),
            Mail::Watch { .. }
            | Mail::Unwatch { .. }
            | Mail::Hint { .. }
            | Mail::Written { .. }
            | Mail::Store(_)
            | Mail::Connection { .. }
            | Mail::Edge(_)
            | Mail::Resolve(_)
            | Mail::Resolved(_)
            | Mail::Request(_) => {
                tracing::warn!(?mail, "mail that is not for the control thread");
            }
        }
    }

    /// One question to one shard.
    pub async fn ask(&self, shard: ShardId, ask: Ask) -> Result<Answer, AskError> {
        self.ask_within(shard, ask, PATIENCE).await
    }

    /// One question to one shard that may take its time.
    pub async fn ask_within(
        &self,
        shard: ShardId,
        ask: Ask,
        patience: Duration,
    ) -> Result<Answer, AskError> {
        self.send(shard, ask)?.answer(patience).await
    }

    /// The same question to every shard at once; the answers in the order of the shards.
    pub async fn ask_all(&self, ask: impl Fn() -> Ask) -> Result<Vec<Answer>, AskError> {
        let questions = self.ids().map(|shard| (shard, ask())).collect();
        self.ask_each(questions).await.into_iter().collect()
    }

    /// Different questions; all are on their way before the first answer is waited for.
    /// The answers in the order of the questions.
    pub async fn ask_each(&self, questions: Vec<(ShardId, Ask)>) -> Vec<Result<Answer, AskError>> {
        let sent: Vec<_> = questions
            .into_iter()
            .map(|(shard, ask)| self.send(shard, ask))
            .collect();
        let mut answers = Vec::with_capacity(sent.len());
        for question in sent {
            answers.push(match question {
                Ok(question) => question.answer(PATIENCE).await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// Sends at once: questions reach a shard in the order of these calls.
    fn send(&self, shard: ShardId, ask: Ask) -> Result<Question, AskError> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut open = self.open();
            if open.waiting.len() >= limits::CONTROL_REQUESTS_OPEN {
                return Err(AskError::Busy);
            }
            open.last += 1;
            let id = open.last;
            open.waiting.insert(id, sender);
            id
        };
        let question = Question {
            shards: self.clone(),
            shard,
            id,
            answer,
        };
        match (self.0.post)(shard, Mail::Request(Request { id, ask })) {
            Ok(()) => Ok(question),
            Err(_) => Err(AskError::Full(shard)),
        }
    }

    /// Changes of hints, each to its home; the outcomes in the order of the changes.
    pub async fn change_hints(
        &self,
        changes: Vec<HintChange>,
    ) -> Vec<Result<HintOutcome, AskError>> {
        for (source, epoch) in self.0.epochs.new_in(&changes) {
            // Whoever could not be told learns it from a change, or when this is tried again.
            let _ = self.begin_epoch(source, epoch).await;
        }
        let count = changes.len();
        let mut by_shard: Vec<Vec<(Vec<usize>, Vec<HintChange>)>> = Vec::new();
        by_shard.resize_with(usize::from(self.count()), Vec::new);
        for (place, change) in changes.into_iter().enumerate() {
            let requests = &mut by_shard[usize::from(self.home(change.resource()).0)];
            match requests.last_mut() {
                Some((places, list)) if list.len() < CHANGES_PER_REQUEST => {
                    places.push(place);
                    list.push(change);
                }
                Some(_) | None => requests.push((vec![place], vec![change])),
            }
        }
        let mut asked = Vec::new();
        let mut places_asked = Vec::new();
        let mut questions = Vec::new();
        for (shard, requests) in self.ids().zip(by_shard) {
            for (places, list) in requests {
                asked.push(shard);
                places_asked.push(places);
                questions.push((shard, Ask::ChangeHints(list)));
            }
        }
        let answers = self.ask_each(questions).await;

        let mut outcomes = vec![Err(AskError::Busy); count];
        for ((places, shard), answer) in places_asked.into_iter().zip(asked).zip(answers) {
            let list = match answer {
                Ok(Answer::HintsChanged(list)) if list.len() == places.len() => Ok(list),
                Ok(_) => Err(AskError::Silent(shard)),
                Err(error) => Err(error),
            };
            for (index, place) in places.into_iter().enumerate() {
                outcomes[place] = list
                    .as_ref()
                    .map(|list| list[index].clone())
                    .map_err(|e| *e);
            }
        }
        outcomes
    }

    /// Tells every shard that a source begins anew.
    pub async fn begin_epoch(&self, source: Arc<str>, epoch: u64) -> Result<HintOutcome, AskError> {
        let ask = || Ask::BeginEpoch {
            source: Arc::clone(&source),
            epoch,
        };
        let outcome = self.outcome_of_all(ask).await?;
        if matches!(outcome, HintOutcome::Accepted { .. }) {
            self.0.epochs.told(source, epoch);
        }
        Ok(outcome)
    }

    /// Tells every shard that a source has told all it knows.
    pub async fn end_snapshot(
        &self,
        source: Arc<str>,
        epoch: u64,
    ) -> Result<HintOutcome, AskError> {
        let ask = || Ask::EndSnapshot {
            source: Arc::clone(&source),
            epoch,
        };
        self.outcome_of_all(ask).await
    }

    /// The first outcome that is a refusal, else that of the last shard.
    async fn outcome_of_all(&self, ask: impl Fn() -> Ask) -> Result<HintOutcome, AskError> {
        let mut last = HintOutcome::Absent;
        for (shard, answer) in self.ids().zip(self.ask_all(ask).await?) {
            last = match answer {
                Answer::HintsChanged(mut outcomes) if outcomes.len() == 1 => outcomes.remove(0),
                _ => return Err(AskError::Silent(shard)),
            };
            match last {
                HintOutcome::Accepted { .. } | HintOutcome::Absent => {}
                HintOutcome::Stale { .. } | HintOutcome::Refused { .. } => break,
            }
        }
        Ok(last)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::{HintState, HintUpdate};

    /// Shards that answer at once through `answer`, or not at all where it says nothing.
    fn shards(
        count: u16,
        answer: impl Fn(ShardId, Ask) -> Option<Answer> + Send + Sync + 'static,
    ) -> Shards {
        let (sender, mut mail) = tokio::sync::mpsc::unbounded_channel();
        let shards = Shards::new(
            Owners::new(count),
            Secrets::new([1; 32]),
            Box::new(move |shard, mail| {
                sender.send((shard, mail)).expect("the fake shards live");
                Ok(())
            }),
        );
        let delivered = shards.clone();
        tokio::spawn(async move {
            while let Some((shard, mail)) = mail.recv().await {
                let Mail::Request(Request { id, ask }) = mail else {
                    panic!("only requests are sent");
                };
                if let Some(answer) = answer(shard, ask) {
                    delivered.deliver(Mail::Reply(Reply { id, shard, answer }));
                }
            }
        });
        shards
    }

    fn set(number: usize) -> HintChange {
        let resource = format!("{number}@d").into();
        HintChange::Set(HintUpdate::new(resource, "s".into(), HintState::Busy))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn outcomes_come_in_the_order_of_the_changes_whichever_shard_made_them() {
        // Says of each change whether its number is even.
        let shards = shards(3, |_, ask| {
            let Ask::ChangeHints(changes) = ask else {
                panic!("only changes are asked for");
            };
            assert!(changes.len() <= CHANGES_PER_REQUEST);
            let even = |change: &HintChange| {
                let (number, _) = change.resource().split_once('@').expect("a user");
                let number: usize = number.parse().expect("a number");
                HintOutcome::Accepted {
                    changed: number.is_multiple_of(2),
                }
            };
            Some(Answer::HintsChanged(changes.iter().map(even).collect()))
        });
        let homes: std::collections::BTreeSet<u16> = (0..50)
            .map(|number| shards.home(&format!("{number}@d")).0)
            .collect();
        assert_eq!(homes.len(), 3, "the changes go to every shard");
        let outcomes = shards.change_hints((0..2_000).map(set).collect()).await;
        assert_eq!(outcomes.len(), 2_000);
        for (number, outcome) in outcomes.into_iter().enumerate() {
            let changed = number.is_multiple_of(2);
            assert_eq!(outcome, Ok(HintOutcome::Accepted { changed }), "{number}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_silent_shard_costs_only_its_own_changes_and_leaves_nothing_behind() {
        let shards = shards(2, |shard, _| (shard.0 == 0).then_some(Answer::Done));
        let patience = Duration::from_millis(10);
        let answer = shards
            .ask_within(ShardId(0), Ask::ReadFigures, patience)
            .await;
        assert!(matches!(answer, Ok(Answer::Done)));
        let answer = shards
            .ask_within(ShardId(1), Ask::ReadFigures, patience)
            .await;
        assert_eq!(answer.err(), Some(AskError::Silent(ShardId(1))));
        assert!(shards.open().waiting.is_empty());
        // The answer that comes too late finds nobody, and does no harm.
        shards.deliver(Mail::Reply(Reply {
            id: 2,
            shard: ShardId(1),
            answer: Answer::Done,
        }));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_full_mailbox_and_too_many_questions_are_told_apart() {
        let full = Shards::new(
            Owners::new(1),
            Secrets::new([1; 32]),
            Box::new(|_, mail| Err(mail)),
        );
        let answer = full.ask(ShardId(0), Ask::ReadFigures).await;
        assert_eq!(answer.err(), Some(AskError::Full(ShardId(0))));
        assert!(full.open().waiting.is_empty());

        let silent = shards(1, |_, _| None);
        let questions: Vec<Question> = (0..limits::CONTROL_REQUESTS_OPEN)
            .map(|_| {
                silent
                    .send(ShardId(0), Ask::ReadFigures)
                    .expect("there is room")
            })
            .collect();
        let answer = silent.ask(ShardId(0), Ask::ReadFigures).await;
        assert_eq!(answer.err(), Some(AskError::Busy));
        drop(questions);
        assert!(silent.send(ShardId(0), Ask::ReadFigures).is_ok());
    }
}
