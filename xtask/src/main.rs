//! The project's own commands: `cargo xtask test`, `check` and what `help` lists.
//! It starts other programs and judges their outcome; it holds nothing of the product.

mod canaries;
mod instructions;
mod load;
mod npm;
mod packages;
mod rules;
mod run;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test          everything: installs what the tests need, then format, clippy, tidy, tests, simulator, SIPp
  check         the quick part: format, clippy, tidy, unit tests
  sim [ARG…]    the simulator, e.g. `sim --seeds 5000`
  canaries [NAME…]
                plants each known bug into a copy of the tree, and demands that the simulator finds it
  bench [ARG…]  criterion benches, then instruction counts against those in the tree (`--bless` keeps the new ones,
                `--instructions` leaves out criterion)
  load NAME …   a load from loadtest/ against a release build; `load` alone lists the names; `load --tls-aws-lc NAME …`
                against one with aws-lc-rs
  fuzz run [SEED] [COUNT]   mutated messages through every fuzz body
  rules         which rules of RFCs the code names, and which of them no test names
  packages      only installs what the tests need: system packages, and one from npm below target/
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let passed = match command.as_str() {
        "test" => test::everything(),
        "check" => test::quick(),
        "sim" => run::cargo(
            &["run", "--quiet", "--package", "lampfield-sim", "--"],
            rest,
        ),
        "canaries" => canaries::canaries(rest),
        "bench" => instructions::bench(rest),
        "load" => load::load(rest),
        "fuzz" => run::cargo(
            &[
                "run",
                "--quiet",
                "--release",
                "--package",
                "lampfield-fuzz",
                "--",
            ],
            rest,
        ),
        "rules" => rules::report(),
        "packages" => packages::install() && npm::fetch(),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            true
        }
        unknown => {
            eprintln!("xtask: unknown command `{unknown}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
