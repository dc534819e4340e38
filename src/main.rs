//! The binary. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    vigie::cli::main(std::env::args_os())
}
