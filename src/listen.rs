//! Listeners: from a socket to requests.

use crate::body::{self, Body, BoxError};
use crate::config::{Limits, Network};
use crate::front::Front;
use crate::metrics::{Counted, Metrics};
use crate::tls::Certificates;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a listener waits after it could not accept, such as for want of files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long a listener waits for more of a request whose first bytes don't tell what it is: at first, and at most
/// after it has waited twice as long each time. The rest mostly comes at once; who stalls costs next to nothing.
const PEEK_RETRY: Duration = Duration::from_millis(10);
const PEEK_RETRY_MAX: Duration = Duration::from_millis(250);

/// How often a quiet HTTP/2 connection is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_mins(1);

/// The bytes of a request that are taken before the face reads them, of a stream and of a connection.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 128 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What the connections of all listeners share.
#[derive(Debug)]
pub(crate) struct Connections {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    slots: Arc<Semaphore>,
    head_timeout: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    stall_timeout: Duration,
    tracker: TaskTracker,
    stopping: CancellationToken,
    /// Cancelled when connections have had their time.
    cut: CancellationToken,
    metrics: Arc<Metrics>,
}

impl Connections {
    pub(crate) fn new(limits: &Limits, stopping: CancellationToken, metrics: Arc<Metrics>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(limits.head_bytes_max.bytes());
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(u32::try_from(limits.head_bytes_max.0).unwrap_or(u32::MAX))
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL);
        let slots = usize::try_from(limits.connections_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            http1,
            http2,
            slots: Arc::new(Semaphore::new(slots)),
            head_timeout: limits.head_timeout,
            stall_timeout: limits.request_timeout,
            tracker: TaskTracker::new(),
            stopping,
            cut: CancellationToken::new(),
            metrics,
        }
    }

    /// Waits until all listeners and connections have ended.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends all connections, and waits for that.
    pub(crate) async fn cut_off(&self) {
        self.cut.cancel();
        self.ended().await;
    }

    /// How many have not.
    pub(crate) fn open(&self) -> usize {
        self.tracker.len()
    }
}

/// What answers the requests of a listener.
#[derive(Clone, Debug)]
pub(crate) enum Answers {
    /// The front, for clients.
    Front(Arc<Front>),
    /// The front, as if there were no administration API.
    WithoutAdministration(Arc<Front>),
    /// Metrics and health, for machines.
    Metrics(Arc<crate::server::MetricsFace>),
}

/// A socket that is bound and not served yet.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) proxies: Arc<[Network]>,
    pub(crate) answers: Answers,
}

impl Listener {
    /// Serves until the server stops. The socket closes then; connections finish their requests.
    pub(crate) fn serve(self, connections: &Arc<Connections>) {
        let shared = connections.clone();
        connections.tracker.spawn(async move {
            let stopping = shared.stopping.clone();
            let _ = stopping.run_until_cancelled_owned(self.accept_all(shared)).await;
        });
    }

    async fn accept_all(self, shared: Arc<Connections>) {
        loop {
            // The place comes first: what can't be served waits in the backlog of the socket.
            let Ok(slot) = shared.slots.clone().acquire_owned().await else { return };
            let (stream, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let connection = Connection {
                shared: shared.clone(),
                answers: self.answers.clone(),
                proxies: self.proxies.clone(),
                peer,
                asked: AtomicBool::new(false),
            };
            let certificates = self.certificates.clone();
            let counted = Counted::new(&shared.metrics.connections);
            shared.tracker.spawn(async move {
                let cut = connection.shared.cut.clone();
                let _ = cut.run_until_cancelled_owned(Arc::new(connection).serve(stream, certificates)).await;
                drop((slot, counted));
            });
        }
    }
}

/// Whether a client begins as HTTP/2 does (RFC 9113, section 3.4). Nothing is taken from the stream, because the
/// buffer that would have to be put before it costs more than all else of an idle connection.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut begun = [0; PREFACE.len()];
    let mut pause = PEEK_RETRY;
    loop {
        let length = stream.peek(&mut begun).await?;
        let begun = begun.get(..length).unwrap_or_default();
        if begun == PREFACE || length == 0 || !PREFACE.starts_with(begun) {
            return Ok(begun == PREFACE);
        }
        // Less than four bytes came and could be either; the stream is readable, so it can't tell when more come.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PEEK_RETRY_MAX);
    }
}

/// A stream to a client who has to take what is sent within a time.
type Patient = Pin<Box<TimeoutStream<TcpStream>>>;

/// One connection.
struct Connection {
    shared: Arc<Connections>,
    answers: Answers,
    proxies: Arc<[Network]>,
    peer: SocketAddr,
    /// Whether a request has come.
    asked: AtomicBool,
}

impl Connection {
    async fn serve(self: Arc<Self>, stream: TcpStream, certificates: Option<Arc<Certificates>>) {
        // Answers are written whole, so waiting for more of them only costs time.
        let _ = stream.set_nodelay(true);
        // Who asks and does not read what is answered is cut off: the answer is memory that others need.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.shared.stall_timeout));
        let stream = Box::pin(stream);
        // What is rare or large is in a box of its own, so that a plain idle connection is small.
        if let Some(certificates) = certificates {
            return Box::pin(self.serve_tls(stream, certificates)).await;
        }
        match tokio::time::timeout(self.shared.head_timeout, speaks_http2(stream.get_ref())).await {
            Ok(Ok(true)) => Box::pin(self.serve_http2(stream)).await,
            Ok(Ok(false)) => self.serve_http1(stream).await,
            Ok(Err(error)) => self.refused("first request", &error),
            Err(_) => self.refused("first request", &"too slow"),
        }
    }

    async fn serve_tls(self: Arc<Self>, stream: Patient, certificates: Arc<Certificates>) {
        let handshake = TlsAcceptor::from(certificates.current()).accept(stream);
        match tokio::time::timeout(self.shared.head_timeout, handshake).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => self.serve_http2(stream).await,
            Ok(Ok(stream)) => self.serve_http1(stream).await,
            Ok(Err(error)) => self.refused("TLS handshake", &error),
            Err(_) => self.refused("TLS handshake", &"too slow"),
        }
    }

    async fn serve_http1(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let this = self.clone();
        let service = service_fn(move |request| this.clone().answer(request));
        let mut connection = pin!(self.shared.http1.serve_connection(TokioIo::new(stream), service));
        if self.runs_until_stopped(connection.as_mut()).await {
            connection.as_mut().graceful_shutdown();
            self.ended(connection.await);
        }
    }

    async fn serve_http2(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let this = self.clone();
        let service = service_fn(move |request| this.clone().answer(request));
        let mut connection = pin!(self.shared.http2.serve_connection(TokioIo::new(stream), service));
        if self.runs_until_stopped(connection.as_mut()).await {
            connection.as_mut().graceful_shutdown();
            self.ended(connection.await);
        }
    }

    /// Runs a connection. `true`: it still goes on, and the server stops.
    async fn runs_until_stopped(&self, connection: impl Future<Output = hyper::Result<()>>) -> bool {
        tokio::select! {
            ended = connection => self.ended(ended),
            () = self.shared.stopping.cancelled() => return true,
            () = self.is_silent() => self.refused("first request", &"too slow"),
        }
        false
    }

    fn ended(&self, ended: hyper::Result<()>) {
        if let Err(error) = ended {
            // Clients vanish all the time.
            tracing::debug!(peer = %self.peer, %error, "a connection failed");
        }
    }

    /// Ends if no request comes in time.
    async fn is_silent(&self) {
        tokio::time::sleep(self.shared.head_timeout).await;
        if self.asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        self.asked.store(true, Ordering::Relaxed);
        Ok(self.answers.answer(request, self.peer, &self.proxies).await)
    }

    fn refused(&self, what: &str, error: &dyn std::fmt::Display) {
        self.shared.metrics.connections_refused.inc();
        tracing::debug!(peer = %self.peer, %error, "{what} failed");
    }
}

impl Answers {
    async fn answer<B>(&self, request: Request<B>, peer: SocketAddr, proxies: &[Network]) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match self {
            Self::WithoutAdministration(_) if request.uri().path().starts_with("/_synapse/admin") => {
                body::error(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "there is no such endpoint")
            }
            Self::Front(front) | Self::WithoutAdministration(front) => front.answer(request, peer.ip(), proxies).await,
            Self::Metrics(face) => face.answer(&request),
        }
    }
}
