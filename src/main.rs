//! The `chancery` binary.

use std::process::ExitCode;

/// Gives memory back to the system after bursts, and fragments little over months. How it is tuned is in
/// `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    chancery::cli::run()
}
