//! The case that other servers fail: subscriptions expire by the thousand, their NOTIFYs unanswered and in flight,
//! while transports are replaced; then all phones refresh. Each must hear that its subscription is gone, or that it
//! lives, and then its NOTIFY. What answers 200 and says no more is stuck. Then a hundred hints change across swaps,
//! and every watcher must learn it.

use std::io;
use std::time::Duration;

use super::ledger::Ledger;
use super::swaps::{Kind, Swaps};
use super::{PATIENCE, RIGHT_AFTER, Site};
use crate::field::Field;
use crate::http::{Client, Feeder};
use crate::lamp::State;
use crate::phone::{Phone, Stage};
use crate::report::{Report, percentile};

/// Subscriptions a second: at this rate they come, and so they expire.
const RATE: f64 = 1_700.0;
/// When the phones go off the network, before the first of them expires.
const DEAF_BEFORE: Duration = Duration::from_secs(1);
/// When the last swap is done: so much of them has expired then, and the rest lives.
const EXPIRED: f64 = 0.8;
/// How quickly all refresh.
const REFRESHES: f64 = 5_000.0;
/// Watchers for each thousand subscriptions of the first part, and how many share a hint.
const WATCHERS: u32 = 400;
const WATCHERS_PER_HINT: u32 = 40;
/// Over which the hints change.
const SPREAD: Duration = Duration::from_secs(2);
/// Every way in which the addresses stay what they are.
const KINDS: [Kind; 3] = [Kind::Options, Kind::Sockets, Kind::Advertise];

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let count = site.options.count();
    let rate = site.options.rate.unwrap_or(RATE);
    let span = f64::from(count) / rate;
    let pause = Duration::from_secs_f64(span * EXPIRED / f64::from(site.options.swaps().max(1)));
    let mut swaps = Swaps::new(site, &KINDS, pause)?;
    // All of them are there for two seconds before the first expires.
    let life = Duration::from_secs(span.ceil() as u64 + 2);
    let start = site.field.clock();
    site.field.plan.expires = life.as_secs() as u32;
    site.open_loop(0..count, rate, Field::subscribe);
    site.settle();
    report.count("subscriptions", site.field.count(Stage::Active) as u64);
    go_deaf(site, start + life)?;
    let in_flight = site.server.metric("lampfield_notifies_in_flight");
    report.figure(
        "NOTIFYs in flight when the first expired",
        in_flight.unwrap_or(0.0),
        "",
    );
    while swaps.done() < site.options.swaps() {
        swaps.turn(site, report)?;
        site.field.turn(Duration::from_millis(1));
    }
    let ended = site.server.metric("lampfield_subscriptions_ended_total");
    report.figure("expired when the phones are back", ended.unwrap_or(0.0), "");
    report.count("swaps meanwhile", u64::from(swaps.done()));
    all_refresh(site, report)?;
    let first = std::mem::take(&mut site.field.seen);
    report.seen(&first);
    learn(site, report, &mut swaps)?;
    swaps.end(site, report)
}

/// A second before their time, the phones go off the network, and every state changes: to each of them a NOTIFY that
/// nobody answers is on its way when its subscription expires.
fn go_deaf(site: &mut Site<'_>, first_expires: Duration) -> io::Result<()> {
    rest_until(site, first_expires - DEAF_BEFORE);
    site.field.may_end = true;
    site.field.deaf = true;
    let feeder = site.feeder()?;
    change_all(site, &feeder, State::Ringing);
    feeder.finish()?;
    rest_until(site, first_expires);
    Ok(())
}

/// Back on the network, all refresh. Nobody may be stuck: neither here nor in what the server knows.
fn all_refresh(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let count = site.options.count();
    site.field.deaf = false;
    site.field.plan.expires = 600;
    // The youngest first: those that still live shall be among them.
    site.open_loop(0..count, REFRESHES, |field, index| {
        field.refresh(count - 1 - index);
    });
    site.settle();
    let of = |stage| {
        let is = |phone: &&Phone| phone.stage == stage && !phone.waits();
        site.field.phones.iter().filter(is).count()
    };
    let (gone, alive) = (of(Stage::Gone), of(Stage::Active));
    let stuck = count as usize - gone - alive;
    report.count("refreshes answered 481", gone as u64);
    report.count("refreshes answered 200, with a NOTIFY", alive as u64);
    report.goal("stuck", stuck as f64, "", 0.0);
    if stuck > 0 {
        report.problem(format!("{stuck} subscriptions are stuck"));
    }
    // What lives hears of the next change, and what does not live is not there.
    let feeder = site.feeder()?;
    change_all(site, &feeder, State::InUse);
    feeder.finish()?;
    if !site.until_right(RIGHT_AFTER) {
        let wrong = site.field.wrong();
        report.problem(format!("{wrong} of those that live do not learn a change"));
    }
    await_only(site, report, alive);
    let path = "/v1/subscriptions?like=expiry%3D0";
    let overdue = Client::connect(site.server.admin)?.request("GET", path, "")?;
    if overdue.status != 200 || overdue.body.contains("call_id") {
        report.problem(format!("with expiry=0 there are: {}", overdue.body));
    }
    site.closed_loop(0..count, |field, index| {
        if field.phones[index as usize].stage == Stage::Active {
            field.unsubscribe(index);
        }
    });
    await_only(site, report, 0);
    // The second part begins where nothing is known.
    let feeder = site.feeder()?;
    change_all(site, &feeder, State::Idle);
    feeder.finish()?;
    Ok(())
}

/// The server knows of so many subscriptions and no more: the last NOTIFY of each of the others has ended too.
fn await_only(site: &mut Site<'_>, report: &mut Report, alive: usize) {
    let start = site.field.clock();
    let known = |site: &Site<'_>| site.server.metric("lampfield_subscriptions");
    while known(site) != Some(alive as f64) && site.field.clock() - start < PATIENCE {
        site.rest(Duration::from_millis(100));
    }
    let known = known(site);
    if known != Some(alive as f64) {
        report.problem(format!(
            "{alive} subscriptions live, the server knows {known:?}"
        ));
    }
}

/// Hints change once, one after the other, across two swaps: every watcher learns it.
fn learn(site: &mut Site<'_>, report: &mut Report, swaps: &mut Swaps) -> io::Result<()> {
    let watchers = (site.options.count() * WATCHERS / 1000).max(WATCHERS_PER_HINT);
    let hints = watchers / WATCHERS_PER_HINT;
    let ledger = Ledger::open(site);
    let mut plan = site.field.plan.clone();
    plan.expires = site.options.expires();
    plan.seed += 1;
    site.field = Field::new(plan, watchers, hints)?;
    swaps.show(site);
    site.closed_loop(0..watchers, Field::subscribe);
    let feeder = site.feeder()?;
    let (start, before) = (site.field.clock(), swaps.done());
    let mut changed = 0;
    while changed < hints || swaps.done() < before + 2 {
        let time = site.field.clock() - start;
        let due = time.div_duration_f64(SPREAD) * f64::from(hints);
        while changed < hints && f64::from(changed) < due {
            site.field.change(changed, State::Hold);
            feeder.set(
                &site.field.resources[changed as usize].name,
                State::Hold.json(),
            );
            changed += 1;
        }
        if time > SPREAD / 4 {
            swaps.turn(site, report)?;
        }
        site.field.turn(Duration::from_millis(1));
    }
    feeder.finish()?;
    let learnt = site.until_right(RIGHT_AFTER);
    report.count("watchers of the hints that change", u64::from(watchers));
    report.count("hints", u64::from(hints));
    report.goal(
        "watchers that do not learn it",
        site.field.wrong() as f64,
        "",
        0.0,
    );
    if !learnt {
        report.problem(format!("{} watchers never learn it", site.field.wrong()));
    }
    site.field.delays.sort();
    report.time(
        "the last one learns it after",
        percentile(&site.field.delays, 1.0),
    );
    site.settle();
    ledger.judge(site, report);
    Ok(())
}

fn change_all(site: &mut Site<'_>, feeder: &Feeder, state: State) {
    for resource in 0..site.options.resources() {
        site.field.change(resource, state);
        feeder.set(&site.field.resources[resource as usize].name, state.json());
    }
}

fn rest_until(site: &mut Site<'_>, time: Duration) {
    site.rest(time.saturating_sub(site.field.clock()));
}
