//! How far a shard is behind with its work, and what it takes on while it is.
//!
//! Nothing is guessed: what waits is counted (NOTIFYs that phones have asked for, answers that wait for their records, send
//! slots, transactions), and how long it has been waiting is measured (what came in, timers). The most pressing of these
//! is the load. A count presses at once; a delay only when it has lasted, as one long turn is no overload.

use core::time::Duration;

use crate::config::limits;
use crate::time::Time;

/// How far behind: what is refused at each is said by [`Class::is_refused_at`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Calm,
    Busy,
    Strained,
    Full,
}

/// What a request asks a shard to take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing new: a refresh, an end, whatever is in a dialog, a publication that goes on.
    Standing,
    /// A new subscription or publication.
    New,
    /// The same from a source that has to prove who it is, and does not try.
    Unproven,
    /// A fetch: it asks again when it likes.
    Fetch,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// What has come in is read late.
    Input,
    /// Timers fire late.
    Timers,
    /// NOTIFYs that phones have asked for.
    Notifies,
    /// Answers that wait for their records to be kept.
    Answers,
    /// Send slots, and transactions of NOTIFYs that are not answered yet.
    Slots,
}

/// What waits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub notifies: usize,
    pub answers: usize,
    pub slots: usize,
    pub transactions: usize,
}

/// How much of each may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub notifies: usize,
    pub answers: usize,
    pub slots: usize,
    pub transactions: usize,
    /// How late input and timers may be.
    pub delay: Duration,
}

impl Default for Capacity {
    fn default() -> Self {
        Capacity {
            notifies: limits::NOTIFIES_WAITING,
            answers: limits::ANSWERS_HELD,
            slots: limits::SEND_SLOTS_SMALL,
            transactions: limits::CLIENT_TRANSACTIONS_PER_SHARD,
            delay: Duration::from_millis(limits::DELAY_MILLIS_MAX),
        }
    }
}

/// In per cent of what may wait: from here on the level is at least this.
const BUSY: usize = 50;
const STRAINED: usize = 75;
const FULL: usize = 90;
/// A level is left only when the load is so much below its mark,
const SLACK: usize = 15;
/// and has been for so long.
const REST: Duration = Duration::from_millis(250);
/// A delay counts when there was none shorter for so long.
const LASTING: Duration = Duration::from_millis(100);

impl Level {
    const fn mark(self) -> usize {
        match self {
            Level::Calm => 0,
            Level::Busy => BUSY,
            Level::Strained => STRAINED,
            Level::Full => FULL,
        }
    }

    const fn of(load: usize) -> Level {
        match load {
            FULL.. => Level::Full,
            STRAINED.. => Level::Strained,
            BUSY.. => Level::Busy,
            _ => Level::Calm,
        }
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::Busy => "busy",
            Level::Strained => "strained",
            Level::Full => "full",
        }
    }
}

impl Class {
    /// What is there is kept first, what comes with a proof goes before what does not, and who only wants to look
    /// comes last.
    pub const fn is_refused_at(self, level: Level) -> bool {
        let first = match self {
            Class::Standing => return false,
            Class::New => Level::Full,
            Class::Unproven => Level::Strained,
            Class::Fetch => Level::Busy,
        };
        level as u8 >= first as u8
    }
}

impl Measure {
    /// All of them, in the order in which they are named when several press alike.
    pub const ALL: [Measure; 5] = [
        Measure::Input,
        Measure::Timers,
        Measure::Notifies,
        Measure::Answers,
        Measure::Slots,
    ];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Measure::Input => "input is read late",
            Measure::Timers => "timers fire late",
            Measure::Notifies => "NOTIFYs wait",
            Measure::Answers => "answers wait for the disk",
            Measure::Slots => "NOTIFYs are not answered",
        }
    }
}

/// A delay, and the shortest one of late.
#[derive(Clone, Copy, Debug, Default)]
struct Delay {
    /// The shortest since `since`.
    shortest: Duration,
    since: Time,
    /// The shortest of the time before that.
    before: Duration,
}

impl Delay {
    fn see(&mut self, now: Time, delay: Duration) {
        if now.since(self.since) >= LASTING {
            // After a rest without a word nothing is known to have lasted.
            let is_next = now.since(self.since) < 2 * LASTING;
            self.before = if is_next {
                self.shortest
            } else {
                Duration::ZERO
            };
            self.since = now;
            self.shortest = delay;
        }
        self.shortest = self.shortest.min(delay);
    }

    fn lasting(&self) -> Duration {
        self.before.min(self.shortest)
    }
}

/// The load of one shard.
#[derive(Debug)]
pub struct Admission {
    capacity: Capacity,
    level: Level,
    /// The measure that pressed most when it was last weighed.
    because: Measure,
    load: [usize; Measure::ALL.len()],
    input: Delay,
    timers: Delay,
    /// Since when the load has been low enough for a lower level.
    low_since: Option<Time>,
    /// The highest level since somebody asked, and what brought it about.
    peak: (Level, Measure),
}

impl Admission {
    /// Nothing waits yet.
    pub fn new(capacity: Capacity) -> Self {
        Admission {
            capacity,
            level: Level::Calm,
            because: Measure::Input,
            load: [0; Measure::ALL.len()],
            input: Delay::default(),
            timers: Delay::default(),
            low_since: None,
            peak: (Level::Calm, Measure::Input),
        }
    }

    /// What comes in now has waited for at most so long.
    pub fn waited(&mut self, now: Time, delay: Duration) {
        self.input.see(now, delay);
    }

    /// The first of the timers that fire now is so late.
    pub fn late(&mut self, now: Time, delay: Duration) {
        self.timers.see(now, delay);
    }

    /// Looks at what waits.
    pub fn weigh(&mut self, now: Time, work: Work) {
        let capacity = &self.capacity;
        let delay = |delay: Duration| {
            share(
                delay.as_micros() as usize,
                capacity.delay.as_micros() as usize,
            )
        };
        self.load = [
            delay(self.input.lasting()),
            delay(self.timers.lasting()),
            share(work.notifies, capacity.notifies),
            share(work.answers, capacity.answers),
            share(work.slots, capacity.slots).max(share(work.transactions, capacity.transactions)),
        ];
        let mut most = 0;
        for (measure, load) in Measure::ALL.into_iter().zip(self.load) {
            if load > most {
                most = load;
                self.because = measure;
            }
        }
        self.settle(now, most);
        if self.level > self.peak.0 {
            self.peak = (self.level, self.because);
        }
    }

    fn settle(&mut self, now: Time, load: usize) {
        let risen = Level::of(load);
        if risen >= self.level {
            self.level = risen;
        }
        if self.level == Level::Calm || load + SLACK > self.level.mark() {
            self.low_since = None;
            return;
        }
        let since = *self.low_since.get_or_insert(now);
        if now.since(since) >= REST {
            self.low_since = None;
            // No lower than what presses now, less its own slack.
            self.level = Level::of(load + SLACK).min(self.level);
        }
    }

    /// How far behind the shard is.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What presses most.
    pub fn because(&self) -> Measure {
        self.because
    }

    /// How much of what may wait does, in per cent; more than a hundred where a delay is longer.
    pub fn load(&self, measure: Measure) -> usize {
        self.load[measure as usize]
    }

    /// The highest level since this was last asked, and why.
    pub fn take_peak(&mut self) -> (Level, Measure) {
        core::mem::replace(&mut self.peak, (self.level, self.because))
    }
}

fn share(part: usize, whole: usize) -> usize {
    part * 100 / whole.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(10_000 + millis)
    }

    fn notifies(notifies: usize) -> Work {
        Work {
            notifies,
            ..Work::default()
        }
    }

    fn small() -> Admission {
        Admission::new(Capacity {
            notifies: 100,
            ..Capacity::default()
        })
    }

    #[test]
    fn what_waits_raises_the_level_at_once_and_lowers_it_after_a_rest() {
        let mut admission = small();
        let mut level_with = |millis, count| {
            admission.weigh(at(millis), notifies(count));
            admission.level()
        };
        assert_eq!(level_with(0, 49), Level::Calm);
        assert_eq!(level_with(0, 50), Level::Busy);
        assert_eq!(level_with(0, 95), Level::Full);
        // Just below the mark is no rest, and neither is a moment.
        assert_eq!(level_with(10, 80), Level::Full);
        assert_eq!(level_with(400, 80), Level::Full);
        assert_eq!(level_with(401, 70), Level::Full);
        assert_eq!(level_with(650, 70), Level::Full);
        assert_eq!(level_with(651, 70), Level::Strained);
        assert_eq!(level_with(652, 0), Level::Strained);
        assert_eq!(level_with(903, 0), Level::Calm);
    }

    #[test]
    fn a_load_that_rises_while_it_rests_begins_its_rest_anew() {
        let mut admission = small();
        for (millis, count) in [(0, 95), (1, 0), (200, 95), (201, 0), (300, 0), (450, 0)] {
            admission.weigh(at(millis), notifies(count));
            assert_eq!(admission.level(), Level::Full, "at {millis}");
        }
        admission.weigh(at(451), notifies(0));
        assert_eq!(admission.level(), Level::Calm);
        assert_eq!(admission.take_peak(), (Level::Full, Measure::Notifies));
        assert_eq!(admission.take_peak().0, Level::Calm);
    }

    #[test]
    fn one_long_turn_is_no_overload_and_many_are() {
        let mut admission = Admission::new(Capacity::default());
        let delay = Capacity::default().delay;
        let mut turn = |millis, delay| {
            admission.waited(at(millis), delay);
            admission.weigh(at(millis), Work::default());
            (admission.level(), admission.because())
        };
        assert_eq!(turn(0, 2 * delay).0, Level::Calm);
        assert_eq!(turn(10, Duration::ZERO).0, Level::Calm);
        for millis in (20..190).step_by(10) {
            assert_eq!(turn(millis, delay).0, Level::Calm, "not for long enough");
        }
        let mut last = Level::Calm;
        for millis in (190..400).step_by(10) {
            last = turn(millis, delay).0;
        }
        assert_eq!(last, Level::Full);
        // One turn in which nothing had waited: what waits now has not waited for long.
        assert_eq!(turn(400, Duration::ZERO).0, Level::Full, "no rest yet");
        for millis in (410..650).step_by(10) {
            turn(millis, Duration::from_millis(1));
        }
        assert_eq!(turn(650, Duration::ZERO).0, Level::Calm);
    }

    #[test]
    fn late_timers_press_too() {
        let mut admission = Admission::new(Capacity::default());
        for millis in (0..400).step_by(20) {
            admission.late(at(millis), Capacity::default().delay);
            admission.weigh(at(millis), Work::default());
        }
        assert_eq!(
            (admission.level(), admission.because()),
            (Level::Full, Measure::Timers)
        );
    }

    #[test]
    fn what_is_there_is_kept_and_what_only_looks_is_refused_first() {
        let refused = |level| {
            [Class::Standing, Class::New, Class::Unproven, Class::Fetch]
                .map(|class| class.is_refused_at(level))
        };
        assert_eq!(refused(Level::Calm), [false; 4]);
        assert_eq!(refused(Level::Busy), [false, false, false, true]);
        assert_eq!(refused(Level::Strained), [false, false, true, true]);
        assert_eq!(refused(Level::Full), [false, true, true, true]);
    }
}
