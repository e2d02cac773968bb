//! A load of the load tool, played against the program under test.

/// Plays it; what was wrong fails the test.
pub fn play(arguments: &str) {
    let program = env!("CARGO_BIN_EXE_lampfield");
    let program = ["--no-pin", "--server-binary", program];
    let arguments: Vec<&str> = arguments.split(' ').chain(program).collect();
    match lampfield_load::play(&arguments) {
        Ok(table) => println!("{table}"),
        Err(table) => panic!("{table}"),
    }
}
