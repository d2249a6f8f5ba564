use std::{io::ErrorKind, time::Instant};

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// A server that answers with what it gets.
struct Echo {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

async fn echo() -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = client.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Echo { address, _tasks: tasks }
}

async fn ask(connection: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    connection.write_all(text).await.unwrap();
    let mut answer = vec![0; text.len()];
    tokio::time::timeout(SOON, connection.read_exact(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn rest(connection: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is as much an end as an orderly close.
    let _ = tokio::time::timeout(SOON, connection.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn passes_and_counts() {
    let server = echo().await;
    let proxy = FaultProxy::start(server.address).await;
    let mut first = TcpStream::connect(proxy.address()).await.unwrap();
    let mut second = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut first, b"one").await, b"one");
    assert_eq!(ask(&mut second, b"two").await, b"two");
    assert_eq!((proxy.connections(), proxy.open()), (2, 2));
    first.shutdown().await.unwrap();
    assert!(rest(&mut first).await.is_empty());
    wait_for(SOON, async || proxy.open() == 1).await;
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn delays() {
    let server = echo().await;
    let proxy = FaultProxy::start(server.address).await;
    proxy.set(Fault::Delay(Duration::from_millis(50))).await;
    let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
    let start = Instant::now();
    assert_eq!(ask(&mut connection, b"there and back").await, b"there and back");
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn stalls_and_goes_on() {
    let server = echo().await;
    let proxy = FaultProxy::start(server.address).await;
    let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut connection, b"before").await, b"before");
    proxy.set(Fault::Stall).await;
    connection.write_all(b"during").await.unwrap();
    let mut answer = [0; 6];
    let waited = tokio::time::timeout(Duration::from_millis(50), connection.read_exact(&mut answer)).await;
    assert!(waited.is_err());
    proxy.set(Fault::Pass).await;
    tokio::time::timeout(SOON, connection.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"during");
}

#[tokio::test]
async fn cuts_at_the_byte() {
    let server = echo().await;
    let proxy = FaultProxy::start(server.address).await;
    proxy.set(Fault::CutAfter(5)).await;
    let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut connection, b"abc").await, b"abc");
    connection.write_all(b"defg").await.unwrap();
    assert_eq!(rest(&mut connection).await, b"de");
    wait_for(SOON, async || proxy.open() == 0).await;
}

#[tokio::test]
async fn refuses_and_comes_back_on_the_same_port() {
    let server = echo().await;
    let proxy = FaultProxy::start(server.address).await;
    let mut before = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut before, b"before").await, b"before");
    proxy.set(Fault::Refuse).await;
    assert!(rest(&mut before).await.is_empty());
    assert_eq!(proxy.open(), 0);
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.set(Fault::Pass).await;
    let mut after = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut after, b"after").await, b"after");
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_closes_the_connection() {
    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let proxy = FaultProxy::start(gone).await;
    let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(rest(&mut connection).await.is_empty());
}
