//! A disk that answers EIO, for one program: the kernel asks the test about each call by which that program writes or
//! syncs a file (a seccomp filter with a listener, which its threads inherit), and is told to carry it out or to answer EIO.
//! It takes no root, no module and no device, and the page cache holds what a real disk might have lost.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// What is answered EIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    Nothing,
    Syncs,
    Writes,
    Both,
}

const SYNCS: [i64; 2] = [libc::SYS_fsync, libc::SYS_fdatasync];
const WRITES: [i64; 4] = [
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
];

impl Fails {
    const ALL: [Fails; 4] = [Fails::Nothing, Fails::Syncs, Fails::Writes, Fails::Both];

    fn includes(self, call: i64) -> bool {
        match self {
            Fails::Nothing => false,
            Fails::Syncs => SYNCS.contains(&call),
            Fails::Writes => WRITES.contains(&call),
            Fails::Both => SYNCS.contains(&call) || WRITES.contains(&call),
        }
    }
}

/// What becomes of the files below a directory.
pub struct Faults(Arc<State>);

struct State {
    directory: PathBuf,
    /// A place in [`Fails::ALL`].
    fails: AtomicUsize,
    given: AtomicU64,
}

impl Faults {
    /// Nothing fails yet.
    pub fn below(directory: &Path) -> Faults {
        Faults(Arc::new(State {
            directory: fs::canonicalize(directory).expect("a directory"),
            fails: AtomicUsize::new(0),
            given: AtomicU64::new(0),
        }))
    }

    /// From now on.
    pub fn fail(&self, what: Fails) {
        let place = Fails::ALL.iter().position(|one| *one == what);
        let place = place.expect("one of all");
        self.0.fails.store(place, Ordering::Relaxed);
    }

    /// How many calls were answered EIO.
    pub fn given(&self) -> u64 {
        self.0.given.load(Ordering::Relaxed)
    }

    /// Whatever programs this starts have such a disk.
    pub fn around<T: Send>(&self, start: impl FnOnce() -> T + Send) -> T {
        let (sender, listener) = mpsc::channel();
        let state = Arc::clone(&self.0);
        // It is not below the filter itself, and ends when nobody is.
        thread::spawn(move || {
            if let Ok(listener) = listener.recv() {
                state.judge(&listener);
            }
        });
        thread::scope(|scope| {
            let filtered = scope.spawn(move || {
                sender.send(listen().expect("a filter")).expect("a judge");
                start()
            });
            filtered.join().expect("it starts")
        })
    }
}

impl State {
    fn judge(&self, listener: &OwnedFd) {
        while let Some(asked) = receive(listener) {
            let fails = Fails::ALL[self.fails.load(Ordering::Relaxed)];
            let call = i64::from(asked.data.nr);
            let eio = fails.includes(call) && self.is_below(asked.pid, asked.data.args[0]);
            self.given.fetch_add(u64::from(eio), Ordering::Relaxed);
            answer(listener, asked.id, eio);
        }
    }

    fn is_below(&self, thread: u32, file: u64) -> bool {
        let name = fs::read_link(format!("/proc/{thread}/fd/{file}"));
        name.is_ok_and(|name| name.starts_with(&self.directory))
    }
}

/// Puts this thread, and whatever it starts, below a filter. Who holds the listener is asked about each call of ours.
fn listen() -> io::Result<OwnedFd> {
    let instruction = |code: u32, jump: usize, value: u32| libc::sock_filter {
        code: code as u16,
        jt: jump as u8,
        jf: 0,
        k: value,
    };
    let calls: Vec<i64> = SYNCS.into_iter().chain(WRITES).collect();
    // The number of the call is the first thing that is known of it.
    let mut program = vec![instruction(
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        0,
        0,
    )];
    for (at, call) in calls.iter().enumerate() {
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        // Over the other calls, and over what allows all the rest.
        program.push(instruction(equal, calls.len() - at, *call as u32));
    }
    let returns = libc::BPF_RET | libc::BPF_K;
    program.push(instruction(returns, 0, libc::SECCOMP_RET_ALLOW));
    program.push(instruction(returns, 0, libc::SECCOMP_RET_USER_NOTIF));
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: it takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program is alive, and so long; the kernel copies it.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as i32) })
}

/// The next call; None: nobody is below the filter any more.
fn receive(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    loop {
        let mut poll = libc::pollfd {
            fd: listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: it is one, and it is alive.
        let ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
        if ready == 1 && poll.revents & libc::POLLIN == 0 {
            return None;
        }
        // SAFETY: all of it are numbers, and the kernel wants them to be 0.
        let mut asked: libc::seccomp_notif = unsafe { core::mem::zeroed() };
        // SAFETY: the kernel writes one such structure there.
        let received = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut asked,
            )
        };
        // Who asked may have been killed meanwhile.
        if received == 0 {
            return Some(asked);
        }
    }
}

fn answer(listener: &OwnedFd, id: u64, eio: bool) {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: if eio { -libc::EIO } else { 0 },
        flags: if eio {
            0
        } else {
            libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32
        },
    };
    // SAFETY: the kernel reads one such structure there. Who asked may be gone: then nobody wants to know.
    let _ = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut answer,
        )
    };
}
