//! Nothing that was promised is forgotten: the server is killed again and again, at any moment, while phones subscribe,
//! refresh and leave and states change, and starts again with what it kept. No phone may see a CSeq or a version at or
//! below an earlier one of its dialog, none that was answered may be forgotten, and every lamp must be right soon after.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::things::{Mix, change, one_thing};
use super::{PATIENCE, RIGHT_AFTER, Site};
use crate::field::Field;
use crate::http::Feeder;
use crate::phone::Stage;
use crate::report::{Report, percentile};
use crate::server;

/// Things that happen in a second.
const RATE: f64 = 1_000.0;
const MIX: Mix = Mix {
    changes: 100,
    leaves: 100,
    reboots: 20,
    dies: 0,
    sleeps: 0,
};
/// One life in so many ends in peace: nobody asks for anything, and every lamp has to be right before it ends.
const PEACEFUL: u32 = 5;
/// One life in so many may end before it is ready; its length counts from its start, that of others from when they serve.
const SHORT: u32 = 5;
const SHORT_LIFE: Duration = Duration::from_millis(600);
const LIFE: Duration = Duration::from_secs(4);
/// The longest time without a server.
const DOWN: Duration = Duration::from_millis(800);
/// A start may take so long.
const STARTED_AFTER: Duration = Duration::from_secs(60);

/// What the lives of a run came to.
#[derive(Default)]
struct Lives {
    /// From a start to the first answer of the admin port.
    starts: Vec<Duration>,
    /// Killed before that.
    stillborn: u64,
    /// From the last change until everybody was answered and every lamp was right, where nobody asked for anything.
    right: Vec<Duration>,
    done: u64,
}

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    site.field.killed = true;
    let feeder = Feeder::stubborn(site.server.admin)?;
    site.closed_loop(0..site.options.count() / 2, Field::subscribe);
    let mut lives = Lives::default();
    let mut ready = wait_until_ready(site.server.admin);
    for _ in 0..site.options.kills() {
        live(site, &feeder, report, ready, &mut lives)?;
        site.server.kill()?;
        let down = random_time(site, DOWN);
        turn_for(site, &feeder, down, &mut lives.done);
        site.field.forgive_last_notifies();
        site.server.start_again()?;
        ready = wait_until_ready(site.server.admin);
    }
    while !ready.is_finished() {
        site.server.must_live()?;
        site.field.turn(Duration::from_millis(1));
    }
    site.settle();
    let given_up = site.field.seen.given_up;
    come_to_an_end(site, &feeder)?;
    feeder.finish()?;
    site.until_right(PATIENCE);
    if site.field.seen.given_up > given_up {
        report.problem("a request was not answered when nobody was killed any more".to_owned());
    }
    count_what_is_left(site, report);
    tell(site, report, &mut lives);
    Ok(())
}

/// One life, from its start to the moment at which it is killed.
fn live(
    site: &mut Site<'_>,
    feeder: &Feeder,
    report: &mut Report,
    ready: JoinHandle<Duration>,
    lives: &mut Lives,
) -> io::Result<()> {
    if site.field.random.below(SHORT) == 0 {
        let length = random_time(site, SHORT_LIFE);
        turn_for(site, feeder, length, &mut lives.done);
    } else {
        while !ready.is_finished() {
            site.server.must_live()?;
            turn_for(site, feeder, Duration::from_millis(5), &mut lives.done);
        }
        let length = random_time(site, LIFE);
        turn_for(site, feeder, length, &mut lives.done);
    }
    site.server.must_live()?;
    if !ready.is_finished() {
        lives.stillborn += 1;
        return Ok(());
    }
    lives.starts.extend(ready.join());
    if site.field.random.below(PEACEFUL) == 0 {
        let peace = site.field.clock();
        site.settle();
        if !site.until_right(RIGHT_AFTER) {
            let wrong = site.field.wrong();
            report.problem(format!(
                "{wrong} lamps are wrong {RIGHT_AFTER:?} after all was asked"
            ));
        }
        lives.right.push(site.field.clock() - peace);
    }
    Ok(())
}

/// How long that takes from now on.
pub fn wait_until_ready(admin: std::net::SocketAddr) -> JoinHandle<Duration> {
    thread::spawn(move || {
        let start = Instant::now();
        while !server::is_ready(admin) && start.elapsed() < STARTED_AFTER {
            thread::sleep(Duration::from_millis(2));
        }
        start.elapsed()
    })
}

fn random_time(site: &mut Site<'_>, most: Duration) -> Duration {
    let micros = site.field.random.below(most.as_micros() as u32);
    Duration::from_micros(u64::from(micros))
}

/// Phones and hints go on, whether anybody serves them or not.
fn turn_for(site: &mut Site<'_>, feeder: &Feeder, time: Duration, done: &mut u64) {
    let rate = site.options.rate.unwrap_or(RATE);
    let start = site.field.clock();
    let mut here = 0;
    loop {
        let passed = site.field.clock() - start;
        if passed >= time {
            return;
        }
        let due = (passed.as_secs_f64() * rate) as u64;
        while here < due {
            one_thing(site, feeder, &MIX);
            here += 1;
            *done += 1;
        }
        site.field.turn(Duration::from_millis(1));
    }
}

/// Everybody who believes in a dialog asks once more, and every state changes: what was forgotten shows, and what
/// nobody remembers is answered 481.
fn come_to_an_end(site: &mut Site<'_>, feeder: &Feeder) -> io::Result<()> {
    site.settle();
    site.server.must_live()?;
    site.closed_loop(0..site.options.count(), |field, index| {
        if field.phones[index as usize].stage == Stage::Active {
            field.refresh(index);
        }
    });
    for resource in 0..site.options.resources() {
        change(site, feeder, resource);
        site.field.turn(Duration::ZERO);
    }
    site.until_right(PATIENCE);
    site.rest(Duration::from_secs(1));
    site.settle();
    Ok(())
}

/// The server knows of no more and no fewer than there are.
fn count_what_is_left(site: &Site<'_>, report: &mut Report) {
    let active = site.field.count(Stage::Active) as u64;
    report.count("active at the end", active);
    let known = site.server.metric("lampfield_subscriptions");
    if known != Some(active as f64) {
        report.problem(format!(
            "the server counts {known:?} subscriptions, the phones have {active}"
        ));
    }
    let aside = "outcome=\"set_aside\"";
    let records = "lampfield_store_records_total";
    if let Some(aside) = site.server.metric_with(records, aside)
        && aside > 0.0
    {
        report.problem(format!("{aside} records were not believed"));
    }
}

fn tell(site: &mut Site<'_>, report: &mut Report, lives: &mut Lives) {
    report.count("kills", u64::from(site.options.kills()));
    report.count("  of them before it was ready", lives.stillborn);
    report.count("things done", lives.done);
    lives.starts.sort();
    lives.right.sort();
    site.field.delays.sort();
    for (name, times, part) in [
        ("ready after a start, median", &lives.starts, 0.5),
        ("ready after a start, worst", &lives.starts, 1.0),
        (
            "all lamps right after the last change, worst",
            &lives.right,
            1.0,
        ),
        ("a lamp was wrong for, median", &site.field.delays, 0.5),
        ("a lamp was wrong for, worst", &site.field.delays, 1.0),
    ] {
        report.time(name, percentile(times, part));
    }
}
