//! Programs: their output, and their end.

use std::time::{Duration, Instant};

use tonic::Code;
use tutti_error::Reason;
use tutti_proto::sandbox::v1::{OutputStream, execute_response::Event};

use crate::support::{LONG, Sandbox, assert_status, bash, call, lives, result, until, with_key};

/// Starts processes that try to outlive the command, each with its number in a file: in the background, in a session of
/// its own, and twice removed with nobody waiting for it.
const STUBBORN: &str = "sleep 1000 & echo $! >a; \
    setsid sh -c 'echo $$ >b; exec sleep 1000' & \
    (setsid sh -c '(trap \"\" TERM HUP INT; sh -c \"echo \\$\\$ >c; exec sleep 1000\" & ) ' & ) ; \
    until [ -s a ] && [ -s b ] && [ -s c ]; do sleep 0.01; done; ";

fn pids(sandbox: &Sandbox) -> Vec<String> {
    ["a", "b", "c"]
        .into_iter()
        .filter_map(|name| sandbox.content(name))
        .filter(|text| !text.trim().is_empty())
        .collect()
}

async fn all_gone(sandbox: &Sandbox) {
    let pids = pids(sandbox);
    assert_eq!(pids.len(), 3);
    until("all processes are gone", || pids.iter().all(|pid| !lives(pid))).await;
}

fn text_of(events: &[Event], stream: OutputStream) -> String {
    let outputs = events.iter().filter_map(|event| match event {
        Event::Output(output) if output.stream() == stream => Some(output.text.as_str()),
        _ => None,
    });
    outputs.collect()
}

#[tokio::test]
async fn output_and_exit_status_come_back() {
    let sandbox = Sandbox::open("").await;
    let events = sandbox.events(bash("echo out; echo err >&2")).await.unwrap();
    assert_eq!(text_of(&events, OutputStream::Stdout), "out\n");
    assert_eq!(text_of(&events, OutputStream::Stderr), "err\n");
    let result = result(events);
    assert!(result.success && result.output.contains("out\n") && result.output.contains("err\n"), "{result:?}");
    assert_eq!((result.exit_code, result.isolation.as_str(), result.truncated), (Some(0), "none", false));
    let failed = sandbox.run("run_shell_command", r#"{"command": "echo partial; exit 3"}"#).await;
    assert_eq!((failed.success, failed.reason(), failed.exit_code), (false, Reason::ToolFailed, Some(3)));
    assert_eq!((failed.output.as_str(), failed.error.as_str()), ("partial\n", "the command failed: exit status 3"));
    assert_eq!(sandbox.run("bash", r#"{"command": "kill -9 $$"}"#).await.exit_code, Some(-1));
}

#[tokio::test]
async fn output_streams_while_the_command_runs_and_in_order() {
    let sandbox = Sandbox::open("").await;
    let command =
        "for n in 1 2 3; do echo $n; until [ -e go$n ]; do sleep 0.01; done; done; printf '\\xc3'; printf '\\xa4'";
    let mut stream = sandbox.start(bash(command)).await.unwrap();
    let mut seen = String::new();
    for n in 1..=3 {
        while !seen.ends_with(&format!("{n}\n")) {
            match stream.message().await.unwrap().unwrap().event {
                Some(Event::Output(output)) => seen.push_str(&output.text),
                other => panic!("{other:?}"),
            }
        }
        // Only now may it go on: the output was here before its end.
        sandbox.file(&format!("go{n}"), "");
    }
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        events.push(response.event.unwrap());
    }
    assert_eq!(text_of(&events, OutputStream::Stdout), "ä");
    assert_eq!(result(events).output, "1\n2\n3\nä");
}

#[tokio::test]
async fn the_environment_is_clean_and_nothing_can_be_typed_in() {
    let sandbox = Sandbox::open("").await;
    let env = result(sandbox.events(bash("env; pwd; cat")).await.unwrap());
    let names: Vec<&str> = env.output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for name in &names {
        let known = ["PATH", "HOME", "LANG", "TERM", "TMPDIR", "TUTTI_CALL_ID", "PWD", "SHLVL", "_"];
        assert!(known.contains(name), "{name} in {names:?}");
    }
    let home = std::fs::canonicalize(sandbox.path("")).unwrap().display().to_string();
    assert!(env.output.contains(&format!("\n{}\n", home.trim_end_matches('/'))), "{env:?}");
}

#[tokio::test]
async fn a_command_starts_in_its_folder_and_never_outside() {
    let sandbox = Sandbox::open("").await;
    sandbox.file("sub/file", "");
    assert_eq!(sandbox.run("bash", r#"{"command": "ls", "working_dir": "sub"}"#).await.output, "file\n");
    for folder in ["..", "/tmp", "sub/../.."] {
        let result = sandbox.run("bash", &format!(r#"{{"command": "ls", "working_dir": "{folder}"}}"#)).await;
        assert_eq!(result.reason(), Reason::PathOutsideWorkspace, "{folder}");
    }
    let missing = sandbox.run("bash", r#"{"command": "ls", "working_dir": "missing"}"#).await;
    assert_eq!(missing.reason(), Reason::ToolFailed);
}

#[tokio::test]
async fn nothing_outlives_a_command_that_ends_by_itself() {
    let sandbox = Sandbox::open("").await;
    let began = Instant::now();
    let result = result(sandbox.events(bash(&format!("{STUBBORN} echo done"))).await.unwrap());
    assert!(result.success && result.output == "done\n", "{result:?}");
    // The pipes are still open in those it started: their end is not waited for.
    assert!(began.elapsed() < Duration::from_secs(30));
    all_gone(&sandbox).await;
}

#[tokio::test]
async fn a_timeout_kills_the_whole_tree() {
    let sandbox = Sandbox::open("[tools.bash]\ntimeout = \"4s\"\n").await;
    let result = result(sandbox.events(bash(&format!("echo begun; {STUBBORN} sleep 1000"))).await.unwrap());
    assert_eq!((result.reason(), result.exit_code, result.success), (Reason::ToolTimeout, Some(-1), false));
    assert_eq!(result.output, "begun\n");
    assert!(result.error.contains("of 4s"), "{result:?}");
    all_gone(&sandbox).await;
    assert_eq!(sandbox.records().await[0].reason(), Reason::ToolTimeout);
}

#[tokio::test]
async fn a_caller_that_goes_away_kills_the_whole_tree() {
    let sandbox = Sandbox::open("").await;
    let stream = sandbox.start(bash(&format!("{STUBBORN} sleep 1000"))).await.unwrap();
    until("all are started", || pids(&sandbox).len() == 3).await;
    assert!(!sandbox.records().await[0].finished);
    drop(stream);
    all_gone(&sandbox).await;
    let record = sandbox.finished().await;
    assert_eq!((record.reason(), record.exit_code, record.success), (Reason::Cancelled, Some(-1), false));
}

#[tokio::test]
async fn the_callers_deadline_kills_the_whole_tree() {
    let sandbox = Sandbox::open("").await;
    let request = bash(&format!("{STUBBORN} sleep 1000"));
    let mut stream = sandbox.start_within(request, Duration::from_secs(4)).await.unwrap();
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => (),
            Ok(None) => panic!("ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded);
    all_gone(&sandbox).await;
}

#[tokio::test]
async fn stopping_the_service_kills_what_runs() {
    let mut sandbox = Sandbox::open("").await;
    let mut stream = sandbox.start(bash(&format!("{STUBBORN} sleep 1000"))).await.unwrap();
    until("all are started", || pids(&sandbox).len() == 3).await;
    sandbox.stop().await;
    all_gone(&sandbox).await;
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        events.push(response.event.unwrap());
    }
    assert_eq!(result(events).reason(), Reason::ShuttingDown);
}

#[tokio::test]
async fn long_output_keeps_both_ends() {
    let sandbox = Sandbox::open("max_output_bytes = 2048\n").await;
    let events = sandbox.events(bash("echo first; seq 1000 3000; echo last")).await.unwrap();
    assert_eq!(text_of(&events, OutputStream::Stdout).len(), 6 + 5 * 2001 + 5);
    let result = result(events);
    assert!(result.success && result.truncated && result.output.len() < 2200, "{}", result.output.len());
    assert!(result.output.starts_with("first\n1000\n") && result.output.ends_with("3000\nlast\n"), "{}", result.output);
    assert_eq!(sandbox.records().await[0].output_bytes, 6 + 5 * 2001 + 5);
}

#[tokio::test]
async fn endless_output_is_ended() {
    let sandbox = Sandbox::open("max_output_bytes = 65536\n").await;
    let result = result(sandbox.events(bash("yes & yes")).await.unwrap());
    assert_eq!((result.reason(), result.exit_code, result.truncated), (Reason::ToolOutputLimit, Some(-1), true));
    assert!(result.output.len() < 66_000);
}

#[tokio::test]
async fn a_reader_that_stalls_holds_the_program_back_and_the_timeout_still_holds() {
    let sandbox = Sandbox::open("[tools.bash]\ntimeout = \"1s\"\n").await;
    let stream = sandbox.start(bash("echo $$ >pid; yes >&1")).await.unwrap();
    until("it runs", || sandbox.content("pid").is_some_and(|pid| !pid.trim().is_empty())).await;
    let pid = sandbox.content("pid").unwrap();
    until("it is killed", || !lives(&pid)).await;
    drop(stream);
    let record = sandbox.finished().await;
    assert_eq!(record.reason(), Reason::ToolTimeout);
    assert!(record.output_bytes < 2 * 1024 * 1024, "{}", record.output_bytes);
}

#[tokio::test]
async fn too_many_calls_are_refused_with_a_time_to_come_back() {
    let sandbox = Sandbox::open("max_concurrent = 1\n").await;
    let stream = sandbox.start(bash("sleep 1000")).await.unwrap();
    let status = sandbox.refused(call("list_dir", "{}")).await;
    assert_status(&status, Code::ResourceExhausted, Reason::Overloaded);
    assert!(tutti_error::from_status(&status, "sandbox").retry_delay().is_some());
    // A refused call has not used its key up.
    let keyed = || with_key("k", call("list_dir", "{}"));
    assert_status(&sandbox.refused(keyed()).await, Code::ResourceExhausted, Reason::Overloaded);
    drop(stream);
    let end = Instant::now() + LONG;
    while sandbox.events(keyed()).await.is_err() {
        assert!(Instant::now() < end, "the place is never free again");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_this_process_inherited_is_closed_for_commands() {
    use nix::{fcntl::OFlag, sys::stat::Mode};
    let sandbox = Sandbox::open("").await;
    sandbox.file("secret", "s");
    // As from whoever started us: without the mark that closes it in children.
    let inherited = nix::fcntl::open(&sandbox.path("secret"), OFlag::O_RDONLY, Mode::empty()).unwrap();
    let shown = result(sandbox.events(bash("readlink /proc/$$/fd/*; echo \"$0 $#\"; exit 3")).await.unwrap());
    assert!(!shown.output.contains("secret"), "{}", shown.output);
    assert!(shown.output.contains("pipe:") && shown.output.contains("bash 0"), "{}", shown.output);
    assert_eq!(shown.exit_code, Some(3));
    drop(inherited);
}
