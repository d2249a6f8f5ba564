//! The `context-memory` process.

use std::process::ExitCode;

use context_memory::{App, Config};
use tutti_server::process::{self, Program, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    process::run(Program::peer("context-memory", &[]), Config::read, async |context| {
        let config = Config { embedded: false, ..context.config };
        let app = App::start(config, &context.server.data_dir).await?;
        Ok(Running::new(app.services(), async move |grace| app.stop(grace).await))
    })
}
