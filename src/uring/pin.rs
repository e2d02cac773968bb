//! Which CPU each shard's thread runs on. It decides, and pins the calling thread; it starts none.

use core::fmt;
use core::str::FromStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the operator wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// Where nobody else is given the CPUs: as many of them as shards, and no quota.
    #[default]
    Auto,
    /// The kernel decides.
    Off,
    /// These, in the order of the shards.
    List(Vec<usize>),
}

/// What the process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// The affinity mask, ascending.
    pub allowed: Vec<usize>,
    /// A control group limits how much of them.
    pub quota: bool,
}

/// The CPU of each shard; `None` where the kernel decides.
pub fn plan(pin: &Pin, shards: u16, cpus: &Cpus) -> Result<Vec<Option<usize>>, PinError> {
    let shards = usize::from(shards);
    match pin {
        Pin::Off => Ok(vec![None; shards]),
        Pin::Auto if cpus.quota || cpus.allowed.len() != shards => Ok(vec![None; shards]),
        Pin::Auto => Ok(cpus.allowed.iter().copied().map(Some).collect()),
        Pin::List(list) if list.len() != shards => Err(PinError::Count {
            listed: list.len(),
            shards,
        }),
        Pin::List(list) => match list.iter().find(|cpu| !cpus.allowed.contains(cpu)) {
            Some(cpu) => Err(PinError::NotAllowed {
                cpu: *cpu,
                allowed: cpus.allowed.clone(),
            }),
            None => Ok(list.iter().copied().map(Some).collect()),
        },
    }
}

/// The CPUs of this process.
pub fn cpus() -> io::Result<Cpus> {
    let mut allowed = Vec::new();
    let mask = affinity()?;
    for cpu in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: `cpu` is below the size of the set.
        if unsafe { libc::CPU_ISSET(cpu, &mask) } {
            allowed.push(cpu);
        }
    }
    Ok(Cpus {
        allowed,
        quota: has_quota(),
    })
}

/// Keeps the calling thread on one CPU.
pub fn pin_this_thread(cpu: usize) -> io::Result<()> {
    // SAFETY: a set of bits, for which zero is a value.
    let mut mask: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    assert!(cpu < libc::CPU_SETSIZE as usize);
    // SAFETY: `cpu` is below the size of the set; the pointer is to a live one.
    let result = unsafe {
        libc::CPU_SET(cpu, &mut mask);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &mask)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn affinity() -> io::Result<libc::cpu_set_t> {
    // SAFETY: a set of bits, for which zero is a value; the pointer is to a live one.
    let (result, mask) = unsafe {
        let mut mask: libc::cpu_set_t = core::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        (libc::sched_getaffinity(0, size, &mut mask), mask)
    };
    if result == 0 {
        Ok(mask)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether a control group of this process, or one above it, limits CPU time.
fn has_quota() -> bool {
    let Ok(groups) = fs::read_to_string("/proc/self/cgroup") else {
        return false;
    };
    // NOT SIP: the control groups of this process, one in a line.
    groups
        .lines()
        .filter_map(quota_files)
        .any(|(root, group, file)| {
            Path::new(group.trim_start_matches('/'))
                .ancestors()
                .map(|group| root.join(group).join(file))
                .filter_map(|path| fs::read_to_string(path).ok())
                .any(|text| limits_time(&text))
        })
}

/// Where the limit of a line of `/proc/self/cgroup` stands: version 2, or the CPU controller of version 1.
fn quota_files(line: &str) -> Option<(PathBuf, &str, &'static str)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
    if controllers.is_empty() {
        Some((PathBuf::from("/sys/fs/cgroup"), group, "cpu.max"))
    } else if controllers.split(',').any(|name| name == "cpu") {
        let root = Path::new("/sys/fs/cgroup").join(controllers);
        Some((root, group, "cpu.cfs_quota_us"))
    } else {
        None
    }
}

/// `max 100000` and `-1` are no limits.
fn limits_time(text: &str) -> bool {
    text.split_ascii_whitespace()
        .next()
        .and_then(|quota| quota.parse::<i64>().ok())
        .is_some_and(|quota| quota > 0)
}

/// Why shards can not be pinned as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinError {
    /// The text is neither `auto` nor `off` nor a list of CPUs.
    Text(String),
    /// A list needs one CPU for each shard.
    Count { listed: usize, shards: usize },
    /// The process may not use this CPU.
    NotAllowed { cpu: usize, allowed: Vec<usize> },
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PinError::Text(text) => write!(
                f,
                "`{text}` is neither `auto` nor `off` nor a list of CPUs such as `0,2,4-7`"
            ),
            PinError::Count { listed, shards } => write!(
                f,
                "{listed} CPUs are listed for {shards} shards; list one for each"
            ),
            PinError::NotAllowed { cpu, allowed } => {
                write!(
                    f,
                    "this process may not run on CPU {cpu}, only on {allowed:?}"
                )
            }
        }
    }
}

impl std::error::Error for PinError {}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Pin, PinError> {
        match text {
            "auto" => Ok(Pin::Auto),
            "off" => Ok(Pin::Off),
            list => list
                .split(',')
                .map(parse_range)
                .collect::<Option<Vec<_>>>()
                .map(|ranges| Pin::List(ranges.into_iter().flatten().collect()))
                .ok_or_else(|| PinError::Text(text.to_owned())),
        }
    }
}

fn parse_range(text: &str) -> Option<core::ops::RangeInclusive<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < libc::CPU_SETSIZE as usize).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus_of(allowed: &[usize], quota: bool) -> Cpus {
        Cpus {
            allowed: allowed.to_vec(),
            quota,
        }
    }

    #[test]
    fn auto_pins_only_where_the_cpus_are_as_many_as_the_shards_and_without_quota() {
        let own = cpus_of(&[2, 3], false);
        assert_eq!(plan(&Pin::Auto, 2, &own), Ok(vec![Some(2), Some(3)]));
        assert_eq!(plan(&Pin::Auto, 1, &own), Ok(vec![None]));
        assert_eq!(plan(&Pin::Auto, 3, &own), Ok(vec![None; 3]));
        let limited = cpus_of(&[2, 3], true);
        assert_eq!(plan(&Pin::Auto, 2, &limited), Ok(vec![None; 2]));
        assert_eq!(plan(&Pin::Off, 2, &own), Ok(vec![None; 2]));
    }

    #[test]
    fn a_list_is_taken_in_its_order_or_refused() {
        let own = cpus_of(&[0, 1, 2, 3], false);
        let list: Pin = "3,0-1".parse().unwrap();
        assert_eq!(plan(&list, 3, &own), Ok(vec![Some(3), Some(0), Some(1)]));
        assert_eq!(
            plan(&list, 2, &own),
            Err(PinError::Count {
                listed: 3,
                shards: 2
            })
        );
        let beyond: Pin = "9".parse().unwrap();
        assert_eq!(
            plan(&beyond, 1, &own),
            Err(PinError::NotAllowed {
                cpu: 9,
                allowed: vec![0, 1, 2, 3]
            })
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "on", "1,", "3-1", "-1", "0-99999", "1;2"] {
            assert_eq!(
                text.parse::<Pin>(),
                Err(PinError::Text(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn quotas_of_both_versions_are_read() {
        assert!(limits_time("150000 100000\n"));
        assert!(limits_time("50000\n"));
        assert!(!limits_time("max 100000\n"));
        assert!(!limits_time("-1\n"));
        assert!(!limits_time(""));
        let root = PathBuf::from("/sys/fs/cgroup");
        assert_eq!(
            quota_files("0::/system.slice/a"),
            Some((root.clone(), "/system.slice/a", "cpu.max"))
        );
        assert_eq!(
            quota_files("4:cpu,cpuacct:/a"),
            Some((root.join("cpu,cpuacct"), "/a", "cpu.cfs_quota_us"))
        );
        assert_eq!(quota_files("5:memory:/a"), None);
    }

    #[test]
    fn this_process_may_use_a_cpu_and_a_thread_can_be_kept_there() {
        let allowed = cpus().unwrap().allowed;
        let last = *allowed.last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_this_thread(last).unwrap();
            cpus().unwrap().allowed
        });
        assert_eq!(pinned.join().unwrap(), [last]);
    }
}
