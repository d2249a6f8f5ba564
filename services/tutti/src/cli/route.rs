//! `tutti route`: explains a decision without making a call.

use tutti_proto::router::v1::{Candidate, RouteRequest, router_service_client::RouterServiceClient};

use super::{Connection, Failure, show, table::table, turn::Turn};

/// `tutti route`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    turn: Turn,
}

/// Shows every candidate and why it was taken or left.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut client = RouterServiceClient::new(args.connection.channel()?);
    let chat = args.turn.into_request()?;
    let request = args.connection.request(RouteRequest { chat: Some(chat) });
    let route = client.route(request).await.map_err(|s| args.connection.failure(&s))?.into_inner();
    let persona = if route.persona.is_empty() { "none" } else { &route.persona };
    show(format!(
        "task {} (from {}), persona {persona}, about {} tokens in, at most {} out\n\n",
        route.task_type, route.task_type_from, route.prompt_tokens, route.max_output_tokens
    ))?;
    let rows: Vec<_> = route.candidates.iter().map(row).collect();
    show(table(["place", "backend", "model", "why"], &rows))
}

fn row(candidate: &Candidate) -> [String; 4] {
    let place = if candidate.place == 0 { "left".to_owned() } else { candidate.place.to_string() };
    [place, candidate.backend.clone(), candidate.model.clone(), candidate.explanation.clone()]
}
