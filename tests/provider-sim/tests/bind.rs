//! The simulator stays on this machine unless it is told otherwise.

#![cfg(test)]

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

fn simulator(listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provider-sim"));
    command.args(["--listen", listen]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_public_address_is_refused() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let mut running = simulator(listen).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(running.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // One that listens all the same would never end.
        if !line.is_empty() {
            running.kill().unwrap();
        }
        let ended = running.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), line.as_str()), (Some(78), ""), "{said}");
        assert!(said.contains("--allow-insecure-bind"), "{said}");
    }
}

#[test]
fn the_loopback_address_is_fine() {
    let mut running = simulator("127.0.0.1:0").spawn().unwrap();
    let mut line = String::new();
    BufReader::new(running.stdout.take().unwrap()).read_line(&mut line).unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    let address: SocketAddr = line.trim().parse().unwrap();
    assert!(address.ip().is_loopback() && address.port() > 0);
}
