//! The system packages that the tests need, and what each is for. Installs them through apt where it may,
//! else says the exact command.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::run::in_path;

/// How to see that a package is there, whatever the distribution calls it.
enum Proof {
    Program(&'static str),
    /// A file below the library folders.
    Library(&'static str),
}

struct Package {
    name: &'static str,
    proof: Proof,
    needed_by: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "sip-tester",
        proof: Proof::Program("sipp"),
        needed_by: "tests/sipp.rs and loadtest/: SIPp scenarios",
    },
    Package {
        name: "kamailio",
        proof: Proof::Program("kamailio"),
        needed_by: "tests/interop.rs: a proxy whose calls light lamps; tests/swap.rs: an edge proxy",
    },
    Package {
        name: "kamailio-presence-modules",
        proof: Proof::Library("kamailio/modules/pua_dialoginfo.so"),
        needed_by: "tests/interop.rs: pua_dialoginfo publishes the calls",
    },
    Package {
        name: "baresip-core",
        proof: Proof::Program("baresip"),
        needed_by: "tests/interop.rs: a real phone that watches presence",
    },
    Package {
        name: "kamailio-tls-modules",
        proof: Proof::Library("kamailio/modules/tls.so"),
        needed_by: "tests/interop.rs: an edge that speaks TLS",
    },
    Package {
        name: "chromium",
        proof: Proof::Program("chromium"),
        needed_by: "tests/interop.rs: a page that watches lamps",
    },
    Package {
        name: "npm",
        proof: Proof::Program("npm"),
        needed_by: "tests/interop.rs: fetches the SIP stack of that page",
    },
    Package {
        name: "valgrind",
        proof: Proof::Program("valgrind"),
        needed_by: "cargo xtask bench: instruction counts",
    },
];

const ATTEMPTS: u64 = 3;

/// Installs what is missing; true if nothing is missing afterwards.
pub fn install() -> bool {
    let missing = missing();
    if missing.is_empty() {
        println!("all system packages are there");
        return true;
    }
    for package in &missing {
        println!("missing: {} ({})", package.name, package.needed_by);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let by_hand = format!(
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
        names.join(" ")
    );
    let Some(prefix) = privilege() else {
        eprintln!(
            "xtask: not allowed to install packages here. Run this, then try again:\n\n  {by_hand}\n"
        );
        return false;
    };
    for attempt in 1..=ATTEMPTS {
        let installed = apt(prefix, &["update"]) && {
            let mut arguments = vec!["install", "-y", "--no-install-recommends"];
            arguments.extend(&names);
            apt(prefix, &arguments)
        };
        if installed {
            break;
        }
        eprintln!("xtask: apt-get failed ({attempt} of {ATTEMPTS})");
        if attempt < ATTEMPTS {
            // A lock held by another apt, or a mirror in a bad moment.
            std::thread::sleep(Duration::from_secs(10 * attempt));
        }
    }
    if names.contains(&"kamailio") {
        quiet_kamailio(prefix);
    }
    let still = self::missing();
    if still.is_empty() {
        return true;
    }
    let names: Vec<&str> = still.iter().map(|package| package.name).collect();
    eprintln!(
        "xtask: still missing: {}. By hand:\n\n  {by_hand}\n",
        names.join(" ")
    );
    false
}

fn missing() -> Vec<&'static Package> {
    PACKAGES
        .iter()
        .filter(|package| !is_there(&package.proof))
        .collect()
}

fn is_there(proof: &Proof) -> bool {
    match proof {
        Proof::Program(name) => in_path(name),
        Proof::Library(file) => library_folders()
            .iter()
            .any(|folder| Path::new(folder).join(file).is_file()),
    }
}

/// `/usr/lib` and the folders of each architecture below it.
fn library_folders() -> Vec<std::path::PathBuf> {
    let mut folders = vec![
        "/usr/lib".into(),
        "/usr/lib64".into(),
        "/usr/local/lib".into(),
        "/usr/local/lib64".into(),
    ];
    let below = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
    folders
}

/// What to put before a command that needs root; None if we may not become root without being asked.
fn privilege() -> Option<&'static [&'static str]> {
    if !in_path("apt-get") {
        return None;
    }
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).output().ok()?;
    sudo.status.success().then_some(&["sudo", "-n"])
}

fn apt(prefix: &[&str], arguments: &[&str]) -> bool {
    let mut words = prefix.to_vec();
    words.extend([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-o",
        "Acquire::Retries=3",
    ]);
    words.extend(arguments);
    println!("$ {}", words.join(" "));
    Command::new(words[0])
        .args(&words[1..])
        .status()
        .is_ok_and(|status| status.success())
}

/// Its package starts a server on port 5060 where there is a systemd; the tests only need the program.
fn quiet_kamailio(prefix: &[&str]) {
    if !Path::new("/run/systemd/system").exists() {
        return;
    }
    let mut words = prefix.to_vec();
    words.extend(["systemctl", "disable", "--now", "kamailio"]);
    println!("$ {}", words.join(" "));
    let _ = Command::new(words[0]).args(&words[1..]).status();
}
