//! The text that Prometheus reads: one line for each counter and gauge of each shard.

use core::fmt::Write;

use crate::shard::control::Figures;
use crate::stats::{Counter, Description, Gauge};

/// All figures, in the order of the shards.
pub fn text(shards: &[Box<Figures>]) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let mut family = "";
    for &counter in Counter::ALL {
        let description = counter.description();
        header(&mut out, &mut family, description, "counter");
        for (shard, figures) in shards.iter().enumerate() {
            line(&mut out, description, shard, figures.stats.get(counter));
        }
    }
    for &gauge in Gauge::ALL {
        let description = gauge.description();
        header(&mut out, &mut family, description, "gauge");
        for (shard, figures) in shards.iter().enumerate() {
            line(&mut out, description, shard, figures.gauges.get(gauge));
        }
    }
    out
}

/// Once for each family.
fn header(out: &mut String, family: &mut &'static str, of: &'static Description, kind: &str) {
    if *family == of.name {
        return;
    }
    *family = of.name;
    let _ = writeln!(out, "# HELP {} {}", of.name, of.help);
    let _ = writeln!(out, "# TYPE {} {kind}", of.name);
}

fn line(out: &mut String, of: &Description, shard: usize, value: u64) {
    let _ = write!(out, "{}{{shard=\"{shard}\"", of.name);
    for (name, text) in of.labels {
        let _ = write!(out, ",{name}=\"{text}\"");
    }
    let _ = writeln!(out, "}} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_names_only_metrics_that_there_are() {
        let manual = include_str!("../../docs/operating.md");
        let mut named = 0;
        for word in manual.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if !word.starts_with("lampfield_") && !word.starts_with("process_") {
                continue;
            }
            named += 1;
            let counted = Counter::ALL
                .iter()
                .any(|one| one.description().name == word);
            let gauged = Gauge::ALL.iter().any(|one| one.description().name == word);
            let transports = crate::admin::transports::FAMILIES;
            let mut others = transports.iter().chain(&crate::admin::process::FAMILIES);
            let other = others.any(|(name, ..)| *name == word);
            assert!(counted || gauged || other, "{word}");
        }
        assert!(named > 5);
    }

    #[test]
    fn every_shard_has_its_line_under_one_header() {
        let mut second = Box::<Figures>::default();
        second.stats.add(Counter::RequestSubscribe, 7);
        let text = text(&[Box::default(), second]);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("lampfield_requests_total"))
            .collect();
        assert!(lines[0].starts_with("# HELP "));
        assert_eq!(lines[1], "# TYPE lampfield_requests_total counter");
        assert_eq!(
            lines[2],
            "lampfield_requests_total{shard=\"0\",method=\"SUBSCRIBE\"} 0"
        );
        assert_eq!(
            lines[3],
            "lampfield_requests_total{shard=\"1\",method=\"SUBSCRIBE\"} 7"
        );
        assert_eq!(text.matches("# TYPE lampfield_requests_total ").count(), 1);
        assert!(text.contains("lampfield_timers{shard=\"0\"} 0\n"));
    }
}
