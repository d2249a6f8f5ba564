//! The usage ledger as a process of its own.

use std::process::ExitCode;

use tutti_server::process::{self, Program, Running};
use usage_ledger::{App, Config};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    process::run(Program::peer("usage-ledger", &[]), Config::read, async |context| {
        let app = App::start(context.config, &context.server.data_dir).await?;
        Ok(Running::new(app.services(), async |grace| app.stop(grace).await))
    })
}
