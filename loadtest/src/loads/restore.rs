//! How long a start takes with everything that was there: all phones subscribe, the server is killed, or ends in order,
//! and is started again.

use std::io;
use std::time::Duration;

use super::restart::wait_until_ready;
use super::{PATIENCE, Site};
use crate::field::Field;
use crate::phone::Stage;
use crate::report::Report;

/// The longest wait until everybody has been told.
const TOLD_WITHIN: Duration = Duration::from_secs(300);

pub fn run(site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
    site.field.killed = true;
    let count = site.options.count();
    let start = site.field.clock();
    // One phone waits until the others are back.
    site.closed_loop(0..count - 1, Field::subscribe);
    // Whoever was refused for now comes when it may.
    while site.field.count(Stage::Active) < count as usize - 1
        && site.field.clock() - start < TOLD_WITHIN
    {
        site.rest(Duration::from_millis(250));
    }
    report.time("all had subscribed after", site.field.clock() - start);
    report.figure("resident before", mib(site), "MiB");
    site.rest(Duration::from_secs(2));
    if site.options.orderly {
        let start = site.field.clock();
        if !site.server.stop()? {
            report.problem("the server did not end well after SIGTERM".to_owned());
        }
        report.time("it ended in", site.field.clock() - start);
    } else {
        site.server.kill()?;
    }
    let before = site.field.seen.notifies;
    site.server.start_again()?;
    let start = site.field.clock();
    let ready = wait_until_ready(site.server.admin);
    while !ready.is_finished() {
        site.server.must_live()?;
        site.field.turn(Duration::from_millis(1));
    }
    report.time("ready after the start", site.field.clock() - start);
    let read = read_in(&site.server.said());
    report.time("  of it, reading the store", read.unwrap_or_default());
    let new = site.field.clock();
    site.field.subscribe(count - 1);
    while site.field.open() > 0 && site.field.clock() - new < PATIENCE {
        site.field.turn(Duration::from_millis(1));
    }
    report.time(
        "a new phone is answered and told in",
        site.field.clock() - new,
    );
    let told = |field: &Field| field.seen.notifies - before;
    // The one that is new, or all.
    let spares = site.options.orderly && site.options.changed_only;
    let expected = if spares { 1 } else { u64::from(count) };
    while told(&site.field) < expected && site.field.clock() - start < TOLD_WITHIN {
        site.field.turn(Duration::from_millis(1));
    }
    report.time(
        "everybody was told after the start",
        site.field.clock() - start,
    );
    if spares {
        let spared = |site: &Site<'_>| {
            let label = "event=\"spared\"";
            site.server.metric_with("lampfield_notifies_total", label)
        };
        while spared(site) != Some(f64::from(count - 1)) && site.field.clock() - start < TOLD_WITHIN
        {
            site.rest(Duration::from_millis(100));
        }
        report.time("nobody was owed anything after", site.field.clock() - start);
    }
    let told = told(&site.field);
    if told != expected {
        report.problem(format!(
            "{told} were told of the restart, and not {expected}"
        ));
    }
    if read.is_none() {
        report.problem("the server does not say how long it read".to_owned());
    }
    report.figure("resident afterwards", mib(site), "MiB");
    let known = site.server.metric("lampfield_subscriptions");
    if known != Some(f64::from(count)) {
        report.problem(format!("{known:?} of {count} subscriptions are known"));
    }
    Ok(())
}

fn mib(site: &Site<'_>) -> f64 {
    site.server.resident() as f64 / f64::from(1 << 20)
}

/// What the last line about it in the log says.
fn read_in(log: &str) -> Option<Duration> {
    let line = log
        .lines()
        .rfind(|line| line.contains("the store has been read"))?;
    let millis = line.split("millis=").nth(1)?;
    let digits: String = millis.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_start_of_a_log_counts() {
        let log = "x the store has been read kept=1 millis=7\n\
                   y the store has been read kept=2 gone=0 millis=1234\nserving\n";
        assert_eq!(read_in(log), Some(Duration::from_millis(1234)));
        assert_eq!(read_in("serving"), None);
    }
}
