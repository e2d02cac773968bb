//! The keys behind what phones are told: kept in the data directory, readable by nobody else.

use core::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::partition::Secrets;

/// The file's name in the data directory.
const FILE: &str = "secrets";
/// What its only line begins with; the keys follow as hexadecimal digits.
const HEADER: &str = "lampfield-secrets-1 ";

/// Why there are no secrets.
#[derive(Debug)]
pub enum SecretsError {
    Directory(PathBuf, io::Error),
    File(PathBuf, io::Error),
    /// Others may read it.
    Exposed(PathBuf),
    /// It holds something else.
    Damaged(PathBuf),
    /// The kernel gave no random bytes.
    Random(getrandom::Error),
}

impl fmt::Display for SecretsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretsError::Directory(path, error) => {
                write!(f, "data directory {}: {error}", path.display())
            }
            SecretsError::File(path, error) => write!(f, "{}: {error}", path.display()),
            SecretsError::Exposed(path) => write!(
                f,
                "{0} can be read by others; say `chmod 600 {0}`, or remove it if others may have read it",
                path.display()
            ),
            SecretsError::Damaged(path) => write!(
                f,
                "{0} does not hold secrets; if nothing else is in it, remove it: phones will subscribe anew",
                path.display()
            ),
            SecretsError::Random(error) => write!(f, "no random numbers: {error}"),
        }
    }
}

impl core::error::Error for SecretsError {}

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], SecretsError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SecretsError::Random)?;
    Ok(bytes)
}

/// Those of the data directory, made if they are not there. Without a directory they last as long as the process.
pub fn load(data_dir: Option<&Path>) -> Result<Secrets, SecretsError> {
    let Some(directory) = data_dir else {
        return Ok(Secrets::new(random()?));
    };
    fs::create_dir_all(directory)
        .map_err(|error| SecretsError::Directory(directory.to_owned(), error))?;
    let path = directory.join(FILE);
    match File::open(&path) {
        Ok(file) => read(file, &path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secrets = Secrets::new(random()?);
            write(directory, &secrets).map_err(|error| SecretsError::File(path, error))?;
            Ok(secrets)
        }
        Err(error) => Err(SecretsError::File(path, error)),
    }
}

/// Writes those of this process once more where they are not there any more: without them nothing else in the data directory
/// is worth anything.
pub fn keep(data_dir: &Path, secrets: &Secrets) -> io::Result<()> {
    if data_dir.join(FILE).try_exists()? {
        return Ok(());
    }
    fs::create_dir_all(data_dir)?;
    write(data_dir, secrets)
}

fn read(file: File, path: &Path) -> Result<Secrets, SecretsError> {
    let failed = |error| SecretsError::File(path.to_owned(), error);
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(SecretsError::Exposed(path.to_owned()));
    }
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).map_err(failed)?;
    let master = text.trim_end().strip_prefix(HEADER).and_then(parse_hex);
    let master = master.ok_or_else(|| SecretsError::Damaged(path.to_owned()))?;
    Ok(Secrets::new(master))
}

/// Written whole under another name first: a crash leaves no half of them.
fn write(directory: &Path, secrets: &Secrets) -> io::Result<()> {
    let mut line = HEADER.to_owned();
    for byte in secrets.master() {
        line.push_str(&format!("{byte:02x}"));
    }
    line.push('\n');
    let temporary = directory.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file
        .write_all(line.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, directory.join(FILE)))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        // It is in the way of the next attempt.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = core::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for one test, removed with everything in it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("lampfield-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).expect("a directory for the test");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn partition(secrets: &Secrets) -> [u8; 16] {
        secrets.derive(b"a test")
    }

    #[test]
    fn secrets_outlive_the_process_and_nobody_else_can_read_them() {
        let scratch = Scratch::new("secrets-kept");
        let directory = scratch.0.join("deeper");
        let first = load(Some(&directory)).expect("made");
        let again = load(Some(&directory)).expect("read");
        assert_eq!(partition(&first), partition(&again));
        let metadata = fs::metadata(directory.join(FILE)).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        let other = load(None).expect("made");
        assert_ne!(partition(&first), partition(&other));
    }

    #[test]
    fn secrets_that_others_can_read_are_refused() {
        let scratch = Scratch::new("secrets-exposed");
        load(Some(&scratch.0)).expect("made");
        let path = scratch.0.join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let error = load(Some(&scratch.0)).expect_err("exposed").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn damaged_secrets_are_refused_and_not_replaced() {
        let scratch = Scratch::new("secrets-damaged");
        load(Some(&scratch.0)).expect("made");
        let path = scratch.0.join(FILE);
        fs::write(&path, "lampfield-secrets-1 00").expect("written");
        assert!(matches!(
            load(Some(&scratch.0)),
            Err(SecretsError::Damaged(_))
        ));
        assert_eq!(fs::read(&path).expect("there"), b"lampfield-secrets-1 00");
    }
}
