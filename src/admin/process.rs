//! What the kernel knows of this process, under the names that Prometheus' own libraries use, so that the usual panels
//! show it.

use core::fmt::Write;

use procfs::process::{LimitValue, Process};

/// The names of the metrics, each with its help and type.
pub(super) const FAMILIES: [(&str, &str, &str); 7] = [
    (
        "process_cpu_seconds_total",
        "CPU time of all threads, in user and kernel mode.",
        "counter",
    ),
    (
        "process_resident_memory_bytes",
        "Memory that is in RAM.",
        "gauge",
    ),
    (
        "process_virtual_memory_bytes",
        "Address space, most of which is never touched.",
        "gauge",
    ),
    (
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        "gauge",
    ),
    ("process_open_fds", "Open file descriptors.", "gauge"),
    (
        "process_max_fds",
        "How many file descriptors may be open.",
        "gauge",
    ),
    ("process_threads", "Threads of the process.", "gauge"),
];

/// The figures, as Prometheus reads them. Nothing where `/proc` cannot be read.
pub(super) fn metrics() -> String {
    let mut out = String::new();
    for ((name, help, kind), value) in FAMILIES.iter().zip(read().into_iter().flatten()) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let _ = match value {
            f64::INFINITY => writeln!(out, "{name} +Inf"),
            value => writeln!(out, "{name} {value}"),
        };
    }
    out
}

/// In the order of the families.
fn read() -> Option<[f64; FAMILIES.len()]> {
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    let boot = procfs::boot_time_secs().ok()? as f64;
    let most_files = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(most) => most as f64,
        LimitValue::Unlimited => f64::INFINITY,
    };
    Some([
        (stat.utime + stat.stime) as f64 / ticks,
        (stat.rss * procfs::page_size()) as f64,
        stat.vsize as f64,
        boot + stat.starttime as f64 / ticks,
        process.fd_count().ok()? as f64,
        most_files,
        stat.num_threads as f64,
    ])
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn value(text: &str, name: &str) -> f64 {
        let start = format!("{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.expect(name).parse().unwrap()
    }

    #[test]
    fn each_figure_is_that_of_this_process() {
        let files: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/proc/self/stat").unwrap())
            .collect();
        let mut block = vec![1u8; 64 << 20];
        block[0] = 2;
        let text = metrics();
        assert!(value(&text, "process_open_fds") > files.len() as f64);
        assert!(value(&text, "process_open_fds") <= value(&text, "process_max_fds"));
        let resident = value(&text, "process_resident_memory_bytes");
        assert!(resident > block.len() as f64, "{resident}");
        assert!(value(&text, "process_virtual_memory_bytes") > resident);
        assert!(value(&text, "process_threads") >= 1.0);
        assert!(value(&text, "process_cpu_seconds_total") < 86_400.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value(&text, "process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        for (name, help, kind) in FAMILIES {
            assert!(text.contains(&format!(
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} "
            )));
        }
        assert_eq!(
            block.iter().map(|&byte| u64::from(byte)).sum::<u64>(),
            (64 << 20) + 1
        );
    }
}
