//! Subscriptions as fast as they go, at a rate, and their refreshes.

use std::time::Duration;

use super::Site;
use crate::field::Field;
use crate::phone::Stage;
use crate::report::{Report, percentile};

/// New subscriptions in a closed loop: what one costs the server.
pub fn subscribe(site: &mut Site<'_>, report: &mut Report) {
    let count = site.options.count();
    // The first ones find cold caches and empty tables.
    let warm = (count / 10).min(1000);
    site.closed_loop(0..warm, Field::subscribe);
    site.field.answer_times.clear();
    let (cpu, start) = (site.server.cpu(), site.field.clock());
    site.closed_loop(warm..count, Field::subscribe);
    let time = site.field.clock() - start;
    // The server's last work, the answers to its NOTIFYs, is part of the price.
    site.rest(Duration::from_millis(50));
    let used = site.server.cpu().since(&cpu);
    let done = u64::from(count - warm);
    let each = used.total() as f64 / 1000.0 / done as f64;
    report.count("subscriptions", site.field.count(Stage::Active) as u64);
    report.goal("CPU per new subscription", each, "µs", 25.0);
    report.threads(&used, done, "subscription");
    tell_of_answers(site, report);
    report.figure("rate", done as f64 / time.as_secs_f64(), "1/s");
}

/// How long phones waited for their answers.
fn tell_of_answers(site: &mut Site<'_>, report: &mut Report) {
    let times = &mut site.field.answer_times;
    times.sort();
    for (name, part) in [("median", 0.5), ("99 %", 0.99), ("worst", 1.0)] {
        report.time(
            &format!("a SUBSCRIBE was answered after, {name}"),
            percentile(times, part),
        );
    }
}

/// Everyone at the given rate, whether or not the server keeps up.
pub fn burst(site: &mut Site<'_>, report: &mut Report) {
    let count = site.options.count();
    let rate = site.options.rate.unwrap_or(10_000.0);
    let (cpu, start) = (site.server.cpu(), site.field.clock());
    site.open_loop(0..count, rate, Field::subscribe);
    let sent = site.field.clock() - start;
    // Refused phones come again when they may: give them two rounds.
    for _ in 0..3 {
        site.settle();
        if site.field.count(Stage::Active) as u32 == count {
            break;
        }
        site.rest(Duration::from_secs(5));
    }
    let time = site.field.clock() - start;
    let used = site.server.cpu().since(&cpu);
    report.count("subscriptions", site.field.count(Stage::Active) as u64);
    report.figure("offered", f64::from(count) / sent.as_secs_f64(), "1/s");
    report.time("all asked after", sent);
    report.time("all active after", time);
    tell_of_answers(site, report);
    report.figure(
        "CPU per new subscription",
        used.total() as f64 / 1000.0 / f64::from(count),
        "µs",
    );
}

/// Refreshes of what is there: in a closed loop, or at a rate.
pub fn refresh(site: &mut Site<'_>, report: &mut Report) {
    let count = site.options.count();
    site.closed_loop(0..count, Field::subscribe);
    let mut used = 0.0;
    let mut times = Vec::new();
    for _ in 0..site.options.changes {
        let (cpu, start) = (site.server.cpu(), site.field.clock());
        match site.options.rate {
            Some(rate) => site.open_loop(0..count, rate, Field::refresh),
            None => site.closed_loop(0..count, Field::refresh),
        }
        site.settle();
        times.push(site.field.clock() - start);
        site.rest(Duration::from_millis(50));
        used += site.server.cpu().since(&cpu).total() as f64;
    }
    let done = f64::from(count) * f64::from(site.options.changes);
    times.sort();
    report.count("subscriptions", site.field.count(Stage::Active) as u64);
    report.figure("CPU per refresh", used / 1000.0 / done, "µs");
    report.time("one round of all", percentile(&times, 0.5));
}
