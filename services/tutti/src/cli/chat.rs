//! `tutti chat`: streams an answer to standard output, with a progress line and the bill on standard error.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

use tutti_proto::{
    llm::v1::{FinishReason, Usage},
    router::v1::{
        ChatResponse, ChatStreamRequest, RouteChosen, chat_stream_response::Event,
        router_service_client::RouterServiceClient,
    },
    sandbox::v1::{ToolOutput, ToolResult},
};
use tutti_types::{NanoUsd, time};

use super::{Connection, Failure, show, turn::Turn};

/// `tutti chat`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    turn: Turn,
    /// Only the answer, nothing on standard error
    #[arg(long, short)]
    quiet: bool,
}

/// Asks and streams.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut screen = Screen::new(args.quiet);
    let mut client = RouterServiceClient::new(args.connection.channel()?)
        .max_decoding_message_size(tutti_layers::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(tutti_layers::MAX_MESSAGE_BYTES);
    let chat = args.turn.into_request()?;
    screen.progress("routing");
    let request = args.connection.request(ChatStreamRequest { chat: Some(chat) });
    let opened = client.chat_stream(request).await;
    let mut stream = opened.map_err(|status| screen.fail(args.connection.failure(&status)))?.into_inner();
    loop {
        match stream.message().await {
            Ok(Some(event)) => screen.event(event.event)?,
            Ok(None) => return Ok(()),
            Err(status) => return Err(screen.fail(args.connection.failure(&status))),
        }
    }
}

/// What is on the terminal.
struct Screen {
    quiet: bool,
    terminal: bool,
    started: Instant,
    /// A progress line stands and must be wiped before anything else is written.
    progress: bool,
    /// The answer's last line has no end yet.
    open_line: bool,
}

impl Screen {
    fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { quiet, terminal, started: Instant::now(), progress: false, open_line: false }
    }

    fn event(&mut self, event: Option<Event>) -> Result<(), Failure> {
        match event {
            Some(Event::Delta(text)) => {
                self.wipe();
                self.open_line = !text.ends_with('\n');
                show(text)
            }
            Some(Event::Route(route)) => {
                self.route(&route);
                Ok(())
            }
            Some(Event::ToolCall(call)) => {
                self.note(&format!("→ {}({})", call.name, call.arguments_json));
                Ok(())
            }
            Some(Event::ApprovalRequired(approval)) => {
                self.note(&format!("approval required: {}", approval.because));
                Ok(())
            }
            Some(Event::ToolOutput(output)) => {
                self.tool_output(&output);
                Ok(())
            }
            Some(Event::ToolResult(result)) => {
                self.tool_result(&result);
                Ok(())
            }
            Some(Event::Warning(warning)) => {
                self.note(&format!("warning: {}", warning.text));
                Ok(())
            }
            Some(Event::Done(done)) => self.done(&done),
            Some(Event::Reasoning(_)) => {
                self.progress("thinking");
                Ok(())
            }
            Some(Event::Usage(_) | Event::Rewind(_)) | None => Ok(()),
        }
    }

    fn route(&mut self, route: &RouteChosen) {
        if let Some(failed) = &route.failed_attempt {
            self.note(&format!("{} failed: {}", failed.backend, failed.message));
        }
        self.progress(&format!("{} ({})", route.backend, route.model));
    }

    fn tool_output(&mut self, output: &ToolOutput) {
        if !self.quiet {
            self.wipe();
            // Progress only: a closed standard error takes nothing from the answer.
            let _ = write!(std::io::stderr(), "{}", output.text);
        }
    }

    fn tool_result(&mut self, result: &ToolResult) {
        let duration = result.duration.as_ref().map(time::from_wire).unwrap_or_default();
        if result.success {
            self.note(&format!("← {}: {} bytes in {duration:.1?}", result.name, result.output.len()));
        } else {
            self.note(&format!("← {} failed: {}", result.name, result.error));
        }
    }

    fn done(&mut self, done: &ChatResponse) -> Result<(), Failure> {
        self.wipe();
        if std::mem::take(&mut self.open_line) {
            show("\n")?;
        }
        if done.finish_reason() == FinishReason::ToolCalls {
            for call in done.message.iter().flat_map(|message| &message.tool_calls) {
                show(format!("{}({})\n", call.name, call.arguments_json))?;
            }
        }
        let usage = done.usage.unwrap_or_default();
        self.note(&format!("{} ({}) · {} · {:.1?}", done.backend, done.model, bill(&usage), self.started.elapsed()));
        if done.finish_reason() == FinishReason::Length {
            self.note("the answer was cut at the output cap; raise it with --max-tokens");
        }
        Ok(())
    }

    /// A line on standard error that the next one replaces.
    fn progress(&mut self, what: &str) {
        if self.quiet || !self.terminal || self.open_line {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f32();
        let _ = write!(std::io::stderr(), "\r\x1b[K{what} · {seconds:.1} s");
        self.progress = true;
    }

    /// A line on standard error that stays.
    fn note(&mut self, line: &str) {
        if self.quiet {
            return;
        }
        self.wipe();
        let end = if std::mem::take(&mut self.open_line) { "\n" } else { "" };
        let _ = writeln!(std::io::stderr(), "{end}{line}");
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.progress) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.wipe();
        if std::mem::take(&mut self.open_line) {
            let _ = writeln!(std::io::stderr());
        }
        failure
    }
}

/// Tokens and cost in a few words.
fn bill(usage: &Usage) -> String {
    let about = if usage.estimated { "~" } else { "" };
    format!("{} in, {} out, {about}{}", usage.input_tokens, usage.output_tokens, NanoUsd(usage.cost_nano_usd))
}
