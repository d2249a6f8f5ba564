//! The `router` process.

use std::process::ExitCode;

use router::{Addresses, App, Config};
use tutti_server::process::{self, Running};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let read = |reader: &tutti_config::Reader| (Config::read(reader), Addresses::read(reader));
    process::run("router", read, async |context| {
        let (config, addresses) = context.config;
        let app = App::start(config, addresses.connect()?).await?;
        Ok(Running::new(app.services(), async |grace| app.stop(grace).await))
    })
}
