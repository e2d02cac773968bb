//! What a NOTIFY costs by each transport, beside each other in one run: as many phones on each, one resource for each,
//! changed in turn.

use std::io;
use std::time::Duration;

use super::{PATIENCE, Site};
use crate::configuration::Transport;
use crate::field::Field;
use crate::lamp::State;
use crate::report::{Report, median};
use crate::server::Cpu;

/// What was measured of one transport.
struct Kind {
    transport: Transport,
    resource: u32,
    watchers: u64,
    each: Vec<f64>,
    used: Vec<Cpu>,
}

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    let count = site.options.count();
    let mut kinds: Vec<Kind> = Vec::new();
    for resource in 0..site.field.resources.len() as u32 {
        let watchers = &site.field.resources[resource as usize].watchers;
        let transport = site.field.transport_of(watchers[0]);
        kinds.push(Kind {
            transport,
            resource,
            watchers: watchers.len() as u64,
            each: Vec::new(),
            used: Vec::new(),
        });
    }
    site.closed_loop(0..count, Field::subscribe);
    let feeder = site.feeder()?;
    for step in 0..site.options.changes {
        for kind in &mut kinds {
            let state = State::cycle(site.field.plan.package, step);
            let (cpu, heard) = (site.server.cpu(), site.field.seen.notifies);
            let name = site.field.resources[kind.resource as usize].name.clone();
            site.field.change(kind.resource, state);
            feeder.set(&name, state.json());
            if !site.until_right(PATIENCE) {
                let wrong = site.field.wrong();
                report.problem(format!("{wrong} lamps are wrong after 40 s"));
            }
            // The answers that are still on their way to the server belong to this change.
            site.rest(Duration::from_millis(50));
            let used = site.server.cpu().since(&cpu);
            let notifies = (site.field.seen.notifies - heard).max(1);
            kind.each
                .push(used.total() as f64 / 1000.0 / notifies as f64);
            kind.used.push(used);
            // What was not answered in time comes again after T1.
            site.rest(Duration::from_millis(600));
        }
    }
    feeder.finish()?;
    for kind in &mut kinds {
        let name = kind.transport.name();
        report.count(&format!("{name}: watchers"), kind.watchers);
        let [best, worst] = [f64::min, f64::max].map(|of| kind.each.iter().copied().reduce(of));
        let [best, worst] = [best, worst].map(Option::unwrap_or_default);
        report.figure(&format!("{name}: CPU per NOTIFY, best change"), best, "µs");
        report.figure(
            &format!("{name}: CPU per NOTIFY, median"),
            median(&mut kind.each),
            "µs",
        );
        report.figure(
            &format!("{name}: CPU per NOTIFY, worst change"),
            worst,
            "µs",
        );
    }
    report.count("connections", site.field.connections() as u64);
    Ok(())
}
