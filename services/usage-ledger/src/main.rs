//! The usage ledger as a process of its own.

use std::process::ExitCode;

use tutti_proto::ledger::v1::ledger_service_server::SERVICE_NAME;
use tutti_server::process::{self, Program, Running};
use usage_ledger::{App, Config};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PROGRAM: Program = Program::peer("usage-ledger", &[]).serving(&[SERVICE_NAME]);

fn main() -> ExitCode {
    process::run(PROGRAM, Config::read, async |context| {
        let app = App::start(context.config, &context.server.data_dir, &context.readiness).await?;
        Ok(Running::new(app.services(), async |grace| app.stop(grace).await))
    })
}
