//! Transports are replaced again and again, in every way, while phones refresh and states change. Afterwards nobody
//! may be able to tell: nothing was lost, nothing went astray, every lamp is right, and nothing is left open.

use std::io;
use std::time::Duration;

use super::ledger::Ledger;
use super::swaps::Swaps;
use super::things::change;
use super::{RIGHT_AFTER, Site};
use crate::field::Field;
use crate::http::Feeder;
use crate::phone::Stage;
use crate::report::{Report, percentile};
use crate::transports::Transports;

/// Transactions end within 64·T1, and only phones that refresh move away.
const DRAINED_AFTER: Duration = Duration::from_secs(60);
/// Of a hundred phones whose turn it is, how many leave and come back instead of refreshing.
const LEAVE_PERCENT: u32 = 3;

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let count = site.options.count();
    let ledger = Ledger::open(site);
    site.closed_loop(0..count, Field::subscribe);
    let descriptors = site.server.descriptors()?;
    let mut swaps = Swaps::new(site, &site.options.kinds, site.options.pause())?;
    let feeder = site.feeder()?;
    let start = site.field.clock();
    let rate = site.options.rate.unwrap_or(f64::from(count) / 10.0);
    let (mut refreshes, mut changes) = (Pace::new(rate), Pace::new(rate / 10.0));
    let mut visits = Pace::new(site.options.visits);
    let mut next = 0;
    while swaps.done() < site.options.swaps() {
        let time = site.field.clock() - start;
        for _ in 0..refreshes.due(time) {
            one_request(site, next);
            next = (next + 1) % count;
        }
        for _ in 0..changes.due(time) {
            one_change(site, &feeder);
        }
        for _ in 0..visits.due(time) {
            one_visit(site);
        }
        swaps.turn(site, report)?;
        site.field.turn(Duration::from_millis(1));
    }
    let time = site.field.clock() - start;
    swaps.end(site, report)?;
    report.count("hints changed", feeder.finish()?);
    if !site.until_right(RIGHT_AFTER) {
        let wrong = site.field.wrong();
        report.problem(format!("{wrong} lamps are wrong 5 s after the last change"));
    }
    site.settle();
    visitors_go(site, report);
    come_back(site);
    report.count("subscriptions", site.field.count(Stage::Active) as u64);
    report.count("swaps", u64::from(swaps.done()));
    report.time("first swap to last", time);
    site.field.delays.sort();
    for (name, part) in [("median", 0.5), ("99 %", 0.99), ("worst", 1.0)] {
        let delay = percentile(&site.field.delays, part);
        report.time(&format!("a lamp was wrong for, {name}"), delay);
    }
    if !site.options.hurry {
        drain(site, report)?;
    }
    if site.field.plan.edge.is_none() {
        ledger.judge(site, report);
    }
    if !site.options.hurry {
        closed(site, report, descriptors)?;
    }
    Ok(())
}

/// How many of something are due, at so many a second.
struct Pace {
    rate: f64,
    done: u64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Pace { rate, done: 0 }
    }

    fn due(&mut self, time: Duration) -> u64 {
        let due = (time.as_secs_f64() * self.rate) as u64;
        let now = due.saturating_sub(self.done).min(64);
        self.done += now;
        now
    }
}

/// It is this phone's turn: it refreshes, or leaves, or comes back.
fn one_request(site: &mut Site<'_>, index: u32) {
    let leaves = site.field.random.below(100) < LEAVE_PERCENT;
    let phone = &site.field.phones[index as usize];
    if phone.waits() {
        return;
    }
    match phone.stage {
        Stage::Active if leaves => site.field.unsubscribe(index),
        Stage::Active => site.field.refresh(index),
        Stage::Off | Stage::Gone => site.field.subscribe(index),
        Stage::Subscribing | Stage::Leaving | Stage::Refused | Stage::Dead => {}
    }
}

/// Somebody connects by each transport, asks once, and goes; and a connection of phones is opened anew.
fn one_visit(site: &mut Site<'_>) {
    for transport in site.options.streams() {
        site.field.visit(transport);
        let which = site.field.random.below(u32::MAX);
        site.field.renew(which);
    }
}

fn visitors_go(site: &mut Site<'_>, report: &mut Report) {
    let start = site.field.clock();
    while site.field.visiting() > 0 && site.field.clock() - start < RIGHT_AFTER {
        site.field.turn(Duration::from_millis(10));
    }
    if site.field.visiting() > 0 {
        let count = site.field.visiting();
        report.problem(format!("{count} who connected are not answered"));
    }
}

fn one_change(site: &mut Site<'_>, feeder: &Feeder) {
    let resource = site.field.random.below(site.options.resources());
    change(site, feeder, resource);
}

/// Whoever had left subscribes again.
fn come_back(site: &mut Site<'_>) {
    site.closed_loop(0..site.options.count(), |field, index| {
        if field.phones[index as usize].stage == Stage::Gone {
            field.subscribe(index);
        }
    });
}

/// Phones of addresses that went away move where they were told; then what drains has nothing left to wait for.
fn drain(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let start = site.field.clock();
    let mut transports = Transports::read(site.server.admin)?;
    while transports.draining > 0 && site.field.clock() - start < DRAINED_AFTER {
        site.closed_loop(0..site.options.count(), |field, index| {
            let phone = &field.phones[index as usize];
            let moves = field.places.is_removed(phone.known) || field.is_behind(index);
            if !phone.waits() && moves {
                field.refresh(index);
            }
        });
        site.rest(Duration::from_millis(250));
        transports = Transports::read(site.server.admin)?;
    }
    report.time("all drained after", site.field.clock() - start);
    if transports.draining > 0 {
        report.problem(format!("still draining: {}", transports.text));
    }
    site.settle();
    Ok(())
}

/// No descriptor is left of all that were opened.
fn closed(site: &mut Site<'_>, report: &mut Report, before: usize) -> io::Result<()> {
    let start = site.field.clock();
    // Connections of our own to the admin port end when the server has noticed.
    while site.server.descriptors()? > before && site.field.clock() - start < RIGHT_AFTER {
        site.rest(Duration::from_millis(50));
    }
    let after = site.server.descriptors()?;
    report.count("descriptors before the first swap", before as u64);
    report.count("descriptors after the last", after as u64);
    if after > before {
        report.problem(format!("{} descriptors leaked", after - before));
    }
    Ok(())
}
