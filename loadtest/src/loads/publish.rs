//! Publishers that publish, modify and remove, each with some watchers: what a PUBLISH costs,
//! and whether a removal darkens the lamps.

use std::io;
use std::time::Duration;

use super::{PATIENCE, Site, other_state};
use crate::field::Field;
use crate::lamp::State;
use crate::report::{Report, percentile};
use crate::wire::Package;

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    if site.options.package != Package::Dialog {
        return Err(io::Error::other(
            "this load publishes the dialog package only",
        ));
    }
    let resources = site.options.resources();
    site.closed_loop(0..site.options.count(), Field::subscribe);
    for resource in 0..resources {
        site.field.add_publisher(resource);
    }
    let rate = site.options.rate.unwrap_or(500.0);
    let total = (rate * f64::from(site.options.seconds())) as u64;
    let (cpu, start) = (site.server.cpu(), site.field.clock());
    let heard = site.field.seen.notifies;
    let mut sent = 0;
    let mut held_back = 0u64;
    while sent < total {
        let due = ((site.field.clock() - start).as_secs_f64() * rate) as u64;
        while sent < due.min(total) {
            held_back += u64::from(!publish_one(site, resources));
            sent += 1;
        }
        site.field.turn(Duration::from_millis(1));
    }
    site.settle();
    site.until_right(PATIENCE);
    site.rest(Duration::from_millis(50));
    let used = site.server.cpu().since(&cpu);
    let published = sent - held_back;
    let notifies = site.field.seen.notifies - heard;
    darken(site, report);
    report.count("publishers", u64::from(resources));
    report.count("watchers", u64::from(site.options.count()));
    report.figure(
        "PUBLISH rate",
        published as f64 / f64::from(site.options.seconds()),
        "1/s",
    );
    report.count("NOTIFYs caused", notifies);
    report.figure(
        "CPU per PUBLISH with its NOTIFYs",
        used.total() as f64 / 1000.0 / published.max(1) as f64,
        "µs",
    );
    report.figure(
        "CPU per message (PUBLISH or NOTIFY)",
        used.total() as f64 / 1000.0 / (published + notifies).max(1) as f64,
        "µs",
    );
    site.field.delays.sort();
    for (name, part) in [("median", 0.5), ("99 %", 0.99), ("worst", 1.0)] {
        report.time(
            &format!("PUBLISH to lamp, {name}"),
            percentile(&site.field.delays, part),
        );
    }
    Ok(())
}

/// One change by a publisher chosen at random. False: its last one is not answered yet.
fn publish_one(site: &mut Site<'_>, resources: u32) -> bool {
    let index = site.field.random.below(resources);
    if site.field.publishers[index as usize].awaits_answer {
        return false;
    }
    let states = [State::Idle, State::Ringing, State::InUse];
    let state = other_state(&mut site.field, index, &states);
    site.field.publish(index, state);
    true
}

/// Every publication that is out is removed: no lamp may stay lit.
fn darken(site: &mut Site<'_>, report: &mut Report) {
    for index in 0..site.options.resources() {
        if site.field.publishers[index as usize].is_out() {
            site.field.publish(index, State::Idle);
        }
        site.field.turn(Duration::ZERO);
    }
    site.settle();
    if !site.until_right(PATIENCE) {
        let wrong = site.field.wrong();
        report.problem(format!(
            "{wrong} lamps stay lit after their publication was removed"
        ));
    }
}
