//! Scenario files: conversations that SIP people can read, run against real shards.
//!
//! `language` reads a file into steps, `stage` holds the shards and phones, `send` and `expect`
//! are the two kinds of steps that speak SIP, and this file runs a case from its first line to
//! the end, where nothing may be left over.

mod bodies;
pub mod connections;
pub(crate) mod digest;
mod draft;
mod expect;
mod hints;
pub mod language;
pub mod reader;
mod send;
pub mod settings;
mod stage;
mod swaps;
mod variables;

use std::time::Duration;

use connections::Way;
use language::{Action, Case, Step};
use stage::Stage;

/// Runs one case on so many shards, its phones coming that way where it does not say; an error names its line and what
/// came instead.
pub fn run(case: &Case, shards: u16, way: &Way) -> Result<(), (usize, String)> {
    let mut settings = settings::Settings::default();
    settings.transport = way.transport;
    for step in &case.steps {
        if let Action::Set { key, value } = &step.action {
            settings
                .set(key, value)
                .map_err(|error| (step.line, error))?;
        }
    }
    let mut stage = Stage::new(&settings, shards, way).map_err(|error| (case.line, error))?;
    let mut line = case.line;
    for step in &case.steps {
        line = step.line;
        act(&mut stage, step).map_err(|error| (line, error))?;
    }
    stage.all_read().map_err(|error| (line, error))?;
    stage.let_everything_end().map_err(|error| {
        let after = format!("after the last step, when everything has expired: {error}");
        (line, after)
    })
}

fn act(stage: &mut Stage, step: &Step) -> Result<(), String> {
    match &step.action {
        Action::Set { .. } => Ok(()),
        Action::Reload { key, value } => stage.reload(key, value),
        Action::Phone { name, address } => stage.place(name, address),
        Action::Answers { phone, status } => {
            stage.phone(phone).answers = *status;
            Ok(())
        }
        Action::Send {
            phone,
            words,
            lines,
        } => send::send(stage, phone, words, lines),
        Action::Expect {
            phone,
            words,
            lines,
        } => expect::expect(stage, phone, words, lines),
        Action::Hint { resource, words } => hints::change(stage, resource, words),
        Action::Advance(duration) => {
            stage.all_read()?;
            stage.advance(*duration)
        }
        Action::Asleep(duration) => {
            stage.all_read()?;
            stage.witness.sends_fail = true;
            stage.now = stage.now + *duration;
            stage.advance(Duration::ZERO)
        }
        Action::Lose { phone, count } => {
            stage.phone(phone).lose = *count;
            Ok(())
        }
        Action::Refuse { count } => {
            stage.refuse = *count;
            Ok(())
        }
        Action::Snapshot {
            begins,
            source,
            epoch,
        } => hints::snapshot(stage, *begins, source, *epoch),
        Action::Listen { name, address } => stage.listen(name, address),
        Action::Unlisten { name } => stage.unlisten(name),
        Action::Swap { words } => stage.swap(words),
        Action::Draining(count) => stage.drains(*count),
        Action::Drain(within) => stage.drain(*within),
        Action::Connection { phone, end } => stage.end_connection(phone, *end),
        Action::Closed { phone } => stage.is_closed(phone),
        Action::Cut(length) => {
            stage.connections.cut(*length);
            Ok(())
        }
        Action::Hold => {
            stage.held = true;
            Ok(())
        }
        Action::Go => stage.go(),
        Action::Ignore { phone } => {
            stage.phone(phone).inbox.clear();
            Ok(())
        }
    }
}
