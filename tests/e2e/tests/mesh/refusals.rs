//! What does not start, and why it says so.

use std::{fs, os::unix::fs::PermissionsExt as _};

use tonic::Code;
use tutti_error::{Reason, reason_of};
use tutti_proto::{
    llm::v1::{Message, Role, ToolCall},
    router::v1::ChatRequest,
};
use tutti_testkit::{Process, ProcessBuilder};

use crate::support::{Mesh, PATIENCE, ask, tutti_up, tutti_up_at, user};

const EXIT_CONFIG: Option<i32> = Some(78);

/// Runs a command that must refuse; gives what it says.
async fn refusal(builder: ProcessBuilder) -> String {
    let mut process = builder.start();
    let status = process.wait(PATIENCE).await;
    assert_eq!(status.code(), EXIT_CONFIG, "{}{}", process.stdout(), process.stderr());
    process.stderr()
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused_without_authentication() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let said = {
            let builder = Process::binary("tutti");
            let data = builder.scratch().data_dir();
            refusal(tutti_up_at(builder, address, &data)).await
        };
        assert!(said.contains("not authenticated"), "{said}");
    }
    for service in ["router", "provider-gateway", "context-memory", "tool-sandbox", "usage-ledger"] {
        let builder = Process::binary(service);
        let peers = ["router", "gateway", "memory", "sandbox", "ledger"]
            .map(|name| format!("{name} = \"http://127.0.0.1:9\"\n"));
        builder.scratch().write_config("config.toml", &format!("[mesh]\n{}", peers.concat()));
        let (config, data) = (builder.scratch().config_dir(), builder.scratch().data_dir());
        let builder = builder.arg("--config-dir").arg(config).arg("--data-dir").arg(data);
        let said = refusal(builder.args(["--listen", "0.0.0.0:0"])).await;
        assert!(said.contains("not authenticated"), "{service}: {said}");
    }
}

#[tokio::test]
async fn all_problems_of_the_configuration_are_reported_at_once_with_their_lines() {
    let builder = Process::binary("tutti");
    let wrong = "[orchestrator]\ndefault_backend = \"claud\"\n\n[tools]\npermission_mode = \"sometimes\"\ntimeout_seconds = true\ntypo = 1\n";
    let file = builder.scratch().write_config("config.toml", wrong);
    let config = builder.scratch().config_dir();
    let said = refusal(builder.args(["config", "check", "--config-dir"]).arg(config)).await;
    for line in [2, 5, 6, 7] {
        assert!(said.contains(&format!("{}:{line}:", file.display())), "line {line}: {said}");
    }
    assert!(said.contains("claude"), "no nearest name: {said}");
}

#[tokio::test]
async fn credentials_that_others_can_read_are_refused() {
    let builder = tutti_up();
    let file = builder.scratch().write_config("credentials.toml", "[openai]\napi_key = \"sk-secret-secret\"\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = refusal(builder).await;
    assert!(said.contains("chmod 600"), "{said}");
    assert!(!said.contains("sk-secret-secret"));
}

#[tokio::test]
async fn a_dump_masks_secrets_and_names_origins() {
    let builder = Process::binary("tutti");
    builder.scratch().write_config("config.toml", "[orchestrator]\ndefault_backend = \"openai\"\n");
    builder.scratch().write_config("credentials.toml", "[openai]\napi_key = \"sk-secret-secret-secret\"\n");
    let config = builder.scratch().config_dir();
    let mut dump = builder.args(["config", "dump", "--config-dir"]).arg(config).start();
    assert!(dump.wait(PATIENCE).await.success(), "{}", dump.stderr());
    let text = dump.stdout();
    assert!(text.contains("default_backend = \"openai\"") && text.contains("config.toml:2"), "{text}");
    assert!(!text.contains("sk-secret-secret-secret"), "{text}");
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused() {
    let mesh = Mesh::start().await;
    let builder = tutti_up_at(Process::binary("tutti"), "127.0.0.1:0", &mesh.process.scratch().data_dir());
    let mut second = builder.start();
    assert!(!second.wait(PATIENCE).await.success());
    assert!(second.stderr().contains("in use by another process"), "{}", second.stderr());
}

#[tokio::test]
async fn malformed_requests_name_their_field() {
    let mesh = Mesh::start().await;
    let call = |arguments: &str| Message {
        role: Role::Assistant.into(),
        tool_calls: vec![ToolCall {
            id: "a".into(),
            name: "t".into(),
            arguments_json: arguments.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let with = |message: Message| ChatRequest { messages: vec![message], ..Default::default() };
    let huge = user(&"x".repeat(31 << 20));
    let too_large_for_the_transport = user(&"x".repeat(33 << 20));
    let cases = [
        (ChatRequest::default(), Reason::InvalidRequest, "messages"),
        (with(user("")), Reason::InvalidRequest, "messages[0].text"),
        (with(call("{\"a\":")), Reason::InvalidRequest, "messages[0].tool_calls[0].arguments_json"),
        (with(huge), Reason::MessageTooLarge, "messages"),
        (with(too_large_for_the_transport), Reason::MessageTooLarge, "larger than 32 MiB"),
    ];
    for (chat, reason, says) in cases {
        let status = mesh.chat(chat).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status)), (Code::InvalidArgument, Some(reason)), "{status:?}");
        assert!(status.message().contains(says), "{}", status.message());
    }
}

#[tokio::test]
async fn unknown_names_come_with_the_nearest() {
    let mesh = Mesh::start().await;
    let cases = [
        (ask("claud", "hi"), Reason::UnknownBackend, "claude"),
        (ChatRequest { persona: "architekt".into(), ..ask("", "hi") }, Reason::UnknownPersona, "architect"),
        (ChatRequest { model: "gpt-4oo".into(), ..ask("", "hi") }, Reason::UnknownModel, "gpt-4o"),
        (ChatRequest { mesh_tools: vec!["raed".into()], ..ask("", "hi") }, Reason::UnknownTool, "read"),
    ];
    for (chat, reason, nearest) in cases {
        let status = mesh.chat(chat).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status)), (Code::NotFound, Some(reason)), "{status:?}");
        assert!(status.message().contains(nearest), "{}", status.message());
    }
}
