//! A scripted model provider over real HTTP.
//!
//! It speaks four wire formats (OpenAI Chat Completions, Anthropic Messages, Gemini
//! `generateContent`, Ollama chat) closely enough for the official SDKs, answers
//! deterministically, fails on command and remembers every request it saw by the attempt
//! id sent in `x-client-request-id`. The prompt language, the scenario file and the
//! `/sim/*` endpoints are described in this crate's `README.md`.
//!
//! ```no_run
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tutti_simulator::{Fault, Rule, Scenario, SimConfig, Simulator};
//!
//! let twice_busy = Rule::new().model("gpt-*").first(2).fault(Fault::status(429).retry_after(0.1));
//! let sim = Simulator::start(SimConfig::new().scenario(Scenario::new().rule(twice_busy))).await?;
//! println!("http://{}/v1", sim.addr());
//! sim.wait_for(|sim| sim.stats().faulted == 2, Duration::from_secs(5)).await?;
//! sim.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod anthropic;
mod ask;
mod body;
mod config;
mod digest;
mod embed;
mod fault;
mod format;
mod gemini;
mod instance;
mod json;
mod ollama;
mod openai;
mod plan;
mod problem;
mod record;
mod route;
mod scenario;
mod script;
mod serve;
mod server;
mod socket;
mod stream;

pub use config::SimConfig;
pub use fault::{Fault, FaultSyntax, UsageFault};
pub use format::{Endpoint, Format};
pub use problem::ErrorKind;
pub use record::{RequestRecord, RequestState, Stats};
pub use scenario::{Rule, Scenario, ScenarioError};
pub use server::{SimHandle, Simulator, WaitTimeout};
