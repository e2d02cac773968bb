//! A file system of the test's own: a small tmpfs that nobody else sees, because it is mounted in a namespace that ends with
//! the test. A user who is not root makes that namespace with one of users around it; where neither is allowed the test
//! fails, and says what is missing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::restart::listens_on;
use crate::server::{Scratch, Server, lampfield};

/// How to get a namespace of mounts, and how to get into it.
const WAYS: [(&[&str], &[&str]); 2] = [
    (&["--mount"], &["--mount"]),
    (
        &["--user", "--map-root-user", "--mount"],
        &["--user", "--preserve-credentials", "--mount"],
    ),
];

const NAME: &str = "lampfield-test";

/// A file system with little room.
pub struct SmallDisk {
    /// Holds the namespace, and ends when nobody says anything to it any more.
    keeper: Child,
    way_in: &'static [&'static str],
    path: PathBuf,
}

impl SmallDisk {
    /// Where a scratch directory has its data.
    pub fn mount(scratch: &Scratch) -> SmallDisk {
        let path = scratch.0.join("data");
        fs::create_dir_all(&path).expect("a directory");
        let mut failed = String::new();
        for (way, way_in) in WAYS {
            match keep(way, &path) {
                Ok(keeper) => {
                    return SmallDisk {
                        keeper,
                        way_in,
                        path,
                    };
                }
                Err(why) => failed += &format!("\nunshare {}: {why}", way.join(" ")),
            }
        }
        panic!(
            "this test needs a file system of its own, which takes root or namespaces of users \
             (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns; \
             unshare, nsenter and mount of util-linux):{failed}"
        );
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("a file");
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![b'x'; size];
            while file.write_all(&piece).is_ok() {}
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("removed");
    }

    /// Nobody may write. It takes that no file is open for writing.
    pub fn protect(&self) {
        self.remount("remount,ro");
        let refused = fs::File::create(self.filler()).expect_err("it is read-only");
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }

    pub fn unprotect(&self) {
        self.remount("remount,rw");
    }

    fn remount(&self, option: &str) {
        let mut mount = self.enter();
        // With its name no options of the mounting come with it: they would name users that the namespace has not.
        mount.args(["mount", "-o", option, NAME]).arg(&self.path);
        let status = mount.status().expect("nsenter runs");
        assert!(status.success(), "mount -o {option}");
    }

    /// A server that has its data there.
    pub fn start(&self, scratch: &Scratch, port: u16, more: &[&str]) -> Server {
        let mut program = self.enter();
        program.arg(lampfield().get_program());
        let arguments = listens_on(scratch, port);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Server::start_by(program, &[&arguments[..], more].concat())
    }

    /// What follows runs where it is mounted.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.keeper.id()))
            .args(self.way_in)
            .env_remove("LAMPFIELD_TOKEN")
            .env_remove("RUST_LOG");
        command
    }

    /// As seen from outside.
    fn filler(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        let path = self.path.strip_prefix("/").expect("an absolute path");
        root.join(path).join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A process in a namespace of its own in which a small disk is mounted there.
fn keep(way: &[&str], path: &Path) -> Result<Child, String> {
    let mount = format!("mount -t tmpfs -o size=96m,mode=700 {NAME} \"$0\"");
    let script = format!("{mount} && echo mounted && exec cat");
    let keeper = Command::new("unshare")
        .args(way)
        .args(["sh", "-c", &script])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut keeper = keeper.map_err(|error| error.to_string())?;
    let mut line = String::new();
    let said = BufReader::new(keeper.stdout.take().expect("piped")).read_line(&mut line);
    if said.is_ok() && line == "mounted\n" {
        return Ok(keeper);
    }
    let status = keeper.wait();
    Err(status.map_or_else(|error| error.to_string(), |status| status.to_string()))
}
