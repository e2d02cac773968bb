//! The named loads, and what they share: a server, a field of phones before it, and ways to drive them
//! that are bounded in count and in time.

mod churn;
mod cost;
mod endurance;
mod expire;
mod fanout;
mod idle;
mod ledger;
mod memory;
mod publish;
mod rates;
mod restart;
mod restore;
mod storm;
mod swap;
mod swaps;
mod things;

pub use swaps::Kind;

use std::io;
use std::time::Duration;

use crate::edge::Edge;
use crate::field::Field;
use crate::http::Feeder;
use crate::lamp::State;
use crate::options::{Load, Options};
use crate::phone::Stage;
use crate::report::Report;
use crate::server::Server;

/// How many requests may wait for their answers in a closed loop.
const WINDOW: usize = 128;
/// Through a proxy: its sockets have the system's usual buffers, and what it loses is not the server's fault.
const WINDOW_OF_EDGE: usize = 32;
/// Longest wait for anything: 64·T1 and a little.
const PATIENCE: Duration = Duration::from_secs(40);
/// When every phone must be right after the last change.
const RIGHT_AFTER: Duration = Duration::from_secs(5);

/// A server with phones before it.
pub struct Site<'a> {
    pub options: &'a Options,
    pub server: &'a mut Server,
    pub field: Field,
}

/// Runs the load that the options name.
pub fn run(options: &Options, server: &mut Server) -> io::Result<Report> {
    let mut report = Report::default();
    let mut edge = options
        .kamailio
        .then(|| Edge::start(options.ip()))
        .transpose()?;
    let field = Field::new(
        options.plan(server, edge.as_ref().map(|edge| edge.phones))?,
        options.count(),
        options.resources(),
    )?;
    let mut site = Site {
        options,
        server,
        field,
    };
    match options.load {
        Load::Subscribe => rates::subscribe(&mut site, &mut report),
        Load::Burst => rates::burst(&mut site, &mut report),
        Load::Storm => storm::run(&mut site, &mut report)?,
        Load::Refresh => rates::refresh(&mut site, &mut report),
        Load::Fanout => fanout::run(&mut site, &mut report)?,
        Load::Memory => memory::run(&mut site, &mut report),
        Load::Publish => publish::run(&mut site, &mut report)?,
        Load::Churn => match options.minutes {
            Some(minutes) => endurance::run(&mut site, &mut report, minutes)?,
            None => churn::run(&mut site, &mut report)?,
        },
        Load::Swap => swap::run(&mut site, &mut report)?,
        Load::Cost => cost::run(&mut site, &mut report)?,
        Load::Idle => idle::run(&mut site, &mut report)?,
        Load::Expire => expire::run(&mut site, &mut report)?,
        Load::Restart => restart::run(&mut site, &mut report)?,
        Load::Restore => restore::run(&mut site, &mut report)?,
    }
    if edge.as_mut().is_some_and(|edge| !edge.runs()) {
        report.problem("Kamailio ended".to_owned());
    }
    report.seen(&site.field.seen);
    judge(&site, &mut report);
    let dropped = site.server.drops();
    if dropped > 0 {
        report.count("datagrams the kernel dropped at the server", dropped);
    }
    let dropped = site.field.drops();
    if dropped > 0 {
        report.count("datagrams the kernel dropped at the phones", dropped);
    }
    Ok(report)
}

/// What must hold at the end of every load.
fn judge(site: &Site<'_>, report: &mut Report) {
    let field = &site.field;
    for metric in ["lampfield_bugs_total", "lampfield_subscriptions_overdue"] {
        if let Some(value) = site.server.metric(metric)
            && value > 0.0
        {
            report.problem(format!("the server's {metric} is {value}"));
        }
    }
    if let Some(value) = site.server.metric("lampfield_limit_reached_total")
        && value > 0.0
    {
        report.figure("limits that the server reached", value, "");
    }
    if field.wrong() > 0 {
        report.problem(format!("{} lamps are wrong at the end", field.wrong()));
    }
    if field.open() > 0 {
        report.problem(format!(
            "{} phones still wait for an answer or a NOTIFY",
            field.open()
        ));
    }
    for text in field.failures().iter().chain(&field.oddities) {
        report.problem(text.clone());
    }
    for (call_id, knows) in field.suspects(5) {
        report.problem(format!(
            "{call_id}: the phone: {knows}; the server: {}",
            site.server.explain(&call_id)
        ));
    }
    for stage in [Stage::Subscribing, Stage::Refused, Stage::Leaving] {
        let count = field.count(stage);
        if count > 0 {
            report.problem(format!("{count} phones ended as {stage:?}"));
        }
    }
}

impl Site<'_> {
    /// Sets hints beside the phones. The notifiers to compare with take one at a time.
    pub fn feeder(&self) -> io::Result<Feeder> {
        let bulk = !self.options.baseline && !self.options.plain;
        Feeder::start(self.server.admin, bulk)
    }

    /// Has every phone of `phones` do something, with never more than a window of them waiting; those that wait longer than
    /// anybody has to are left out of it, and told of at the end.
    pub fn closed_loop(&mut self, phones: std::ops::Range<u32>, act: impl Fn(&mut Field, u32)) {
        let window = match self.field.plan.edge {
            None => WINDOW,
            Some(_) => WINDOW_OF_EDGE,
        };
        let mut most = window;
        for index in phones {
            self.turn_until(PATIENCE, |field| field.open() < most);
            if self.field.open() >= most {
                most = self.field.open() + window;
            }
            act(&mut self.field, index);
            if index % 16 == 0 {
                self.field.turn(Duration::ZERO);
            }
        }
        // Who was told to come again later does so within this.
        self.turn_until(PATIENCE, |field| field.open() == 0 && field.put_off() == 0);
    }

    /// Has every phone of `phones` do something, so many a second, however many wait.
    pub fn open_loop(
        &mut self,
        phones: std::ops::Range<u32>,
        rate: f64,
        act: impl Fn(&mut Field, u32),
    ) {
        let start = self.field.clock();
        let mut done = 0u32;
        let count = phones.len() as u32;
        while done < count {
            let due = (self.field.clock() - start).as_secs_f64() * rate;
            let due = (due as u32).min(count);
            // A turn between every few keeps our own receive buffers from filling.
            for index in done..due.min(done + 64) {
                act(&mut self.field, phones.start + index);
            }
            let behind = due > done + 64;
            done = due.min(done + 64);
            self.field.turn(if behind {
                Duration::ZERO
            } else {
                Duration::from_millis(1)
            });
        }
    }

    /// Until nothing is owed to anyone, or patience ends.
    pub fn settle(&mut self) {
        self.turn_until(PATIENCE, |field| field.open() == 0);
    }

    /// Until every active phone is right, or patience ends. Whether they are.
    pub fn until_right(&mut self, patience: Duration) -> bool {
        self.turn_until(patience, |field| field.wrong() == 0);
        self.field.wrong() == 0
    }

    /// Serves the phones for so long.
    pub fn rest(&mut self, time: Duration) {
        self.turn_until(time, |_| false);
    }

    fn turn_until(&mut self, patience: Duration, done: impl Fn(&Field) -> bool) {
        let start = self.field.clock();
        while !done(&self.field) && self.field.clock() - start < patience {
            self.field.turn(Duration::from_millis(10));
        }
    }
}

/// A state that differs from the one that is true of the resource.
fn other_state(field: &mut Field, resource: u32, states: &[State]) -> State {
    let now = field.resources[resource as usize].state;
    loop {
        let state = states[field.random.below(states.len() as u32) as usize];
        if state != now {
            return state;
        }
    }
}
