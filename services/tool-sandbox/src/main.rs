//! The tool sandbox as a process of its own.

use std::process::ExitCode;

use tool_sandbox::{App, Config};
use tutti_server::process::{self, Program, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    process::run(Program::peer("tool-sandbox", &[]), Config::read, async |context| {
        let app = App::start(context.config, &context.server.data_dir).await?;
        Ok(Running::new(app.services(), async |grace| app.stop(grace).await))
    })
}
