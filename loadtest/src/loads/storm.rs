//! The power is back: a whole site of phones subscribes within a minute, while others, whose power never failed, refresh
//! and see changes. All of them must be there soon, no refresh of a live phone may fail, and no change come late to one.
//! A phone that is refused comes again when it was told to, and not before.

use std::io;
use std::time::Duration;

use super::things::change;
use super::{PATIENCE, Site};
use crate::field::Field;
use crate::http::Feeder;
use crate::phone::Stage;
use crate::report::{Report, percentile};

/// All shall be there so long after the first; longer than that nobody waits at all.
const ALL_WITHIN: Duration = Duration::from_secs(120);
/// Of live phones: each refreshes so often, on average.
const REFRESHED_EVERY: f64 = 120.0;
/// Hints that change in a second, for each thousand subscriptions.
const CHANGES_PER_THOUSAND: f64 = 0.12;
/// Live phones and changes alone, before and after the storm.
const CALM: Duration = Duration::from_secs(5);
/// How often it is counted who is there.
const COUNTED_EVERY: Duration = Duration::from_millis(500);

/// What goes on whatever happens: refreshes of live phones, and changes.
struct Life {
    live: u32,
    since: Duration,
    refreshed: u64,
    changed: u64,
    changes_per_second: f64,
}

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let (count, live) = (site.options.count(), site.options.live());
    let feeder = site.feeder()?;
    if site.options.ghosts {
        // They were there before the power failed, and will not say a word about that.
        site.closed_loop(live..count, Field::subscribe);
    }
    site.closed_loop(0..live, Field::subscribe);
    site.field.timed = 0..live;
    site.field.delays.clear();
    let mut life = Life {
        live,
        since: site.field.clock(),
        refreshed: 0,
        changed: 0,
        changes_per_second: f64::from(count) / 1000.0 * CHANGES_PER_THOUSAND,
    };
    let calm = site.field.clock();
    while site.field.clock() - calm < CALM {
        life.go_on(site, &feeder);
    }
    tell_of_live(site, report, "before the storm");
    let cpu = site.server.cpu();
    let (asked, there) = storm(site, &feeder, &mut life);
    let used = site.server.cpu().since(&cpu);
    let most = seconds(ALL_WITHIN);
    report.count("phones that came back", u64::from(count - live));
    report.figure("all had asked after", seconds(asked), "s");
    report.goal(
        "all were there after",
        seconds(there.unwrap_or(ALL_WITHIN * 2)),
        "s",
        most,
    );
    report.count("refused for now, and came again", site.field.seen.refusals);
    report.figure(
        "processor time of the server",
        used.total() as f64 / 1e9,
        "s",
    );
    tell_of_live(site, report, "in the storm");
    let calm = site.field.clock();
    while site.field.clock() - calm < CALM {
        life.go_on(site, &feeder);
    }
    tell_of_live(site, report, "after the storm");
    site.settle();
    if site.options.ghosts {
        // Whoever never heard of its ghosts does now: they answer 481.
        for resource in 0..site.options.resources() {
            change(site, &feeder, resource);
            site.field.turn(Duration::ZERO);
        }
    }
    site.until_right(PATIENCE);
    feeder.finish()?;
    site.until_right(PATIENCE);
    judge(site, report, &life);
    Ok(())
}

/// When all had asked, and when all were there.
fn storm(site: &mut Site<'_>, feeder: &Feeder, life: &mut Life) -> (Duration, Option<Duration>) {
    let (count, live) = (site.options.count(), site.options.live());
    let rate = f64::from(count - live) / f64::from(site.options.seconds());
    let start = site.field.clock();
    let mut next = live;
    let mut asked = Duration::ZERO;
    let mut counted = start;
    loop {
        let now = site.field.clock() - start;
        let due = live + ((now.as_secs_f64() * rate) as u32).min(count - live);
        // A turn between every few keeps our own receive buffers from filling.
        for _ in 0..64 {
            if next < due {
                site.field.subscribe(next);
                next += 1;
                asked = now;
            }
        }
        life.go_on(site, feeder);
        let now = site.field.clock();
        if next == count && now - counted >= COUNTED_EVERY {
            counted = now;
            let there = |phone: &crate::phone::Phone| {
                phone.stage == Stage::Active && phone.heard_cseq.is_some()
            };
            if site.field.phones[live as usize..].iter().all(there) {
                return (asked, Some(now - start));
            }
            if now - start > ALL_WITHIN * 2 {
                return (asked, None);
            }
        }
    }
}

impl Life {
    /// What is due by now, and one turn.
    fn go_on(&mut self, site: &mut Site<'_>, feeder: &Feeder) {
        let passed = (site.field.clock() - self.since).as_secs_f64();
        let refreshes = (passed * f64::from(self.live) / REFRESHED_EVERY) as u64;
        let mut some = 0;
        while self.refreshed < refreshes && some < 64 {
            let index = (self.refreshed % u64::from(self.live)) as u32;
            let phone = &site.field.phones[index as usize];
            if phone.stage == Stage::Active && !phone.waits() {
                site.field.refresh(index);
            }
            self.refreshed += 1;
            some += 1;
        }
        while self.changed < (passed * self.changes_per_second) as u64 {
            let resource = site.field.random.below(site.options.resources());
            change(site, feeder, resource);
            self.changed += 1;
        }
        site.field.turn(Duration::from_millis(1));
    }
}

/// What live phones have seen since this was last told.
fn tell_of_live(site: &mut Site<'_>, report: &mut Report, when: &str) {
    let mut delays = std::mem::take(&mut site.field.delays);
    let mut answers = std::mem::take(&mut site.field.answer_times);
    delays.sort();
    answers.sort();
    report.count(
        &format!("live phones {when}: changes seen"),
        delays.len() as u64,
    );
    report.time("  from change to lamp, median", percentile(&delays, 0.5));
    let late = percentile(&delays, 0.99).as_secs_f64() * 1000.0;
    report.goal("  from change to lamp, 99 %", late, "ms", 1000.0);
    report.time("  from change to lamp, worst", percentile(&delays, 1.0));
    report.time("  a refresh answered, 99 %", percentile(&answers, 0.99));
    report.time("  a refresh answered, worst", percentile(&answers, 1.0));
}

/// Everybody is there, and no live phone was refused.
fn judge(site: &mut Site<'_>, report: &mut Report, life: &Life) {
    let count = site.options.count();
    let active = site.field.count(Stage::Active) as u32;
    report.count("refreshes of live phones", life.refreshed);
    report.count("hints changed", life.changed);
    if active != count {
        report.problem(format!("{active} of {count} are active at the end"));
    }
    let refused = site.field.seen.refreshes_refused;
    if refused > 0 {
        report.problem(format!("{refused} refreshes were refused"));
    }
    let known = site.server.metric("lampfield_subscriptions");
    if known.is_some_and(|known| known as u32 != active) {
        report.problem(format!(
            "the server counts {known:?} subscriptions, the phones have {active}"
        ));
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
