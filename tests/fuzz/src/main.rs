//! Runs mutations through every body: `cargo run --release -p lampfield-fuzz -- [SEED] [COUNT]`.
//! A message that breaks a body is written to `crash.sip` in the current directory.

use std::process::ExitCode;

use lampfield_fuzz::{BODIES, mutate::Mutator, seeds};

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse().expect("SEED and COUNT are numbers"))
        .collect();
    let seed = numbers.first().copied().unwrap_or(1);
    let count = numbers.get(1).copied().unwrap_or(1_000_000);
    println!("seed {seed}, {count} messages");
    let mut mutator = Mutator::new(seed, seeds::messages());
    for number in 0..count {
        let message = mutator.next_message();
        let sound = std::panic::catch_unwind(|| BODIES.iter().for_each(|(_, body)| body(&message)));
        if sound.is_err() {
            std::fs::write("crash.sip", &message).expect("crash.sip can be written");
            println!("message {number} breaks a body; it is in crash.sip");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
