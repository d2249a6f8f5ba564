//! `tutti stats`.

use tutti_proto::ledger::v1::{
    GetUsageRequest, UsageDimension, UsageFilter, UsageTotals, ledger_service_client::LedgerServiceClient,
};
use tutti_types::{NanoUsd, TokenCounts, time};

use super::{Connection, Failure, show, table::table};

/// `tutti stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// What to sum by
    #[arg(long, value_enum, default_value_t = By::Backend)]
    by: By,
    /// Only of this session
    #[arg(long)]
    session: Option<String>,
}

/// What to sum by.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum By {
    Backend,
    Model,
    Provider,
    Session,
    Project,
    Team,
    Task,
    Credential,
    Hour,
    Day,
}

impl By {
    fn dimension(self) -> UsageDimension {
        match self {
            Self::Backend => UsageDimension::Backend,
            Self::Model => UsageDimension::Model,
            Self::Provider => UsageDimension::Provider,
            Self::Session => UsageDimension::Session,
            Self::Project => UsageDimension::Project,
            Self::Team => UsageDimension::Team,
            Self::Task => UsageDimension::Task,
            Self::Credential => UsageDimension::Credential,
            Self::Hour => UsageDimension::Hour,
            Self::Day => UsageDimension::Day,
        }
    }
}

/// Shows the sums, and the total of everything below.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut client = LedgerServiceClient::new(args.connection.channel()?);
    let filter = UsageFilter { session_id: args.session.unwrap_or_default(), ..Default::default() };
    let mut rows = Vec::new();
    for group_by in [vec![args.by.dimension().into()], Vec::new()] {
        let asked = args.connection.request(GetUsageRequest { filter: Some(filter.clone()), group_by });
        let usage = client.get_usage(asked).await.map_err(|s| args.connection.failure(&s))?.into_inner();
        for group in usage.groups {
            let name = match group.key.first().map(String::as_str) {
                None => "total",
                Some("") => "-",
                Some(name) => name,
            };
            rows.push(row(name, &group.totals.unwrap_or_default()));
        }
    }
    let head = ["", "calls", "errors", "input", "cached", "output", "reasoning", "cost", "held", "latency"];
    show(table(head, &rows))
}

fn row(name: &str, totals: &UsageTotals) -> [String; 10] {
    let tokens = totals.tokens.as_ref().map(TokenCounts::from).unwrap_or_default();
    let assumed = if totals.assumed > 0 { format!(" ({} assumed)", totals.assumed) } else { String::new() };
    let latency = totals.mean_latency.as_ref().map(|l| format!("{:.0?}", time::from_wire(l)));
    [
        name.to_owned(),
        totals.attempts.to_string(),
        totals.errors.to_string(),
        tokens.input().to_string(),
        tokens.cache_read.to_string(),
        tokens.output().to_string(),
        tokens.reasoning.to_string(),
        format!("{}{assumed}", NanoUsd(totals.cost_nano_usd)),
        NanoUsd(totals.held_nano_usd).to_string(),
        latency.unwrap_or_default(),
    ]
}
