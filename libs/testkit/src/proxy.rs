//! A TCP proxy on loopback that breaks connections on purpose.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{free_port, wait_for};

/// For binding the own port again after [`Fault::Refuse`].
const REBIND: Duration = Duration::from_secs(5);

/// What the proxy does with the bytes that pass, from the moment it is set, on open connections too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: all bytes pass.
    Pass,
    /// Every piece that is read waits this long before it goes on, in both directions.
    Delay(Duration),
    /// Connections are accepted and stay open, no byte passes. What came meanwhile passes later, when another fault
    /// lets it.
    Stall,
    /// A connection is closed once so many bytes of answers, counted from its beginning, have passed.
    CutAfter(u64),
    /// The port is closed, and so are the open connections: as if the server had died.
    Refuse,
}

/// A running proxy; ends with all its connections when dropped. Needs the runtime it was started on.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    orders: mpsc::UnboundedSender<(Fault, oneshot::Sender<()>)>,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl FaultProxy {
    /// Listens on a free loopback port and passes everything to `upstream`.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> Self {
        // A port of the low range can't be taken by a client's connection while it is closed.
        let (address, listener) = wait_for(REBIND, async || {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            TcpListener::bind(address).await.map(|listener| (address, listener))
        })
        .await;
        let (orders, received) = mpsc::unbounded_channel();
        let counts = Arc::<Counts>::default();
        let acceptor = Acceptor {
            address,
            upstream,
            faults: watch::Sender::new(Fault::Pass),
            counts: Arc::clone(&counts),
            connections: JoinSet::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(acceptor.run(listener, received));
        Self { address, orders, counts, _tasks: tasks }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Switches; when it returns, new connections already meet the new behaviour.
    ///
    /// # Panics
    /// When the port can't be opened again after [`Fault::Refuse`].
    pub async fn set(&self, fault: Fault) {
        let (done, answer) = oneshot::channel();
        let _ = self.orders.send((fault, done));
        answer.await.expect("the proxy switches");
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }
}

struct Acceptor {
    address: SocketAddr,
    upstream: SocketAddr,
    faults: watch::Sender<Fault>,
    counts: Arc<Counts>,
    connections: JoinSet<()>,
}

impl Acceptor {
    async fn run(mut self, listener: TcpListener, mut orders: mpsc::UnboundedReceiver<(Fault, oneshot::Sender<()>)>) {
        let mut listener = Some(listener);
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some((fault, done)) = order else { return };
                    listener = self.switch(listener, fault).await;
                    let _ = done.send(());
                }
                Some(client) = accept(listener.as_ref()) => self.connect(client),
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    async fn switch(&mut self, listener: Option<TcpListener>, fault: Fault) -> Option<TcpListener> {
        self.faults.send_replace(fault);
        if fault == Fault::Refuse {
            drop(listener);
            self.connections.shutdown().await;
            return None;
        }
        match listener {
            Some(listener) => Some(listener),
            None => Some(wait_for(REBIND, async || TcpListener::bind(self.address).await).await),
        }
    }

    fn connect(&mut self, client: TcpStream) {
        let open = Open::new(&self.counts);
        let (upstream, faults) = (self.upstream, self.faults.subscribe());
        self.connections.spawn(async move {
            let _open = open;
            // A server that isn't there looks to the client like one that closes at once.
            if let Ok(server) = TcpStream::connect(upstream).await {
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let questions = pass(from_client, to_server, faults.clone(), Direction::ToServer);
                let answers = pass(from_server, to_client, faults, Direction::ToClient);
                // The first to be cut takes the other along.
                let _ = tokio::try_join!(questions, answers);
            }
        });
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    listener?.accept().await.ok().map(|(client, _)| client)
}

/// Counts a connection while it lives, also when its task is aborted.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.accepted.fetch_add(1, Ordering::SeqCst);
        counts.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// The connection is to be closed in both directions.
struct Cut;

impl From<std::io::Error> for Cut {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// Passes bytes one way until their end, which is handed on as such.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
    direction: Direction,
) -> Result<(), Cut> {
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0;
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(to.shutdown().await?);
        }
        let allowed = allowed(&mut faults, direction, passed).await;
        let part = &buffer[..read.min(usize::try_from(allowed).unwrap_or(usize::MAX))];
        to.write_all(part).await?;
        passed += part.len() as u64;
        if passed >= limit(*faults.borrow(), direction) {
            return Err(Cut);
        }
    }
}

/// Waits until bytes may pass, and says how many.
async fn allowed(faults: &mut watch::Receiver<Fault>, direction: Direction, passed: u64) -> u64 {
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::Stall => {
                if faults.changed().await.is_err() {
                    return 0;
                }
            }
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                return u64::MAX;
            }
            fault => return limit(fault, direction).saturating_sub(passed),
        }
    }
}

/// How many bytes of a connection may pass in all.
fn limit(fault: Fault, direction: Direction) -> u64 {
    match fault {
        Fault::CutAfter(bytes) if direction == Direction::ToClient => bytes,
        Fault::Refuse => 0,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
