use super::*;

const SOON: Duration = Duration::from_secs(20);

fn shell(script: &str) -> ProcessBuilder {
    Process::program("/bin/sh").args(["-c", script])
}

fn number(line: &str) -> Option<u32> {
    line.strip_prefix("number ")?.parse().ok()
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn its_output_is_captured_and_waited_for() {
    let mut process = shell("echo start; echo warning >&2; echo number 42; exec cat").start();
    assert_eq!(process.wait_for_stdout(SOON, number).await, 42);
    process.wait_for_stderr(SOON, |line| (line == "warning").then_some(())).await;
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("start\nnumber 42\n", "warning\n"));
}

#[tokio::test]
#[should_panic(expected = "ended before the line came: /bin/sh\n--- stdout\nother\n--- stderr\nbroken\n")]
async fn an_early_end_fails_at_once_with_what_was_written() {
    let mut process = shell("echo other; echo broken >&2; exit 3").start();
    let stderr = process.stderr.clone();
    wait_for(SOON, async || stderr.is_complete()).await;
    process.wait_for_stdout(Duration::MAX, number).await;
}

#[tokio::test]
#[should_panic(expected = "no such line within 50ms")]
async fn a_line_that_never_comes_fails_in_time() {
    shell("echo other; exec tail -f /dev/null").start().wait_for_stdout(Duration::from_millis(50), number).await;
}

#[tokio::test]
async fn it_sees_only_the_environment_it_is_given() {
    let builder = shell("echo $HOME; echo $GIVEN; echo $CARGO_MANIFEST_DIR; pwd").env("GIVEN", "yes");
    let home = builder.scratch().home().display().to_string();
    let mut process = builder.start();
    process.wait(SOON).await;
    wait_for(SOON, async || process.stdout.is_complete()).await;
    assert_eq!(process.stdout(), format!("{home}\nyes\n\n{home}\n"));
}

#[tokio::test]
async fn it_ends_by_request_or_by_force() {
    let mut polite = shell("trap 'exit 7' TERM; tail -f /dev/null & echo number 1; wait").start();
    polite.wait_for_stdout(SOON, number).await;
    assert_eq!(polite.terminate(SOON).await.code(), Some(7));

    let mut killed = shell("echo number 2; exec tail -f /dev/null").start();
    killed.wait_for_stdout(SOON, number).await;
    assert!(killed.own_memory_bytes() > 10_000, "{}", killed.own_memory_bytes());
    assert_eq!(killed.kill().signal(), Some(9));
}

#[tokio::test]
async fn dropping_it_ends_what_it_started() {
    let mut process = shell("tail -f /dev/null & echo number $!; wait").start();
    let (child, grandchild) = (process.id(), process.wait_for_stdout(SOON, number).await);
    assert!(exists(child) && exists(grandchild));
    drop(process);
    assert!(!exists(child));
    // Somebody else's child by now: that one waits for it. A zombie counts as ended.
    wait_for(SOON, async || {
        let status = fs::read_to_string(format!("/proc/{grandchild}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    })
    .await;
}

#[tokio::test]
async fn a_restart_finds_its_folders_again() {
    let mut first = shell("echo stored > kept").start();
    first.wait(SOON).await;
    let mut second = shell("cat kept").with_scratch(first.into_scratch()).start();
    second.wait_for_stdout(SOON, |line| (line == "stored").then_some(())).await;
}

#[test]
fn binaries_are_found_beside_the_test() {
    let test = std::env::current_exe().unwrap();
    let own = format!("deps/{}", test.file_name().unwrap().to_str().unwrap());
    assert_eq!(binary_beside(&test, &own), test);
}

#[test]
#[should_panic(expected = "no-such-binary is not built: run `cargo build --workspace` first")]
fn a_missing_binary_says_how_to_build_it() {
    let _ = Process::binary("no-such-binary");
}

#[test]
fn memory_is_read_from_the_status() {
    assert_eq!(own_kib("Name:\tx\nRssAnon:\t    1234 kB\n"), Some(1234));
    assert_eq!(own_kib("Name:\tx\nState:\tZ (zombie)\n"), None);
}
