//! Is this kernel able to, and are we allowed to? Asked once, before anything is opened.
//! It tries, and says in words what is missing and what to do; it changes nothing.

use core::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, Probe, opcode};

use super::buffers::Buffers;
use super::post::eventfd;
use super::ring::{self, RingOptions};

/// The oldest kernel that has everything: `DEFER_TASKRUN`, and `SEND` with an address.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// What is missing. Its text names it, and what to do.
#[derive(Debug)]
pub enum Missing {
    /// Older than 6.1, or not named as Linux kernels are.
    Kernel { release: String },
    /// `kernel.io_uring_disabled` is not 0.
    SwitchedOff { value: u32 },
    /// The system call itself is refused, as container runtimes do.
    Refused { error: io::Error },
    /// The kernel has io_uring, but not this part of it.
    Feature {
        name: &'static str,
        error: Option<io::Error>,
    },
}

/// Everything that the shards' rings need, tried on a small one.
pub fn probe() -> Result<(), Missing> {
    let release = kernel_release();
    if !is_new_enough(&release) {
        return Err(Missing::Kernel { release });
    }
    let options = RingOptions {
        submissions: 4,
        completions: 8,
        receive_buffers: 4,
        datagram_size_max: 512,
        listeners_max: 1,
    };
    let ring = ring::build(&options).map_err(refusal)?;
    probe_features(&ring)?;
    probe_opcodes(&ring)?;
    probe_registrations(&ring, &options)?;
    // The runtime of streams, files and wake-ups has a ring of its own.
    tokio_uring::uring_builder()
        .build(4)
        .map(drop)
        .map_err(refusal)
}

fn probe_features(ring: &IoUring) -> Result<(), Missing> {
    let parameters = ring.params();
    let features = [
        (
            "completions that are never dropped (NODROP)",
            parameters.is_feature_nodrop(),
        ),
        (
            "sends that complete only when they fail (CQE_SKIP)",
            parameters.is_feature_skip_cqe_on_success(),
        ),
        (
            "entries that are read when submitted (SUBMIT_STABLE)",
            parameters.is_feature_submit_stable(),
        ),
        (
            "waiting without a thread (FAST_POLL)",
            parameters.is_feature_fast_poll(),
        ),
    ];
    match features.into_iter().find(|(_, there)| !there) {
        Some((name, _)) => Err(Missing::Feature { name, error: None }),
        None => Ok(()),
    }
}

fn probe_opcodes(ring: &IoUring) -> Result<(), Missing> {
    let mut known = Probe::new();
    ring.submitter()
        .register_probe(&mut known)
        .map_err(feature("asking for the operations (PROBE)"))?;
    let operations = [
        ("RECVMSG", opcode::RecvMsg::CODE),
        ("SEND", opcode::Send::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
        ("TIMEOUT", opcode::Timeout::CODE),
        ("TIMEOUT_REMOVE", opcode::TimeoutUpdate::CODE),
    ];
    match operations
        .into_iter()
        .find(|(_, code)| !known.is_supported(*code))
    {
        Some((name, _)) => Err(Missing::Feature { name, error: None }),
        None => Ok(()),
    }
}

fn probe_registrations(ring: &IoUring, options: &RingOptions) -> Result<(), Missing> {
    let submitter = ring.submitter();
    submitter
        .register_files_sparse(options.listeners_max)
        .map_err(feature("a table of files (REGISTER_FILES2)"))?;
    let wake = eventfd().map_err(feature("eventfd"))?;
    submitter
        .register_eventfd(wake.as_raw_fd())
        .map_err(feature("announcing completions (REGISTER_EVENTFD)"))?;
    // SAFETY: nothing is ever received on this ring.
    let buffers = unsafe { Buffers::register(&submitter, 0, options.receive_buffers, 1024) }
        .map_err(feature("rings of buffers (REGISTER_PBUF_RING)"))?;
    submitter
        .unregister_buf_ring(buffers.group())
        .map_err(feature("rings of buffers (UNREGISTER_PBUF_RING)"))
}

fn feature(name: &'static str) -> impl Fn(io::Error) -> Missing {
    move |error| Missing::Feature {
        name,
        error: Some(error),
    }
}

/// Why `io_uring_setup` failed, as far as it can be told.
fn refusal(error: io::Error) -> Missing {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    match error.raw_os_error() {
        Some(libc::EPERM) if disabled > 0 => Missing::SwitchedOff { value: disabled },
        Some(libc::EINVAL) => Missing::Feature {
            name: "deferred completions of a single thread (DEFER_TASKRUN)",
            error: Some(error),
        },
        Some(_) | None => Missing::Refused { error },
    }
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_else(|_| "unknown".to_owned())
}

fn is_new_enough(release: &str) -> bool {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= KERNEL_MIN,
        _ => false,
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = KERNEL_MIN;
        match self {
            Missing::Kernel { release } => write!(
                f,
                "Linux {major}.{minor} or later is needed for io_uring; this is {release}"
            ),
            Missing::SwitchedOff { value } => write!(
                f,
                "io_uring is switched off (kernel.io_uring_disabled = {value}); allow it with \
                 `sysctl kernel.io_uring_disabled=0`{}",
                if *value == 1 {
                    ", or run as a member of kernel.io_uring_group"
                } else {
                    ""
                }
            ),
            Missing::Refused { error } => write!(
                f,
                "io_uring_setup is refused: {error}; in a container allow io_uring_setup, \
                 io_uring_enter and io_uring_register in its seccomp profile \
                 (docker: --security-opt seccomp=FILE)"
            ),
            Missing::Feature { name, error } => {
                write!(f, "this kernel's io_uring lacks {name}")?;
                if let Some(error) = error {
                    write!(f, ": {error}")?;
                }
                write!(f, "; Linux {major}.{minor} or later has it")
            }
        }
    }
}

impl std::error::Error for Missing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number_and_not_by_text() {
        for new in ["6.1.0", "6.10.3-amd64", "6.1", "7.0-rc1", "10.0.0"] {
            assert!(is_new_enough(new), "{new}");
        }
        for old in ["6.0.19", "5.15.0-1-generic", "4.19", "unknown", "6", ""] {
            assert!(!is_new_enough(old), "{old}");
        }
    }

    #[test]
    fn what_is_missing_comes_with_what_to_do() {
        let refused = Missing::Refused {
            error: io::Error::from_raw_os_error(libc::EPERM),
        };
        assert!(refused.to_string().contains("seccomp"));
        let off = Missing::SwitchedOff { value: 2 };
        assert!(
            off.to_string()
                .contains("sysctl kernel.io_uring_disabled=0")
        );
        let old = Missing::Kernel {
            release: "5.10.0".into(),
        };
        assert!(old.to_string().contains("5.10.0"));
    }
}
