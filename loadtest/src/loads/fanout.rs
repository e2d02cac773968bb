//! One resource that everyone watches changes: what a NOTIFY costs, and when the last phone knows.

use std::io;
use std::time::Duration;

use super::{PATIENCE, Site};
use crate::field::Field;
use crate::lamp::State;
use crate::report::{Report, median, percentile};

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let count = site.options.count();
    site.closed_loop(0..count, Field::subscribe);
    let feeder = site.feeder()?;
    let mut each = Vec::new();
    let mut last = Vec::new();
    let mut again = 0;
    let before = site.server.cpu();
    for step in 0..site.options.changes {
        let state = State::cycle(site.field.plan.package, step);
        let (cpu, heard) = (site.server.cpu(), site.field.seen.notifies);
        let repeated = site.field.seen.notifies_again;
        let name = site.field.resources[0].name.clone();
        site.field.change(0, state);
        feeder.set(&name, state.json());
        if !site.until_right(PATIENCE) {
            let wrong = site.field.wrong();
            report.problem(format!(
                "change {step}: {wrong} lamps still wrong after 40 s"
            ));
        }
        last.push(site.field.clock() - site.field.resources[0].changed);
        // The answers that are still on their way to the server belong to this change.
        site.rest(Duration::from_millis(50));
        let used = site.server.cpu().since(&cpu).total() as f64 / 1000.0;
        each.push(used / (site.field.seen.notifies - heard).max(1) as f64);
        // What was not answered in time comes again after T1.
        site.rest(Duration::from_millis(700));
        again += site.field.seen.notifies_again - repeated;
    }
    let used = site.server.cpu().since(&before);
    feeder.finish()?;
    let notifies = u64::from(count) * u64::from(site.options.changes);
    report.count("watchers", u64::from(count));
    report.count("changes", u64::from(site.options.changes));
    each.sort_by(f64::total_cmp);
    report.figure("CPU per NOTIFY, best change", each[0], "µs");
    report.figure("CPU per NOTIFY, worst change", each[each.len() - 1], "µs");
    report.goal("CPU per NOTIFY, median", median(&mut each), "µs", 8.0);
    report.threads(&used, notifies, "NOTIFY");
    last.sort();
    report.time("last phone knows, median", percentile(&last, 0.5));
    report.time("last phone knows, worst", percentile(&last, 1.0));
    site.field.delays.sort();
    report.time("a phone knows, median", percentile(&site.field.delays, 0.5));
    report.goal("retransmitted during changes", again as f64, "", 0.0);
    report.goal("missed", site.field.seen.notifies_missed as f64, "", 0.0);
    Ok(())
}
