//! The program `pgveil`: arguments, then one command.

use std::process::ExitCode;

use clap::Parser;
use pgveil::cli::{Arguments, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pgveil: the runtime cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    let code = runtime.block_on(run(arguments));
    runtime.shutdown_background();
    code
}
