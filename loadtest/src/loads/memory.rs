//! Many subscriptions at rest: what each costs in resident memory, at once and after quiet.

use std::time::Duration;

use super::Site;
use crate::field::Field;
use crate::phone::Stage;
use crate::report::Report;

/// Longer than 64·T1: no transaction of the subscribing is remembered any more.
const QUIET: Duration = Duration::from_secs(40);

pub fn run(site: &mut Site<'_>, report: &mut Report) {
    let count = site.options.count();
    let before = site.server.resident();
    let (cpu, start) = (site.server.cpu(), site.field.clock());
    site.closed_loop(0..count, Field::subscribe);
    let time = site.field.clock() - start;
    let used = site.server.cpu().since(&cpu);
    let active = site.field.count(Stage::Active);
    let full = site.server.resident();
    let cpu = site.server.cpu();
    site.rest(QUIET);
    let idle = site.server.cpu().since(&cpu);
    let quiet = site.server.resident();
    let each = |bytes: u64| bytes.saturating_sub(before) as f64 / active.max(1) as f64;
    report.count("subscriptions", active as u64);
    report.count("resources", site.field.resources.len() as u64);
    report.figure("resident at start", before as f64 / 1048576.0, "MiB");
    report.figure("resident after subscribing", full as f64 / 1048576.0, "MiB");
    report.figure(
        "resident after 40 s of quiet",
        quiet as f64 / 1048576.0,
        "MiB",
    );
    report.goal("per subscription, at once", each(full), "B", 1024.0);
    report.goal("per subscription, after quiet", each(quiet), "B", 1024.0);
    report.figure(
        "CPU per new subscription",
        used.total() as f64 / 1000.0 / f64::from(count),
        "µs",
    );
    report.figure("rate", f64::from(count) / time.as_secs_f64(), "1/s");
    report.figure(
        "CPU in quiet",
        idle.total() as f64 / 1e6 / QUIET.as_secs_f64(),
        "ms/s",
    );
}
