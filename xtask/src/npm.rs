//! What the tests need from the npm registry: packages of a fixed version and checksum, kept below the target directory.
//! None of it is part of this repository or of what is built from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::run::root;

struct Package {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
    needed_by: &'static str,
}

const PACKAGES: &[Package] = &[Package {
    name: "sip.js",
    version: "0.21.2",
    sha256: "abbf374bccf50fdd0f659e24dd70a83a0bad09553bd16fa4b6c94021053f66cb",
    needed_by: "tests/interop.rs: a page in Chromium that watches lamps",
}];

const ATTEMPTS: u64 = 3;

/// Fetches and unpacks what is not there; true if everything is.
pub fn fetch() -> bool {
    PACKAGES.iter().all(|package| match fetch_one(package) {
        Ok(()) => true,
        Err(error) => {
            let Package { name, version, .. } = package;
            eprintln!(
                "xtask: {name} {version} from npm ({}): {error}",
                package.needed_by
            );
            false
        }
    })
}

fn fetch_one(package: &Package) -> Result<(), String> {
    let Package { name, version, .. } = package;
    let folder = root().join("target/npm");
    let archive = folder.join(format!("{name}-{version}.tgz"));
    let unpacked = folder.join(format!("{name}-{version}"));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    if archive.is_file() && unpacked.is_dir() && sum(&archive)? == package.sha256 {
        return Ok(());
    }
    for attempt in 1..=ATTEMPTS {
        println!("$ npm pack {name}@{version}");
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", &format!("{name}@{version}")])
            .current_dir(&folder);
        match run(&mut npm) {
            Ok(_) => break,
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_secs(10 * attempt)),
        }
    }
    let found = sum(&archive)?;
    if found != package.sha256 {
        // It must not be taken for the right one by who looks at its name only.
        fs::remove_file(&archive).map_err(|error| error.to_string())?;
        return Err(format!("its SHA-256 is {found}, not {}", package.sha256));
    }
    unpack(&archive, &unpacked)
}

fn unpack(archive: &Path, into: &PathBuf) -> Result<(), String> {
    if into.exists() {
        fs::remove_dir_all(into).map_err(|error| error.to_string())?;
    }
    fs::create_dir(into).map_err(|error| error.to_string())?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(into);
    tar.args(["--strip-components", "1", "--no-same-owner"]);
    run(&mut tar).map(drop)
}

fn sum(file: &Path) -> Result<String, String> {
    let output = run(Command::new("sha256sum").arg(file))?;
    let sum = output.split_whitespace().next();
    Ok(sum.unwrap_or_default().to_owned())
}

fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
