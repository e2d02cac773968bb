//! The deadlines of a shard: a hierarchical timer wheel, exact to its tick of one millisecond.
//!
//! Six levels of 64 slots. A timer lies on the level of the highest bit in which its tick differs from the wheel's
//! own, in the slot that its tick has there. It follows that everything on a level is due before anything on the
//! levels above, that all timers of one tick are always in one list, in the order in which they were set, and that
//! no list has to be looked at before its slot begins. When it does, its timers move to lower levels.
//! What differs above the sixth level (2 years) waits in a list of its own.
//!
//! The wheel reads no clock, calls nobody back and never fires early: a deadline is rounded up to its tick.

mod nodes;

use core::num::NonZeroU32;

use nodes::{Node, Nodes};

use crate::config::limits::TIMERS_PER_SHARD;
use crate::time::Time;

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// The list of what lies beyond the highest level.
const FAR: usize = LEVELS * SLOTS;
const LISTS: usize = FAR + 1;
const WHEEL_BITS: u32 = LEVELS as u32 * SLOT_BITS;
const INDEX_BITS: u32 = 24;
/// In `previous` and `next`: no node but the end of a list, whose number stands in the other bits.
const END: u32 = 1 << 31;

/// What kind of record a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    ClientTransaction,
    ServerTransaction,
    Subscription,
    Publication,
    Hint,
    /// A copy of a hint that waits for its home shard.
    Copy,
    Connection,
    /// A phone some of whose subscriptions wait for their turn to be told a change.
    Phone,
    /// What is known of a host name.
    Name,
    Shard,
}

/// What comes back when a timer is due: the record it was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    pub owner: Owner,
    pub index: u32,
}

/// Names a timer that has neither fired nor been cancelled.
///
/// After that the name is stale. A stale name is recognised, and harmless, unless the same place was taken again
/// by a timer that was set a multiple of 255 timers later: a safety net for mistakes, not a thing to build on.
/// So the record that holds it forgets it when the timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(NonZeroU32);

const _: () = assert!(TIMERS_PER_SHARD <= 1 << INDEX_BITS);
const _: () = assert!(size_of::<Option<TimerId>>() == 4);

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

/// Timers of one shard.
#[derive(Debug)]
pub struct Wheel {
    /// How far the wheel has turned: nothing that is still set lies before it.
    elapsed: u64,
    nodes: Nodes,
    lists: Box<[List; LISTS]>,
    /// One bit for each slot with timers in it.
    occupied: [u64; LEVELS],
    check: u8,
}

impl Wheel {
    /// A wheel without timers that stands at `now`.
    pub fn new(now: Time) -> Self {
        Wheel {
            elapsed: now.millis(),
            nodes: Nodes::new(),
            lists: Box::new(core::array::from_fn(|list| List {
                first: END | list as u32,
                last: END | list as u32,
            })),
            occupied: [0; LEVELS],
            check: 0,
        }
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 0
    }

    /// Sets a timer: `token` comes back from the first `pop` at or after `when`, rounded up to the millisecond.
    /// A time that has passed is due at once.
    pub fn insert(&mut self, when: Time, token: Token) -> TimerId {
        self.check = if self.check == u8::MAX {
            1
        } else {
            self.check + 1
        };
        let tick = tick_of(when).max(self.elapsed);
        let node = Node {
            previous: END,
            next: END,
            tick,
            index: token.index,
            owner: token.owner,
            check: self.check,
        };
        assert!(
            self.nodes.len() < TIMERS_PER_SHARD,
            "each table that sets timers has a limit of its own"
        );
        let key = self.nodes.insert(node);
        self.link(key, tick);
        name(key, self.check)
    }

    /// Takes a timer back. False: it had fired or been cancelled before, and nothing has changed.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        let Some(key) = self.key_of(timer) else {
            return false;
        };
        self.unlink(key);
        self.nodes.remove(key);
        true
    }

    /// Moves a timer that is set to another time; its name stays. False: it had fired or been cancelled before.
    pub fn reschedule(&mut self, timer: TimerId, when: Time) -> bool {
        let Some(key) = self.key_of(timer) else {
            return false;
        };
        self.unlink(key);
        let tick = tick_of(when).max(self.elapsed);
        self.nodes[key].tick = tick;
        self.link(key, tick);
        true
    }

    /// The tick for which a timer is set, if it is.
    pub fn when(&self, timer: TimerId) -> Option<Time> {
        let key = self.key_of(timer)?;
        Some(Time::from_millis(self.nodes[key].tick))
    }

    /// The next timer that is due at `now`: in the order of their ticks, and within a tick in that of being set.
    /// A timer that is set for `now` or earlier between two calls is due in the second one.
    pub fn pop(&mut self, now: Time) -> Option<Token> {
        let now = now.millis();
        loop {
            let Some((list, start)) = self.first_occupied().filter(|(_, start)| *start <= now)
            else {
                self.elapsed = self.elapsed.max(now);
                return None;
            };
            self.elapsed = start;
            if list < SLOTS {
                let key = self.lists[list].first;
                let node = &self.nodes[key];
                let token = Token {
                    owner: node.owner,
                    index: node.index,
                };
                self.unlink(key);
                self.nodes.remove(key);
                return Some(token);
            }
            self.cascade(list);
        }
    }

    /// How far it has turned: once `pop` has given a timer, to when that was due.
    pub fn reached(&self) -> Time {
        Time::from_millis(self.elapsed)
    }

    /// When to call `pop` next, at the latest: exact for what is due within the current 64 ms, and never later than
    /// what is due. A timer that is further away may wake its shard once for each level on its way down.
    pub fn next_deadline(&self) -> Option<Time> {
        let (_, start) = self.first_occupied()?;
        Some(Time::from_millis(start))
    }

    /// The list that is due first, and the tick at which its slot begins.
    fn first_occupied(&self) -> Option<(usize, u64)> {
        for (level, occupied) in self.occupied.iter().enumerate() {
            if *occupied != 0 {
                let slot = occupied.trailing_zeros();
                let shift = level as u32 * SLOT_BITS;
                // Above the level every timer on it has the wheel's own bits.
                let above = self.elapsed >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
                return Some((
                    level * SLOTS + slot as usize,
                    above | u64::from(slot) << shift,
                ));
            }
        }
        if self.lists[FAR].first & END != 0 {
            return None;
        }
        Some((FAR, ((self.elapsed >> WHEEL_BITS) + 1) << WHEEL_BITS))
    }

    /// Moves the timers of a list to where they belong now.
    fn cascade(&mut self, list: usize) {
        let mut key = self.lists[list].first;
        self.clear(list);
        while key & END == 0 {
            let node = &self.nodes[key];
            let (next, tick) = (node.next, node.tick);
            self.link(key, tick);
            key = next;
        }
    }

    fn clear(&mut self, list: usize) {
        let end = END | list as u32;
        self.lists[list] = List {
            first: end,
            last: end,
        };
        if list != FAR {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    /// Appends a node to the list of its tick.
    fn link(&mut self, key: u32, tick: u64) {
        let list = self.list_of(tick);
        let end = END | list as u32;
        let last = core::mem::replace(&mut self.lists[list].last, key);
        let node = &mut self.nodes[key];
        node.previous = last;
        node.next = end;
        if last & END == 0 {
            self.nodes[last].next = key;
        } else {
            self.lists[list].first = key;
            if list != FAR {
                self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
            }
        }
    }

    fn unlink(&mut self, key: u32) {
        let node = &self.nodes[key];
        let (previous, next) = (node.previous, node.next);
        if previous & END != 0 && next & END != 0 {
            self.clear((next & !END) as usize);
            return;
        }
        if previous & END == 0 {
            self.nodes[previous].next = next;
        } else {
            self.lists[(previous & !END) as usize].first = next;
        }
        if next & END == 0 {
            self.nodes[next].previous = previous;
        } else {
            self.lists[(next & !END) as usize].last = previous;
        }
    }

    /// Where a tick that is not before `elapsed` belongs.
    fn list_of(&self, tick: u64) -> usize {
        let differing = self.elapsed ^ tick;
        if differing >> WHEEL_BITS != 0 {
            return FAR;
        }
        // With the lowest slot's bits set, the level of equal ticks is 0 too.
        let highest = (differing | (SLOTS as u64 - 1)).ilog2();
        let level = highest / SLOT_BITS;
        let slot = (tick >> (level * SLOT_BITS)) as usize % SLOTS;
        level as usize * SLOTS + slot
    }

    fn key_of(&self, timer: TimerId) -> Option<u32> {
        let name = timer.0.get();
        let key = name & ((1 << INDEX_BITS) - 1);
        let node = self.nodes.get(key)?;
        // A vacant node has the check 0, which no name has.
        (u32::from(node.check) == name >> INDEX_BITS).then_some(key)
    }
}

fn name(key: u32, check: u8) -> TimerId {
    TimerId(NonZeroU32::new(u32::from(check) << INDEX_BITS | key).expect("a check is never 0"))
}

/// The first tick that is not before `when`.
fn tick_of(when: Time) -> u64 {
    when.nanos().div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use core::time::Duration;
    use std::collections::BTreeMap;

    fn token(index: u32) -> Token {
        Token {
            owner: Owner::Subscription,
            index,
        }
    }

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_timer_fires_at_its_tick_and_not_before() {
        for delay in [
            1,
            2,
            63,
            64,
            65,
            4095,
            4096,
            262_143,
            262_144,
            3_600_000,
            86_400_000 * 30,
        ] {
            let mut wheel = Wheel::new(at(1_000_003));
            wheel.insert(at(1_000_003 + delay), token(1));
            assert_eq!(wheel.pop(at(1_000_003 + delay - 1)), None, "delay {delay}");
            assert_eq!(
                wheel.pop(at(1_000_003 + delay)),
                Some(token(1)),
                "delay {delay}"
            );
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn a_deadline_within_a_millisecond_is_rounded_up() {
        let mut wheel = Wheel::new(at(5));
        wheel.insert(at(7) + Duration::from_nanos(1), token(1));
        assert_eq!(wheel.pop(at(7) + Duration::from_nanos(999_999)), None);
        assert_eq!(wheel.next_deadline(), Some(at(8)));
        assert_eq!(wheel.pop(at(8)), Some(token(1)));
    }

    #[test]
    fn timers_of_one_tick_fire_in_the_order_in_which_they_were_set() {
        let mut wheel = Wheel::new(at(0));
        wheel.insert(at(5000), token(0));
        wheel.insert(at(4999), token(9));
        assert_eq!(wheel.pop(at(4990)), None);
        wheel.insert(at(5000), token(1));
        wheel.insert(at(5000), token(2));
        for expected in [9, 0, 1, 2] {
            assert_eq!(wheel.pop(at(6000)), Some(token(expected)));
        }
    }

    #[test]
    fn a_time_that_has_passed_is_due_at_once() {
        let mut wheel = Wheel::new(at(100));
        wheel.insert(at(3), token(1));
        assert_eq!(wheel.next_deadline(), Some(at(100)));
        assert_eq!(wheel.pop(at(100)), Some(token(1)));
    }

    #[test]
    fn a_stale_name_cancels_nothing() {
        let mut wheel = Wheel::new(at(0));
        let first = wheel.insert(at(10), token(1));
        assert!(wheel.cancel(first));
        assert!(!wheel.cancel(first));
        let second = wheel.insert(at(10), token(2));
        assert!(!wheel.cancel(first));
        assert!(!wheel.reschedule(first, at(20)));
        assert_eq!(wheel.pop(at(10)), Some(token(2)));
        assert!(!wheel.cancel(second));
    }

    #[test]
    fn a_timer_beyond_the_highest_level_fires_exactly_too() {
        let range = 1_u64 << WHEEL_BITS;
        for (start, when) in [
            (5, range * 3 + 77),
            (range - 10, range + 10),
            (range - 1, range),
        ] {
            let mut wheel = Wheel::new(at(start));
            wheel.insert(at(when), token(1));
            assert_eq!(wheel.pop(at(when - 1)), None);
            assert_eq!(wheel.pop(at(when)), Some(token(1)));
        }
    }

    #[test]
    fn a_lone_timer_wakes_its_shard_at_most_once_per_level() {
        let mut rng = Rng::new([8; 16]);
        for _ in 0..1000 {
            let when = 1 + of_any_size(&mut rng, 36);
            let mut wheel = Wheel::new(at(0));
            wheel.insert(at(when), token(1));
            let mut wakes = 0;
            loop {
                let deadline = wheel.next_deadline().expect("it has not fired");
                assert!(deadline <= at(when));
                wakes += 1;
                if wheel.pop(deadline).is_some() {
                    assert_eq!(deadline, at(when));
                    break;
                }
            }
            assert!(wakes <= LEVELS, "{wakes} wakes for {when}");
        }
    }

    /// Small numbers are as likely as large ones.
    fn of_any_size(rng: &mut Rng, bits_max: u64) -> u64 {
        let bits = 1 + rng.below(bits_max);
        rng.below(1 << bits)
    }

    /// The model: timers ordered by tick, then by when they were set.
    #[test]
    fn random_operations_agree_with_an_ordered_map() {
        for seed in 0..40_u8 {
            println!("seed {seed}");
            run_against_model(seed);
        }
    }

    fn run_against_model(seed: u8) {
        let mut rng = Rng::new([seed; 16]);
        let mut now = rng.below(1 << 40) * 1_000_000;
        let mut wheel = Wheel::new(Time::from_nanos(now));
        let mut model: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        let mut set: Vec<(TimerId, (u64, u64), u32)> = Vec::new();
        for step in 0..3000_u32 {
            let when = Time::from_nanos(now + of_any_size(&mut rng, 57));
            let key = (tick_of(when), u64::from(step));
            match rng.below(8) {
                0..4 => {
                    set.push((wheel.insert(when, token(step)), key, step));
                    model.insert(key, step);
                }
                4 if !set.is_empty() => {
                    let (timer, key, index) = set.swap_remove(rng.below(set.len() as u64) as usize);
                    assert!(wheel.cancel(timer));
                    assert_eq!(model.remove(&key), Some(index));
                }
                5 if !set.is_empty() => {
                    let chosen = rng.below(set.len() as u64) as usize;
                    let (timer, old, index) = set[chosen];
                    assert!(wheel.reschedule(timer, when));
                    assert_eq!(wheel.when(timer), Some(at(key.0)));
                    model.remove(&old);
                    model.insert(key, index);
                    set[chosen].1 = key;
                }
                _ => {
                    now += of_any_size(&mut rng, 56);
                    advance(&mut wheel, &mut model, &mut set, Time::from_nanos(now));
                }
            }
            assert_eq!(wheel.len(), model.len());
            let first = model.keys().next().map(|(tick, _)| at(*tick));
            assert!(wheel.next_deadline() <= first, "woken too late");
            assert_eq!(wheel.next_deadline().is_some(), first.is_some());
        }
    }

    fn advance(
        wheel: &mut Wheel,
        model: &mut BTreeMap<(u64, u64), u32>,
        set: &mut Vec<(TimerId, (u64, u64), u32)>,
        now: Time,
    ) {
        while let Some(fired) = wheel.pop(now) {
            let (key, index) = model.pop_first().expect("fired twice");
            assert_eq!(fired, token(index));
            assert!(key.0 <= now.millis(), "fired early");
            set.retain(|(_, _, index)| *index != fired.index);
        }
        let late = model
            .keys()
            .next()
            .filter(|(tick, _)| *tick <= now.millis());
        assert_eq!(late, None, "not fired at {now:?}");
    }
}
