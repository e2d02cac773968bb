//! Feeds that number what they say: shuffled, doubled, begun anew, and over restarts of our own, they end in what they said
//! last.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::hint::HintContent;
use crate::rng::Rng;
use crate::state::{KeptHint, Touched};

const SOURCES: [&str; 2] = ["pbx", "desk"];
const RESOURCES: [&str; 3] = ["1001@example.com", "1002@example.com", "1003@example.com"];

/// What a feed says of a resource; None: it takes back what it said.
type What = Option<usize>;

/// One word on its way.
#[derive(Clone, Debug)]
struct Word {
    source: usize,
    resource: usize,
    order: Order,
    what: What,
}

/// What one feed says before it begins anew, and after that.
fn lives() -> impl Strategy<Value = [Vec<(usize, What)>; 2]> {
    let word = (
        0..RESOURCES.len(),
        proptest::option::weighted(0.7, 0..HintState::ALL.len()),
    );
    let words = proptest::collection::vec(word, 0..8);
    [words.clone(), words]
}

/// A process with what it has written down.
struct Process {
    home: Home,
    hints: BTreeMap<(ResourceKey, Arc<str>), Stored>,
    epochs: BTreeMap<Arc<str>, u64>,
}

struct Stored {
    order: Option<Order>,
    epoch: u64,
    arrival: u64,
    expires_at: Option<Time>,
    content: Option<HintContent>,
}

impl Process {
    fn new() -> Self {
        let mut home = Home::new();
        home.compositor.keep();
        Process {
            home,
            hints: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    fn take(&mut self, word: &Word) {
        let resource: ResourceKey = RESOURCES[word.resource].into();
        let source: Arc<str> = SOURCES[word.source].into();
        let (now, home) = (self.home.now, &mut self.home);
        let order = Some(word.order);
        // Whoever comes too late is told so, and that is all.
        let _late = match word.what {
            Some(state) => {
                let mut update = HintUpdate::new(resource, source, HintState::ALL[state]);
                update.order = order;
                home.apply(update).map(|_| ())
            }
            None => home
                .compositor
                .withdraw(now, &resource, &source, order, &mut home.wheel)
                .map(|_| ()),
        };
        self.write();
    }

    /// A feed has told all it knows in its second life.
    fn end_snapshot(&mut self, source: usize) {
        let (now, home) = (self.home.now, &mut self.home);
        let ended = home
            .compositor
            .end_snapshot(now, &SOURCES[source].into(), 2, &mut home.wheel);
        ended.expect("nobody has begun a third");
        self.home.passes(Duration::from_secs(1));
        self.write();
    }

    fn write(&mut self) {
        let mut touched = Vec::new();
        self.home.compositor.swap_touched(&mut touched);
        for touched in touched {
            match touched {
                Touched::Hint(number) => {
                    let Some(kept) = self.home.compositor.kept_hint(number) else {
                        continue;
                    };
                    let key = (kept.resource.clone(), Arc::clone(kept.source));
                    let stored = Stored {
                        order: kept.order,
                        epoch: kept.epoch,
                        arrival: kept.arrival,
                        expires_at: kept.expires_at,
                        content: kept.content.map(Cow::into_owned),
                    };
                    self.hints.insert(key, stored);
                }
                Touched::HintGone { resource, source } => {
                    self.hints.remove(&(resource, source));
                }
                Touched::Epoch { source, epoch } => {
                    self.epochs.insert(source, epoch);
                }
                Touched::EpochGone { source } => {
                    self.epochs.remove(&source);
                }
                Touched::Publication(_) | Touched::Renewal(_) | Touched::PublicationGone { .. } => {
                    unreachable!("nobody publishes")
                }
            }
        }
    }

    /// The process is killed, and another one begins with what was written.
    fn restart(self) -> Self {
        let now = self.home.now;
        let mut next = Process {
            hints: self.hints,
            epochs: self.epochs,
            ..Process::new()
        };
        let home = &mut next.home;
        home.now = now;
        for ((resource, source), stored) in &next.hints {
            let kept = KeptHint {
                resource,
                source,
                order: stored.order,
                epoch: stored.epoch,
                arrival: stored.arrival,
                expires_at: stored.expires_at,
                content: stored.content.as_ref().map(Cow::Borrowed),
            };
            let restored = home.compositor.restore_hint(now, kept, &mut home.wheel);
            restored.expect("there is room");
        }
        for (source, epoch) in &next.epochs {
            let restored = home
                .compositor
                .restore_epoch(now, source, *epoch, &mut home.wheel);
            restored.expect("there is room");
        }
        next.write();
        next
    }

    /// What is shown of each resource, without the versions and without ended calls, which remember what was.
    fn shown(&self) -> Vec<(Vec<Call>, Presence)> {
        RESOURCES
            .iter()
            .map(|resource| {
                let snapshot = self.home.compositor.snapshot(resource);
                let calls = snapshot.dialogs.content.iter();
                let live = calls.filter(|call| call.is_live()).cloned().collect();
                (live, Presence::clone(&snapshot.presence.content))
            })
            .collect()
    }
}

/// What a feed says in a life, with its numbers.
fn numbered(source: usize, epoch: u64, said: &[(usize, What)]) -> Vec<Word> {
    said.iter()
        .zip(1..)
        .map(|(&(resource, what), seq)| Word {
            source,
            resource,
            order: Order { epoch, seq },
            what,
        })
        .collect()
}

fn shuffle(words: &mut [Word], rng: &mut Rng) {
    for place in (1..words.len()).rev() {
        words.swap(place, rng.below(place as u64 + 1) as usize);
    }
}

proptest! {
    #[test]
    fn feeds_that_are_shuffled_doubled_and_begun_anew_end_in_what_they_said_last(
        feeds in [lives(), lives()],
        seed in any::<[u8; 16]>(),
    ) {
        let mut rng = Rng::new(seed);
        let mut honest = Process::new();
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for (source, [first, second]) in feeds.iter().enumerate() {
            let second = numbered(source, 2, second);
            for word in &second {
                honest.take(word);
            }
            // Some of the first life comes only when the second is over.
            for word in numbered(source, 1, first) {
                let list = if rng.below(2) == 0 { &mut early } else { &mut late };
                list.extend([word.clone(), word]);
            }
            early.extend(second.iter().cloned());
            late.extend(second);
        }
        shuffle(&mut early, &mut rng);
        shuffle(&mut late, &mut rng);
        let mut process = Process::new();
        for (number, words) in [early, late].iter().enumerate() {
            for word in words {
                process.take(word);
                if rng.below(6) == 0 {
                    process = process.restart();
                }
            }
            // Each feed says so when all of its words have been heard.
            if number == 0 {
                for source in 0..SOURCES.len() {
                    process.end_snapshot(source);
                }
            }
        }
        prop_assert_eq!(process.shown(), honest.shown());
    }
}
