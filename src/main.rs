//! The binary. Everything is in the library.

use std::process::ExitCode;

/// Returns freed memory to the system. The allocator of the C library keeps most of it after a burst of connections or a
/// large answer, and the next burst then meets the limit of the container.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    vigie::cli::main(std::env::args_os())
}
