//! The program. What it does is in the library; the allocator is chosen here.

#[cfg(feature = "server")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "server")]
fn main() -> std::process::ExitCode {
    lampfield::cli::main()
}

#[cfg(not(feature = "server"))]
fn main() {
    eprintln!("this program was built without its server; build it with the default features");
    std::process::exit(1);
}
