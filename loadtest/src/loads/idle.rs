//! Many connections that do nothing: what each costs in resident memory, silent, with a phone that watches, and after
//! that was told something; and what opening them costs.

use std::io;
use std::time::Duration;

use super::{PATIENCE, Site};
use crate::configuration::Transport;
use crate::field::Field;
use crate::lamp::State;
use crate::phone::Stage;
use crate::report::Report;

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(10);

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let before = site.server.resident();
    report.figure("resident at start", before as f64 / 1048576.0, "MiB");
    for transport in site.options.streams() {
        connect(site, report, transport);
    }
    let connections = site.field.connections() as u64;
    let each = |bytes: u64, since: u64| bytes.saturating_sub(since) as f64 / connections as f64;
    let silent = site.server.resident();
    let count = site.options.count();
    site.closed_loop(0..count, Field::subscribe);
    site.rest(Duration::from_millis(200));
    let subscribed = site.server.resident();
    report.count("connections", connections);
    report.count("subscriptions", site.field.count(Stage::Active) as u64);
    report.figure(
        "per connection, with what watches on it",
        each(subscribed, before),
        "B",
    );
    let feeder = site.feeder()?;
    let (cpu, heard) = (site.server.cpu(), site.field.seen.notifies);
    for step in 0..site.options.changes {
        let state = State::cycle(site.field.plan.package, step);
        for resource in 0..site.field.resources.len() as u32 {
            site.field.change(resource, state);
            let name = &site.field.resources[resource as usize].name;
            feeder.set(name, state.json());
        }
        if !site.until_right(PATIENCE) {
            let wrong = site.field.wrong();
            report.problem(format!("{wrong} lamps are wrong after 40 s"));
        }
    }
    feeder.finish()?;
    let busy = site.server.resident();
    site.rest(Duration::from_millis(50));
    let used = site.server.cpu().since(&cpu).total() as f64 / 1000.0;
    let notifies = (site.field.seen.notifies - heard).max(1) as f64;
    report.figure(
        "CPU per NOTIFY, one phone per connection",
        used / notifies,
        "µs",
    );
    report.figure("per connection, busy", each(busy, before), "B");
    let cpu = site.server.cpu();
    site.rest(QUIET);
    let idle = site.server.cpu().since(&cpu);
    let quiet = site.server.resident();
    report.figure("per connection, quiet again", each(quiet, before), "B");
    report.figure(
        "  of it for what watches, about",
        each(subscribed, silent),
        "B",
    );
    report.figure(
        "CPU in quiet",
        idle.total() as f64 / 1e6 / QUIET.as_secs_f64(),
        "ms/s",
    );
    Ok(())
}

/// Opens all connections of one kind, and waits until they are open for messages.
fn connect(site: &mut Site<'_>, report: &mut Report, transport: Transport) {
    let name = transport.name();
    let before = site.server.resident();
    let (cpu, start) = (site.server.cpu(), site.field.clock());
    let count = site.field.connect_all(transport);
    while !site.field.is_connected() && site.field.clock() - start < PATIENCE {
        site.field.turn(Duration::from_millis(10));
    }
    if !site.field.is_connected() {
        report.problem(format!("{name}: not all are connected after 40 s"));
    }
    // The server has its last word, and what it does for the last of them, behind it.
    site.rest(Duration::from_millis(200));
    let used = site.server.cpu().since(&cpu).total() as f64 / 1000.0;
    let resident = site.server.resident().saturating_sub(before) as f64;
    let each = count.max(1) as f64;
    report.count(&format!("{name}: connections"), count);
    report.figure(&format!("{name}: CPU to open one"), used / each, "µs");
    report.figure(
        &format!("{name}: opened for a second of CPU"),
        each * 1e6 / used.max(1.0),
        "",
    );
    report.figure(
        &format!("{name}: per silent connection"),
        resident / each,
        "B",
    );
}
