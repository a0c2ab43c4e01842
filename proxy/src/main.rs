//! The program `pgveil`: arguments, then one command.

use std::{io::ErrorKind, panic, process::ExitCode};

use clap::Parser;
use pgveil::cli::{Arguments, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    end_when_nobody_reads();
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

/// `pgveil audit list | head`: whoever read the output has enough. `println!` panics then; a shell expects what SIGPIPE does.
fn end_when_nobody_reads() {
    const SIGPIPE: i32 = 128 + 13;
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        let nobody = ErrorKind::BrokenPipe.to_string();
        let is_told = said.to_ascii_lowercase().contains(&nobody);
        if said.starts_with("failed printing to stdout") && is_told {
            std::process::exit(SIGPIPE);
        }
        before(panic);
    }));
}
