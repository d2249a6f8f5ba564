//! The admin port of a replica, over plain HTTP.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Replica;

/// Status and body of a path; 0 when nobody listens.
pub(crate) async fn get(replica: &Replica, path: &str) -> (u16, String) {
    whole_answer(replica.admin, path).await.unwrap_or_default()
}

async fn whole_answer(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// The sum of all metrics whose line begins so; 0 when there are none.
pub(crate) async fn metric(replica: &Replica, beginning: &str) -> f64 {
    let (_, metrics) = get(replica, "/metrics").await;
    let lines = metrics.lines().filter(|line| line.starts_with(beginning));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
