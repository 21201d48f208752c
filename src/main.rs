//! The `driftless` program.

use std::process::ExitCode;

/// A fifth to a quarter less time in YAML and JSON than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    driftless::cli::main()
}
