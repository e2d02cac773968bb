//! `cargo run --release -p lampfield-fuzz -- run [SEED] [COUNT]` sends mutations through every body; a message that
//! breaks one is written to `crash.sip`. `… -- seeds DIRECTORY` writes the seeds for a coverage-guided fuzzer to start from.

use std::path::Path;
use std::process::ExitCode;

use lampfield_fuzz::{PARSERS, dialog, mutate::Mutator, seeds};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["run"] => run("1", "1000000"),
        ["run", seed] => run(seed, "1000000"),
        ["run", seed, count] => run(seed, count),
        ["seeds", directory] => write_seeds(Path::new(directory)),
        _ => {
            eprintln!("usage: lampfield-fuzz run [SEED] [COUNT] | seeds DIRECTORY");
            ExitCode::from(2)
        }
    }
}

fn run(seed: &str, count: &str) -> ExitCode {
    let (Ok(seed), Ok(count)) = (seed.parse::<u64>(), count.parse::<u64>()) else {
        eprintln!("SEED and COUNT are numbers");
        return ExitCode::from(2);
    };
    println!("seed {seed}, {count} messages");
    let mut mutator = Mutator::new(seed, seeds::messages());
    for number in 0..count {
        let message = mutator.next_message();
        let sound =
            std::panic::catch_unwind(|| PARSERS.iter().for_each(|(_, body)| body(&message)));
        if sound.is_err() {
            std::fs::write("crash.sip", &message).expect("crash.sip can be written");
            println!("message {number} breaks a body; it is in crash.sip");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn write_seeds(directory: &Path) -> ExitCode {
    std::fs::create_dir_all(directory).expect("the directory can be made");
    let seeds = seeds::messages().into_iter().chain(dialog::seeds());
    for (number, message) in seeds.enumerate() {
        let file = directory.join(format!("seed-{number:03}"));
        std::fs::write(file, message).expect("the file can be written");
    }
    ExitCode::SUCCESS
}
