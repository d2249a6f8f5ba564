//! The tool sandbox as a process of its own.

use std::process::ExitCode;

use tool_sandbox::{App, Config};
use tutti_proto::sandbox::v1::{audit_service_server, tool_service_server};
use tutti_server::process::{self, Program, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PROGRAM: Program = Program::peer("tool-sandbox", &[])
    .serving(&[tool_service_server::SERVICE_NAME, audit_service_server::SERVICE_NAME]);

fn main() -> ExitCode {
    process::run(PROGRAM, Config::read, async |context| {
        let app = App::start(context.config, &context.server.data_dir, &context.readiness).await?;
        Ok(Running::new(app.services(), async |grace| app.stop(grace).await))
    })
}
