//! An ordinary bad day for many minutes: phones subscribe, refresh, leave, reboot, die without a word, and let
//! subscriptions expire, while states change. The server's memory and its own counts must be as flat at the end as they
//! were once it had warmed up, and when everybody has gone nothing may be left.

use std::io;
use std::time::Duration;

use super::things::{Mix, one_thing};
use super::{PATIENCE, Site};
use crate::field::Field;
use crate::http::Feeder;
use crate::phone::Stage;
use crate::report::{Report, percentile};

/// The server's own count of what the machine did to it.
const STANDSTILLS: &str = "lampfield_standstills_total";

/// Things that happen in a second.
const RATE: f64 = 2_000.0;
/// So many of them happen between two looks at what has come.
const AT_ONCE: u64 = 64;
const MIX: Mix = Mix {
    changes: 50,
    leaves: 50,
    reboots: 50,
    dies: 20,
    sleeps: 30,
};
/// So many samples of memory and counts over the whole time; those of the first quarter are warming up.
const SAMPLES: u32 = 20;
/// Memory may differ so much between the quiet of one sample and another, and counts with what is under way just then.
const SLACK_PART: f64 = 0.05;
const SLACK_PART_OF_COUNTS: f64 = 0.1;
const SLACK_COUNT: f64 = 200.0;
const SLACK_BYTES: f64 = 8.0 * 1024.0 * 1024.0;
/// What ended keeps its answers for 64·T1, and a dead phone is asked so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(75);
/// What must be 0 once everybody has gone. (Timers are not: the hints that were set have none, the audit has its own.)
const LEFT_OVER: [&str; 4] = [
    "lampfield_subscriptions",
    "lampfield_notifies_in_flight",
    "lampfield_transactions",
    "lampfield_send_slots",
];

/// What there was at one moment.
struct Sample {
    resident: f64,
    subscriptions: f64,
    timers: f64,
    slot_bytes: f64,
}

pub fn run(site: &mut Site<'_>, report: &mut Report, minutes: f64) -> io::Result<()> {
    site.field.may_end = true;
    // In many minutes a machine may stand still for seconds: who is told to come again later says it again.
    let feeder = Feeder::stubborn(site.server.admin)?;
    report.figure(
        "resident at the start",
        mib(site.server.resident() as f64),
        "MiB",
    );
    let rate = site.options.rate.unwrap_or(RATE);
    let length = Duration::from_secs_f64(minutes * 60.0);
    let start = site.field.clock();
    let mut samples: Vec<Sample> = Vec::new();
    let mut done = 0;
    while site.field.clock() - start < length {
        let passed = (site.field.clock() - start).as_secs_f64();
        let due = (passed * rate) as u64;
        // What a standstill of the machine has left over does not come at once.
        let now = due.min(done + AT_ONCE);
        for _ in done..now {
            let most = site.options.expires();
            site.field.plan.expires = most / 3 + site.field.random.below(most - most / 3);
            one_thing(site, &feeder, &MIX);
        }
        done = now;
        site.field.turn(match done < due {
            true => Duration::ZERO,
            false => Duration::from_millis(1),
        });
        if passed >= length.as_secs_f64() * f64::from(samples.len() as u32 + 1) / f64::from(SAMPLES)
        {
            samples.push(Sample::take(site));
        }
    }
    report.count("things done", done);
    if let Some(count) = site.server.metric(STANDSTILLS).filter(|count| *count > 0.0) {
        report.figure("times that the server stood still", count, "");
    }
    compare(report, &samples);
    for (name, value) in [
        ("rebooted", site.field.seen.reboots),
        ("died without a word", site.field.seen.deaths),
        ("expired", site.field.seen.expired),
    ] {
        report.count(name, value);
    }
    site.settle();
    site.until_right(PATIENCE);
    feeder.finish()?;
    site.until_right(PATIENCE);
    let active = site.field.count(Stage::Active);
    report.count("active at the end", active as u64);
    site.field.delays.sort();
    report.time(
        "a lamp was wrong for, 99 %",
        percentile(&site.field.delays, 0.99),
    );
    everybody_goes(site, report);
    Ok(())
}

impl Sample {
    fn take(site: &Site<'_>) -> Self {
        let metric = |name| site.server.metric(name).unwrap_or(0.0);
        Sample {
            resident: site.server.resident() as f64,
            subscriptions: metric("lampfield_subscriptions"),
            timers: metric("lampfield_timers"),
            slot_bytes: metric("lampfield_send_slot_bytes"),
        }
    }
}

/// The second quarter of the time against the last one, by their highest values.
fn compare(report: &mut Report, samples: &[Sample]) {
    let quarter = samples.len() / 4;
    let (early, late) = (
        &samples[quarter..2 * quarter],
        &samples[samples.len() - quarter..],
    );
    let most =
        |samples: &[Sample], of: fn(&Sample) -> f64| samples.iter().map(of).fold(0.0, f64::max);
    for (name, of, is_memory) in [
        (
            "resident",
            (|sample| sample.resident) as fn(&Sample) -> f64,
            true,
        ),
        ("memory of send slots", |sample| sample.slot_bytes, true),
        ("subscriptions", |sample| sample.subscriptions, false),
        ("timers", |sample| sample.timers, false),
    ] {
        let (before, after) = (most(early, of), most(late, of));
        let (shown, unit) = if is_memory {
            (1024.0 * 1024.0, "MiB")
        } else {
            (1.0, "")
        };
        report.figure(
            &format!("{name}, most in the second quarter"),
            before / shown,
            unit,
        );
        report.figure(
            &format!("{name}, most in the last quarter"),
            after / shown,
            unit,
        );
        let (part, slack) = if is_memory {
            (SLACK_PART, SLACK_BYTES)
        } else {
            (SLACK_PART_OF_COUNTS, SLACK_COUNT)
        };
        if after > before * (1.0 + part) + slack {
            report.problem(format!("{name} grew from {before} to {after}"));
        }
    }
}

/// All that live unsubscribe; what others left behind has to end by itself.
fn everybody_goes(site: &mut Site<'_>, report: &mut Report) {
    site.closed_loop(0..site.options.count(), |field: &mut Field, index| {
        if field.phones[index as usize].stage == Stage::Active {
            field.unsubscribe(index);
        }
    });
    let longest = Duration::from_secs(u64::from(site.options.expires())) + FORGOTTEN_AFTER;
    let start = site.field.clock();
    let left = |site: &Site<'_>| {
        let count = |name: &&str| site.server.metric(name).is_some_and(|left| left > 0.0);
        LEFT_OVER
            .iter()
            .copied()
            .filter(count)
            .collect::<Vec<&str>>()
    };
    while !left(site).is_empty() && site.field.clock() - start < longest {
        site.rest(Duration::from_millis(250));
    }
    report.time("nothing was left after", site.field.clock() - start);
    for name in left(site) {
        let value = site.server.metric(name).unwrap_or(0.0);
        report.problem(format!("when all have gone, {name} is {value}"));
    }
    report.figure(
        "resident when all have gone",
        mib(site.server.resident() as f64),
        "MiB",
    );
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
