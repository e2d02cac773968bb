//! What a load found, as a table for people and as JSON for machines.

use std::fmt::Write;
use std::time::Duration;

use crate::phone::Seen;
use crate::server::Cpu;

/// One figure.
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    /// What it should not pass.
    goal: Option<f64>,
}

/// The figures of one load, and everything that was wrong.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    problems: Vec<String>,
}

impl Report {
    pub fn figure(&mut self, name: &str, value: f64, unit: &'static str) {
        self.push(name, value, unit, None);
    }

    /// A figure that the project has set itself a mark for. Passing it is no failure: machines differ.
    pub fn goal(&mut self, name: &str, value: f64, unit: &'static str, goal: f64) {
        self.push(name, value, unit, Some(goal));
    }

    fn push(&mut self, name: &str, value: f64, unit: &'static str, goal: Option<f64>) {
        self.rows.push(Row {
            name: name.to_owned(),
            value,
            unit,
            goal,
        });
    }

    pub fn count(&mut self, name: &str, value: u64) {
        self.figure(name, value as f64, "");
    }

    pub fn time(&mut self, name: &str, value: Duration) {
        self.figure(name, value.as_secs_f64() * 1000.0, "ms");
    }

    /// Processor time per thing done, for each thread that used some.
    pub fn threads(&mut self, cpu: &Cpu, per: u64, what: &str) {
        for (name, nanoseconds) in &cpu.threads {
            let share = *nanoseconds as f64 / 1000.0 / per.max(1) as f64;
            if share >= 0.005 {
                self.figure(&format!("  thread {name}, per {what}"), share, "µs");
            }
        }
    }

    /// Something that must not happen: the load fails.
    pub fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// The counters that every load has, and as problems those that must be zero.
    pub fn seen(&mut self, seen: &Seen) {
        self.count("requests sent", seen.requests_sent);
        self.count("requests sent again", seen.requests_again);
        self.count("NOTIFYs taken", seen.notifies);
        self.count("NOTIFYs retransmitted to us", seen.notifies_again);
        self.count("NOTIFYs missed (gaps in CSeq)", seen.notifies_missed);
        self.count("longest NOTIFY, bytes", seen.notify_bytes_max);
        for (name, value) in [
            ("requests refused for now", seen.refusals),
            ("answers that came twice", seen.answers_again),
            ("NOTIFYs before their 200", seen.notifies_before_answer),
            ("NOTIFYs overtaken on their way", seen.notifies_overtaken),
            ("connections opened", seen.connections_opened),
            ("  of them with a handshake", seen.handshakes),
            ("  of them to ask once and go", seen.visits),
            ("  of them ended with their address", seen.connections_ended),
            ("datagrams lost on purpose", seen.datagrams_lost_on_purpose),
            ("dialogs begun twice", seen.dialogs_begun_twice),
            ("requests given up", seen.given_up),
            ("times that the phones stood still", seen.standstills),
            (
                "last NOTIFYs that died with the server, or stood still with it",
                seen.last_notifies_lost,
            ),
            ("sends that the kernel refused", seen.sends_refused),
        ] {
            if value > 0 {
                self.count(name, value);
            }
        }
        for (name, value) in seen.wrongs() {
            if value > 0 {
                self.problem(format!("{value} {name}"));
            }
        }
        if seen.requests_unanswered > 0 {
            self.problem(format!(
                "{} requests were never answered",
                seen.requests_unanswered
            ));
        }
    }

    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        let width = self.rows.iter().map(|row| row.name.chars().count()).max();
        let width = width.unwrap_or(0);
        for row in &self.rows {
            let value = decimal(row.value);
            let gap = width - row.name.chars().count();
            let _ = write!(
                text,
                "{}{} {value:>12} {:<3}",
                row.name,
                " ".repeat(gap),
                row.unit
            );
            if let Some(goal) = row.goal {
                let verdict = if row.value <= goal { "within" } else { "ABOVE" };
                let _ = write!(text, " {verdict} {}", decimal(goal));
            }
            text.push('\n');
        }
        for problem in &self.problems {
            let _ = writeln!(text, "WRONG: {problem}");
        }
        text
    }

    pub fn json(&self, load: &str, seed: u64) -> String {
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|row| {
                let goal = row
                    .goal
                    .map_or(String::new(), |goal| format!(",\"goal\":{goal}"));
                format!(
                    "{{\"name\":{:?},\"value\":{},\"unit\":{:?}{goal}}}",
                    row.name.trim_start(),
                    row.value,
                    row.unit
                )
            })
            .collect();
        let problems: Vec<String> = self
            .problems
            .iter()
            .map(|text| format!("{text:?}"))
            .collect();
        format!(
            "{{\"load\":{load:?},\"seed\":{seed},\"figures\":[{}],\"problems\":[{}]}}",
            rows.join(","),
            problems.join(",")
        )
    }
}

/// Whole numbers whole, others with as many digits as mean something.
fn decimal(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value.abs() < 100.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

/// The value that this part (0..=1) of the sorted ones does not pass.
pub fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// The middle one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_good_until_something_was_wrong() {
        let mut report = Report::default();
        report.goal("CPU per NOTIFY", 7.5, "µs", 8.0);
        report.seen(&Seen::default());
        assert!(report.is_good());
        assert!(report.table().contains("within 8"));
        report.seen(&Seen {
            cseq_went_back: 1,
            ..Seen::default()
        });
        assert!(!report.is_good());
        assert!(
            report
                .json("x", 1)
                .contains("\"problems\":[\"1 NOTIFYs whose CSeq went back\"]")
        );
    }

    #[test]
    fn percentiles_and_medians_of_few_values() {
        let values: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 1.0), Duration::from_millis(100));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
