//! The `context-memory` process.

use std::process::ExitCode;

use context_memory::{App, Config};
use tutti_proto::memory::v1::session_service_server::SERVICE_NAME;
use tutti_server::process::{self, Program, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PROGRAM: Program = Program::peer("context-memory", &[]).serving(&[SERVICE_NAME]);

fn main() -> ExitCode {
    process::run(PROGRAM, Config::read, async |context| {
        let config = Config { embedded: false, ..context.config };
        let app = App::start(config, &context.server.data_dir, &context.readiness).await?;
        Ok(Running::new(app.services(), async move |grace| app.stop(grace).await))
    })
}
