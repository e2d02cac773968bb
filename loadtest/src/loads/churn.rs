//! An ordinary bad day: phones come, refresh, leave, reboot without a word, while states change.
//! At the end every lamp must be right and the server must know of no more subscriptions than there are.

use std::io;
use std::time::Duration;

use super::things::{Mix, change, one_thing};
use super::{PATIENCE, Site};
use crate::field::Field;
use crate::phone::Stage;
use crate::report::{Report, percentile};

/// Half of what happens is refreshes.
const MIX: Mix = Mix {
    changes: 100,
    leaves: 300,
    reboots: 100,
    dies: 0,
    sleeps: 0,
};
/// What the server counts its subscriptions as, in its metrics.
const METRIC: &str = "lampfield_subscriptions";

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let feeder = site.feeder()?;
    let count = site.options.count();
    site.closed_loop(0..count / 2, Field::subscribe);
    let rate = site.options.rate.unwrap_or(2_000.0);
    let total = (rate * f64::from(site.options.seconds())) as u64;
    let (cpu, start) = (site.server.cpu(), site.field.clock());
    let mut done = 0;
    while done < total {
        let due = ((site.field.clock() - start).as_secs_f64() * rate) as u64;
        while done < due.min(total) {
            one_thing(site, &feeder, &MIX);
            done += 1;
        }
        site.field.turn(Duration::from_millis(1));
    }
    site.settle();
    let used = site.server.cpu().since(&cpu);
    // One change of everything finds the ghosts of rebooted phones: they answer 481.
    for resource in 0..site.options.resources() {
        change(site, &feeder, resource);
        site.field.turn(Duration::ZERO);
    }
    site.until_right(PATIENCE);
    feeder.finish()?;
    site.rest(Duration::from_secs(1));
    site.settle();
    let active = site.field.count(Stage::Active);
    report.count("things done", done);
    report.count("active at the end", active as u64);
    match site.server.metric(METRIC) {
        Some(known) if site.field.plan.lose_permille == 0 && known as usize != active => {
            report.problem(format!(
                "the server counts {known} subscriptions, the phones have {active}"
            ));
        }
        Some(known) => report.figure("subscriptions that the server counts", known, ""),
        None => {}
    }
    report.figure(
        "CPU per thing done",
        used.total() as f64 / 1000.0 / done.max(1) as f64,
        "µs",
    );
    site.field.delays.sort();
    for (name, part) in [("median", 0.5), ("99 %", 0.99), ("worst", 1.0)] {
        report.time(
            &format!("a lamp was wrong for, {name}"),
            percentile(&site.field.delays, part),
        );
    }
    Ok(())
}
