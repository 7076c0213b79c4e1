//! The one way in which this server asks anything over HTTP: bounded in time and size, without cookies, and only
//! of addresses that may be connected to.
//!
//! Names are resolved here, and the addresses judged after that, also those of redirects. What an answer says is
//! for the caller.

mod address;
mod config;
mod resolver;
mod roots;
#[cfg(test)]
mod tests;

pub use address::Range;
pub use config::Config;
pub(crate) use resolver::{Resolver, Service};

use crate::Hosts;
use address::Addresses;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use http::{Method, StatusCode};
use reqwest::Url;
use resolver::Refused;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What requests of this server call themselves.
const USER_AGENT: &str = concat!("Chancery/", env!("CARGO_PKG_VERSION"));
/// How many idle connections to one host are kept.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// How long they are kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(90);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file of authorities can't be used.
    #[error("{file} can't be used: {why}", file = file.display())]
    Roots {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The client can't be made.
    #[error("the client for outgoing requests can't be made: {0}")]
    Client(String),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The URL is not one of HTTP.
    #[error("not an HTTP URL")]
    Url,
    /// The URL, or what it redirects to, leads to an address that may not be connected to.
    #[error("the address may not be connected to")]
    Refused,
    /// No connection can be made: the name can't be resolved, nobody listens, the certificate is wrong.
    #[error("no connection: {0}")]
    Connect(String),
    /// It took too long.
    #[error("the answer took too long")]
    Timeout,
    /// The answer has more bytes than the caller takes.
    #[error("the answer is too large")]
    TooLarge,
    /// More redirects than the caller follows, or one that leads from HTTPS to HTTP or nowhere.
    #[error("the answer redirects too often, or where it may not")]
    Redirect,
    /// The connection broke, or the answer is not HTTP.
    #[error("the answer is broken: {0}")]
    Broken(String),
}

/// What an answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of its body, unpacked.
    pub body_bytes_max: usize,
    /// The longest time that all of it may take.
    pub timeout: Duration,
    /// How many redirects are followed. With 0 a redirect is an answer like any other.
    pub redirects_max: usize,
}

/// A body as it comes in.
pub type BodyStream = BoxStream<'static, Result<Bytes, Error>>;

/// Asks others. Cheap to clone.
#[derive(Clone)]
pub struct Outgoing {
    client: reqwest::Client,
    resolver: Resolver,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outgoing")
    }
}

impl Outgoing {
    /// A client by these settings. Names in `hosts` have the addresses written there, which are not judged.
    pub fn new(config: &Config, hosts: Hosts) -> Result<Self, SetupError> {
        let proxy =
            config.proxy.as_deref().map(Url::parse).transpose().map_err(|e| SetupError::Client(e.to_string()))?;
        let proxy_host = proxy.as_ref().and_then(Url::host_str).map(ToOwned::to_owned);
        let resolver = Resolver::new(hosts, Addresses::new(&config.allowed_ranges), proxy_host);
        let mut builder = builder(config)?.dns_resolver(resolver.clone());
        if let Some(proxy) = proxy {
            let proxy = reqwest::Proxy::all(proxy).map_err(|error| SetupError::Client(error.to_string()))?;
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|error| SetupError::Client(error.to_string()))?;
        Ok(Self { client, resolver })
    }

    /// Resolves names, as this client does.
    pub(crate) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Asks, and reads the whole answer.
    pub async fn send(&self, request: http::Request<Bytes>, limits: Limits) -> Result<http::Response<Bytes>, Error> {
        let (head, mut body) = self.send_streamed(request, limits).await?.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(http::Response::from_parts(head, bytes.freeze()))
    }

    /// Asks, and answers once the head of the answer is there. The limits hold for the rest too.
    pub async fn send_streamed(
        &self,
        request: http::Request<Bytes>,
        limits: Limits,
    ) -> Result<http::Response<BodyStream>, Error> {
        let deadline = Instant::now() + limits.timeout;
        let mut next = Next::read(request)?;
        let mut redirects = 0;
        loop {
            let answer = timeout_at(deadline, self.ask(&next)).await.map_err(|_| Error::Timeout)??;
            if limits.redirects_max > 0 && is_redirect(answer.status()) {
                if redirects == limits.redirects_max {
                    return Err(Error::Redirect);
                }
                redirects += 1;
                next.follow(&answer)?;
                continue;
            }
            return bounded(answer, limits.body_bytes_max, deadline);
        }
    }

    async fn ask(&self, next: &Next) -> Result<reqwest::Response, Error> {
        self.check(&next.url)?;
        let request = self.client.request(next.method.clone(), next.url.clone());
        let request = request.headers(next.headers.clone()).body(next.body.clone());
        request.send().await.map_err(|error| told(&error))
    }

    /// Judges a URL whose host is an address: no name is resolved for it.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Error> {
        let host = url.host_str().ok_or(Error::Url)?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if address.is_ok_and(|address| !self.resolver.allow(address)) { Err(Error::Refused) } else { Ok(()) }
    }
}

/// The client that all requests share what they can of: bounded, without redirects and proxies of its own.
pub(crate) fn builder(config: &Config) -> Result<reqwest::ClientBuilder, SetupError> {
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .tls_backend_preconfigured(roots::tls(&config.extra_roots)?)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.idle_timeout)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(IDLE_CONNECTION);
    Ok(builder)
}

/// A request, or what a redirect makes of it.
struct Next {
    method: Method,
    url: Url,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Next {
    fn read(request: http::Request<Bytes>) -> Result<Self, Error> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|_| Error::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Url);
        }
        Ok(Self { method: head.method, url, headers: head.headers, body })
    }

    /// Goes where a redirect leads (RFC 9110, section 15.4). Nobody else is told the secrets of the request.
    fn follow(&mut self, answer: &reqwest::Response) -> Result<(), Error> {
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let url = self.url.join(location.ok_or(Error::Redirect)?).map_err(|_| Error::Redirect)?;
        let is_http = matches!(url.scheme(), "http" | "https");
        if !is_http || (self.url.scheme() == "https" && url.scheme() == "http") {
            return Err(Error::Redirect);
        }
        if url.origin() != self.url.origin() {
            for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                self.headers.remove(secret);
            }
            self.headers.remove(http::header::HOST);
        }
        let keeps_method = matches!(answer.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if !keeps_method && self.method != Method::GET && self.method != Method::HEAD {
            self.method = Method::GET;
            self.body = Bytes::new();
            for of_body in [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING] {
                self.headers.remove(of_body);
            }
        }
        self.url = url;
        Ok(())
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The answer with a body that ends in an error where it exceeds what it may cost.
pub(crate) fn bounded(
    answer: reqwest::Response,
    body_bytes_max: usize,
    deadline: Instant,
) -> Result<http::Response<BodyStream>, Error> {
    let announced = answer.content_length().unwrap_or_default();
    if usize::try_from(announced).map_or(true, |announced| announced > body_bytes_max) {
        return Err(Error::TooLarge);
    }
    let mut head = http::Response::new(());
    *head.status_mut() = answer.status();
    *head.version_mut() = answer.version();
    *head.headers_mut() = answer.headers().clone();
    let (head, ()) = head.into_parts();
    let body = limited(answer.bytes_stream(), body_bytes_max, deadline);
    Ok(http::Response::from_parts(head, body))
}

/// A body up to its limits. What is packed was unpacked before it is counted.
fn limited(
    body: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    body_bytes_max: usize,
    deadline: Instant,
) -> BodyStream {
    let body = Box::pin(body);
    let chunks = futures::stream::try_unfold((body, body_bytes_max), move |(mut body, left)| async move {
        let chunk = timeout_at(deadline, body.next()).await.map_err(|_| Error::Timeout)?;
        let Some(chunk) = chunk else { return Ok(None) };
        let chunk = chunk.map_err(|error| told(&error))?;
        let left = left.checked_sub(chunk.len()).ok_or(Error::TooLarge)?;
        Ok(Some((chunk, (body, left))))
    });
    chunks.boxed()
}

/// What to tell of an error of the client. Its text has no URL, which may have secrets in it.
pub(crate) fn told(error: &reqwest::Error) -> Error {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let mut last = None;
    for cause in causes {
        if cause.is::<Refused>() {
            return Error::Refused;
        }
        last = Some(cause);
    }
    if error.is_timeout() {
        return Error::Timeout;
    }
    let why = last.map_or_else(|| "of no known cause".to_owned(), ToString::to_string);
    if error.is_connect() { Error::Connect(why) } else { Error::Broken(why) }
}
