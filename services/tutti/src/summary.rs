//! What `tutti up` says when it is ready.

use std::{io::Write as _, net::SocketAddr, path::Path, time::Duration};

use tonic::Request;
use tutti_client::Channel;
use tutti_error::{Result, from_status};
use tutti_proto::router::v1::{ListBackendsRequest, ListBackendsResponse, router_service_client::RouterServiceClient};

use crate::mesh::Mesh;

/// Where the mesh listens.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) grpc: SocketAddr,
    /// The OpenAI-compatible door.
    pub(crate) http: SocketAddr,
    pub(crate) tls: bool,
}

/// Prints what is served, which backends were found, and how to make the first call.
///
/// # Errors
/// What the router answers when it can't list the backends.
pub(crate) async fn print(mesh: &Mesh, places: &Places, data_dir: &Path) -> Result<()> {
    let channel = Channel::in_process(mesh.services().stack(Duration::from_secs(10)));
    let listed = RouterServiceClient::new(channel)
        .list_backends(Request::new(ListBackendsRequest::default()))
        .await
        .map_err(|status| from_status(&status, "router"))?
        .into_inner();
    let text = text(&listed, mesh.services().names(), places, data_dir);
    // Nobody reads it when standard output is closed; the mesh runs all the same.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

fn text(listed: &ListBackendsResponse, names: &[&str], places: &Places, data_dir: &Path) -> String {
    let Places { grpc: address, http, tls } = *places;
    let scheme = if tls { "https" } else { "http" };
    let mut out = format!(
        "tutti is ready at {scheme}://{address}\n\n  services  {}\n  openai    {scheme}://{http}/v1 (the base_url of OpenAI's \
         SDKs)\n  data      {}\n",
        names.join("\n            "),
        data_dir.display()
    );
    let mut left = Vec::new();
    for (place, backend) in listed.backends.iter().filter(|b| b.usable).enumerate() {
        let label = if place == 0 { "backends" } else { "" };
        let what = if backend.simulator { "  Tutti's own simulator: not a model" } else { "" };
        out.push_str(&format!("  {label:<8}  {} ({}, {}){what}\n", backend.name, backend.provider, backend.model));
    }
    left.extend(listed.backends.iter().filter(|b| !b.usable));
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(|b| b.name.as_str()).collect();
        out.push_str(&format!("  left out  {} (no credential; `tutti backends` says more)\n", names.join(", ")));
    }
    if listed.backends.iter().any(|b| b.usable && b.simulator) {
        out.push_str("\n  There is a simulator among the backends: its answers are scripted. Set ANTHROPIC_API_KEY, OPENAI_API_KEY,\n  GEMINI_API_KEY … or start Ollama, to talk to models.\n");
    }
    let is_default = address == SocketAddr::from(([127, 0, 0, 1], 7070)) && !tls;
    let mut option = if is_default { String::new() } else { format!(" --address {scheme}://{address}") };
    let mut proof = "-plaintext";
    if tls {
        option.push_str(" --ca CA_FILE");
        proof = "-cacert CA_FILE";
    }
    out.push_str(&format!(
        "\n  first call\n    tutti chat{option} \"hello\"\n    grpcurl {proof} -d '{{\"messages\":[{{\"role\":\"ROLE_USER\",\"text\":\"hello\"}}]}}' \\\n      {address} tutti.router.v1.RouterService/Chat\n\n"
    ));
    out
}

#[cfg(test)]
mod tests {
    use tutti_proto::gateway::v1::BackendStatus;

    use super::*;

    #[test]
    fn a_simulator_is_named_as_such() {
        let backend = |name: &str, usable, simulator| BackendStatus {
            name: name.into(),
            usable,
            simulator,
            ..Default::default()
        };
        let mut listed = ListBackendsResponse {
            backends: vec![backend("claude", false, false), backend("simulator", true, true)],
            ..Default::default()
        };
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let places = Places { grpc: local(7071), http: local(8080), tls: false };
        let said = text(&listed, &["a.B"], &places, Path::new("data"));
        assert!(said.contains("openai    http://127.0.0.1:8080/v1 "), "{said}");
        assert!(said.contains("not a model") && said.contains("left out  claude"), "{said}");
        assert!(said.contains("--address http://127.0.0.1:7071"), "{said}");
        listed.backends = vec![backend("claude", true, false)];
        let said = text(&listed, &["a.B"], &Places { tls: true, ..places }, Path::new("data"));
        assert!(!said.contains("imulator") && said.contains("--address https://127.0.0.1:7071 --ca CA_FILE"), "{said}");
    }
}
