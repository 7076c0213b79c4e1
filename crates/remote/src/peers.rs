//! Requests to other homeservers: where they are, signed, and held back where they don't answer.

use crate::config::Config;
use crate::discovery::{Discovery, Target, Via};
use crate::outgoing::{self, BodyStream, Outgoing, Resolver, SetupError, bounded, told};
use crate::signing::XMatrix;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use quick_cache::sync::Cache;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rules::KeyRing;
use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

/// How many servers it is remembered of whether they answer.
const SERVERS_MAX: usize = 50_000;
/// How long a server that did not answer is left alone, the first time; later twice as long each time.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long at most.
const BACK_OFF_MAX: Duration = Duration::from_hours(1);
/// The largest answer that says why there is none, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How many servers that are back may wait to be noticed.
const CONTACTS_MAX: usize = 1024;

/// How long a request may take if the caller doesn't say.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How large an answer may be if the caller doesn't say.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What to ask.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, from `/_matrix/` on, and the query, percent-encoded; see [`segment`].
    pub path_and_query: String,
    /// The body, if there is one.
    pub body: Option<Body>,
    /// How long all of it may take.
    pub timeout: Duration,
    /// The largest answer that is taken.
    pub body_bytes_max: usize,
    /// Whether a server that does not answer is left alone for a while.
    pub back_off: BackOff,
}

/// Whether a server that does not answer is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackOff {
    /// It is: then the call fails at once.
    Respect,
    /// The caller has waited itself, or somebody wants to know now.
    Ignore,
}

impl Call {
    /// A GET request.
    #[must_use]
    pub fn get(path_and_query: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path_and_query: path_and_query.into(),
            body: None,
            timeout: TIMEOUT,
            body_bytes_max: BODY_BYTES_MAX,
            back_off: BackOff::Respect,
        }
    }

    /// A PUT request.
    #[must_use]
    pub fn put(path_and_query: impl Into<String>, body: Body) -> Self {
        Self { method: Method::PUT, body: Some(body), ..Self::get(path_and_query) }
    }

    /// A POST request.
    #[must_use]
    pub fn post(path_and_query: impl Into<String>, body: Body) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path_and_query) }
    }

    /// With another timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With another limit of the answer.
    #[must_use]
    pub fn body_bytes_max(mut self, body_bytes_max: usize) -> Self {
        self.body_bytes_max = body_bytes_max;
        self
    }

    /// Asked even if the server has not answered lately.
    #[must_use]
    pub fn despite_back_off(mut self) -> Self {
        self.back_off = BackOff::Ignore;
        self
    }
}

/// A body: a JSON object in canonical form, as it is signed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body(Bytes);

impl Body {
    /// The object that a value is written as. `None` if it is none, or has fractions.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Option<Self> {
        let value = ruma::canonical_json::to_canonical_value(value).ok()?;
        value.as_object()?;
        Some(Self(value.to_string().into()))
    }

    /// A text that is canonical JSON already: events are stored so, and a body can be put together of them.
    #[must_use]
    pub fn canonical(text: String) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Why a server gave no answer that can be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// Other servers are not spoken to, by the configuration; or it is this server itself.
    #[error("the server is not to be spoken to")]
    Barred,
    /// It has not answered lately, and is left alone for so long.
    #[error("the server has not answered lately; it is asked again in {0:?}")]
    BackingOff(Duration),
    /// It can't be reached, or its answer can't be read.
    #[error(transparent)]
    Unreachable(#[from] outgoing::Error),
    /// It has refused.
    #[error("the server answered {status}: {errcode} {message}", errcode = errcode.as_deref().unwrap_or("no code"))]
    Refused {
        /// The status.
        status: u16,
        /// The error code, if the answer has one.
        errcode: Option<String>,
        /// What it says to people.
        message: String,
        /// The whole answer, for those that have more fields.
        body: Bytes,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
}

impl PeerError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Barred => false,
            Self::BackingOff(_) | Self::Unreachable(_) => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
        }
    }

    /// Whether the server does not know the endpoint.
    #[must_use]
    pub fn is_unrecognized(&self) -> bool {
        match self {
            // Older servers answer unknown endpoints with a bare 404.
            Self::Refused { status: 404 | 405 | 400, errcode, .. } => {
                errcode.as_deref().is_none_or(|code| code == "M_UNRECOGNIZED")
            }
            _ => false,
        }
    }
}

/// Asks other homeservers. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    enabled: bool,
    server_name: OwnedServerName,
    keys: KeyRing,
    outgoing: Outgoing,
    client: reqwest::Client,
    discovery: Discovery,
    /// Where the names lead that are not looked up.
    ways: Arc<Cache<String, Via>>,
    health: Cache<OwnedServerName, Arc<Mutex<Health>>>,
    contacts: broadcast::Sender<OwnedServerName>,
}

/// How a server has answered lately.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failures: u32,
    until: Option<Instant>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("server_name", &self.0.server_name).finish_non_exhaustive()
    }
}

impl Peers {
    /// Speaks to others in the name of the server whose keys these are.
    pub fn new(
        config: &Config,
        outgoing_config: &outgoing::Config,
        outgoing: Outgoing,
        keys: KeyRing,
    ) -> Result<Self, SetupError> {
        let ways = Arc::new(Cache::new(SERVERS_MAX));
        let resolver = Ways { ways: ways.clone(), resolver: outgoing.resolver().clone() };
        let builder = outgoing::builder(outgoing_config)?.http1_only().gzip(true).dns_resolver(resolver);
        let client = builder.build().map_err(|error| SetupError::Client(error.to_string()))?;
        let (contacts, _) = broadcast::channel(CONTACTS_MAX);
        Ok(Self(Arc::new(Inner {
            enabled: config.enabled,
            server_name: keys.current().server_name().to_owned(),
            keys,
            discovery: Discovery::new(outgoing.clone(), config),
            outgoing,
            client,
            ways,
            health: Cache::new(SERVERS_MAX),
            contacts,
        })))
    }

    /// The name of this server.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    /// Whether other servers are spoken to at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.enabled
    }

    /// Asks a server, and answers the body of its answer. Other statuses than 200 to 299 are
    /// [`PeerError::Refused`].
    pub async fn send(&self, server: &ServerName, call: Call) -> Result<Bytes, PeerError> {
        let mut body = self.send_streamed(server, call).await?.into_body();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes.freeze())
    }

    /// As [`Peers::send`], with the head of the answer, and its body as it comes in.
    pub async fn send_streamed(
        &self,
        server: &ServerName,
        call: Call,
    ) -> Result<http::Response<BodyStream>, PeerError> {
        if !self.0.enabled || *server == *self.0.server_name {
            return Err(PeerError::Barred);
        }
        let health = self.health(server);
        if call.back_off == BackOff::Respect
            && let Some(left) = left(&health)
        {
            return Err(PeerError::BackingOff(left));
        }
        let deadline = Instant::now() + call.timeout;
        let body_bytes_max = call.body_bytes_max;
        let outcome = match timeout_at(deadline, self.ask(server, call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(outgoing::Error::Timeout),
        };
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                self.0.discovery.forget(server);
                note_failure(&health);
                return Err(error.into());
            }
        };
        let status = answer.status();
        if status.is_success() {
            self.note_contact(server, &health);
            return Ok(bounded(answer, body_bytes_max, deadline)?);
        }
        let retry_after = retry_after(&answer);
        match status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                note_failure(&health);
            }
            StatusCode::TOO_MANY_REQUESTS => note_wait(&health, retry_after.unwrap_or(BACK_OFF)),
            _ => self.note_contact(server, &health),
        }
        Err(refused(answer, retry_after, deadline).await)
    }

    /// For how long a server is left alone because it has not answered; `None` if it isn't.
    #[must_use]
    pub fn back_off(&self, server: &ServerName) -> Option<Duration> {
        self.0.health.get(server).and_then(|health| left(&health))
    }

    /// Notes that a server has spoken to this one, so that it is there. Who waits for it is told.
    pub fn heard_from(&self, server: &ServerName) {
        if let Some(health) = self.0.health.get(server) {
            self.note_contact(server, &health);
        }
    }

    /// The servers that answer again, or have spoken to this one, after they had not answered.
    #[must_use]
    pub fn contacts(&self) -> broadcast::Receiver<OwnedServerName> {
        self.0.contacts.subscribe()
    }

    fn health(&self, server: &ServerName) -> Arc<Mutex<Health>> {
        if let Some(health) = self.0.health.get(server) {
            return health;
        }
        let health = Arc::<Mutex<Health>>::default();
        self.0.health.insert(server.to_owned(), health.clone());
        health
    }

    fn note_contact(&self, server: &ServerName, health: &Mutex<Health>) {
        let before = std::mem::take(&mut *health.lock().unwrap_or_else(PoisonError::into_inner));
        if before.failures > 0 {
            // Nobody may be listening.
            let _listeners = self.0.contacts.send(server.to_owned());
        }
    }

    async fn ask(&self, server: &ServerName, call: Call) -> Result<reqwest::Response, outgoing::Error> {
        let Inner { keys, client, outgoing, ways, discovery, .. } = &*self.0;
        let target = discovery.find(server).await;
        let url = url(&target, &call.path_and_query).ok_or(outgoing::Error::Url)?;
        match &target.via {
            None => outgoing.check(&url)?,
            Some(via) => {
                if let Some(host) = url.host_str() {
                    ways.insert(host.to_owned(), via.clone());
                }
            }
        }
        let signed = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let content = call.body.as_ref().map(Body::text);
        let signature = XMatrix::sign(&keys.current(), server, call.method.as_str(), &signed, content);
        let header = |text: &str| HeaderValue::from_str(text).map_err(|_| outgoing::Error::Url);
        let mut request = client
            .request(call.method, url)
            .header(HOST, header(&target.header)?)
            .header(AUTHORIZATION, header(&signature.header())?);
        if let Some(Body(body)) = call.body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        request.send().await.map_err(|error| told(&error))
    }
}

/// The URL of a request. A name that is not looked up as it is ends in a dot: that is the same name, for
/// certificates too, but other connections.
fn url(target: &Target, path_and_query: &str) -> Option<Url> {
    let scheme = if target.tls { "https" } else { "http" };
    let is_address = target.host.starts_with('[') || target.host.parse::<IpAddr>().is_ok();
    let dot = if target.via.is_some() && !is_address { "." } else { "" };
    let url = Url::parse(&format!("{scheme}://{}{dot}:{}{path_and_query}", target.host, target.port)).ok()?;
    url.path().starts_with("/_matrix/").then_some(url)
}

/// Leads names that end in a dot to where they are written down to lead.
struct Ways {
    ways: Arc<Cache<String, Via>>,
    resolver: Resolver,
}

impl Resolve for Ways {
    fn resolve(&self, name: Name) -> Resolving {
        let way = if name.as_str().ends_with('.') { self.ways.get(name.as_str()) } else { None };
        match way {
            None => Resolve::resolve(&self.resolver, name),
            Some(Via::Address(address)) => {
                let addresses: Addrs = Box::new(std::iter::once(SocketAddr::new(address.ip(), 0)));
                Box::pin(std::future::ready(Ok(addresses)))
            }
            Some(Via::Name(name)) => {
                let resolver = self.resolver.clone();
                Box::pin(async move {
                    let addresses = resolver.resolve(&name).await?;
                    let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
                    Ok(addresses)
                })
            }
        }
    }
}

/// For how long the server is still left alone.
fn left(health: &Mutex<Health>) -> Option<Duration> {
    let until = health.lock().unwrap_or_else(PoisonError::into_inner).until?;
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// Leaves the server alone, the longer the more often it has failed. Requests that fail together count once.
fn note_failure(health: &Mutex<Health>) {
    let now = Instant::now();
    let mut health = health.lock().unwrap_or_else(PoisonError::into_inner);
    if health.failures > 0 && health.until.is_some_and(|until| until > now) {
        return;
    }
    let wait = BACK_OFF.saturating_mul(1 << health.failures.min(20)).min(BACK_OFF_MAX);
    *health = Health { failures: health.failures.saturating_add(1), until: Some(now + wait) };
}

/// Leaves the server alone for as long as it asks for.
fn note_wait(health: &Mutex<Health>, wait: Duration) {
    let mut health = health.lock().unwrap_or_else(PoisonError::into_inner);
    *health = Health { failures: health.failures.max(1), until: Some(Instant::now() + wait.min(BACK_OFF_MAX)) };
}

fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn refused(answer: reqwest::Response, retry_after: Option<Duration>, deadline: Instant) -> PeerError {
    #[derive(Default, Deserialize)]
    struct Refusal {
        errcode: Option<String>,
        error: Option<String>,
        retry_after_ms: Option<u64>,
    }

    let status = answer.status().as_u16();
    let mut bytes = BytesMut::new();
    if let Ok(answer) = bounded(answer, REFUSAL_BYTES_MAX, deadline) {
        let mut body = answer.into_body();
        while let Some(Ok(chunk)) = body.next().await {
            bytes.extend_from_slice(&chunk);
        }
    }
    let Refusal { errcode, error, retry_after_ms } = serde_json::from_slice(&bytes).unwrap_or_default();
    PeerError::Refused {
        status,
        errcode,
        message: error.unwrap_or_default(),
        body: bytes.freeze(),
        retry_after: retry_after.or(retry_after_ms.map(Duration::from_millis)),
    }
}

/// A part of a path or of a query, percent-encoded so that it is no more than one part.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => encoded.push(char::from(byte)),
            byte => {
                // Writing to memory does not fail.
                let _written = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hosts;
    use crate::testing::{Authority, json, serve, serve_tls};
    use base::Secret;
    use rules::SigningKey;
    use ruma::{owned_server_name, server_name};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn peers(config: &Config, outgoing_config: &outgoing::Config, hosts: Hosts) -> Peers {
        let key = SigningKey::generate(owned_server_name!("a.example"), "1", Secret::new([1; 32])).unwrap();
        let outgoing = Outgoing::new(outgoing_config, hosts).unwrap();
        Peers::new(config, outgoing_config, outgoing, key.into()).unwrap()
    }

    fn overriding(name: &str, place: String) -> Config {
        Config { overrides: [(name.to_owned(), place)].into(), ..Config::default() }
    }

    #[tokio::test]
    async fn a_request_is_signed_as_it_is_sent() {
        let address = serve(|request| {
            let header = request.headers()[AUTHORIZATION].to_str().unwrap();
            let signed = XMatrix::parse(header).unwrap();
            let host = request.headers()[HOST].to_str().unwrap();
            let uri = request.uri().to_string();
            let body = std::str::from_utf8(request.body()).unwrap();
            let text = crate::signed_text(
                &signed.origin,
                signed.destination.as_ref().unwrap(),
                request.method().as_str(),
                &uri,
                Some(body),
            );
            let key = SigningKey::generate(owned_server_name!("a.example"), "1", Secret::new([1; 32])).unwrap();
            let right = rules::signed::is_signed(&text, &key.public_key().encode(), &signed.sig);
            json(200, &serde_json::json!({ "right": right, "host": host, "uri": uri }))
        })
        .await;
        let peers = peers(
            &overriding("b.example", format!("http://{address}")),
            &outgoing::Config::default(),
            Hosts::default(),
        );
        let body = Body::of(&serde_json::json!({ "b": 1, "a": "é" })).unwrap();
        let path = format!("/_matrix/federation/v1/x/{}?a={}", segment("!a/b:c"), segment("$d&e"));
        let answer = peers.send(server_name!("b.example"), Call::put(path, body)).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["right"], true);
        assert_eq!(answer["host"], "b.example");
        assert_eq!(answer["uri"], "/_matrix/federation/v1/x/%21a%2Fb%3Ac?a=%24d%26e");
    }

    #[tokio::test]
    async fn an_override_is_spoken_to_with_the_certificate_of_its_name() {
        let authority = Authority::new();
        let answer = |_| json(200, &serde_json::json!({}));
        let right = serve_tls("127.0.0.1:0", &authority, "b.example", answer).await;
        let wrong = serve_tls("127.0.0.1:0", &authority, "c.example", answer).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, &authority.pem).unwrap();
        let outgoing_config = outgoing::Config { extra_roots: vec![file], ..outgoing::Config::default() };
        for (address, expected) in [(right, true), (wrong, false)] {
            let peers = peers(&overriding("b.example", address.to_string()), &outgoing_config, Hosts::default());
            let outcome = peers.send(server_name!("b.example"), Call::get("/_matrix/x")).await;
            assert_eq!(outcome.is_ok(), expected, "{outcome:?}");
        }
        let mut hosts = Hosts::default();
        hosts.add("b.example", right.ip());
        let named = OwnedServerName::try_from(format!("b.example:{}", right.port())).unwrap();
        let peers = peers(&Config::default(), &outgoing_config, hosts);
        peers.send(&named, Call::get("/_matrix/x")).await.unwrap();
    }

    #[tokio::test]
    async fn addresses_of_this_machine_are_refused_as_servers() {
        let address = serve(|_| json(200, &serde_json::json!({}))).await;
        let peers = peers(&Config::default(), &outgoing::Config::default(), Hosts::default());
        let name = OwnedServerName::try_from(address.to_string()).unwrap();
        let outcome = peers.send(&name, Call::get("/_matrix/x")).await;
        assert!(matches!(outcome, Err(PeerError::Unreachable(outgoing::Error::Refused))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_server_that_fails_is_left_alone_until_it_is_heard_from() {
        let asked = Arc::new(AtomicUsize::new(0));
        let address = serve({
            let asked = asked.clone();
            move |request| {
                asked.fetch_add(1, Ordering::SeqCst);
                match request.uri().path() {
                    "/_matrix/down" => json(503, &serde_json::json!({})),
                    "/_matrix/busy" => {
                        json(429, &serde_json::json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 5000 }))
                    }
                    "/_matrix/no" => json(403, &serde_json::json!({ "errcode": "M_FORBIDDEN", "error": "no" })),
                    _ => json(200, &serde_json::json!({})),
                }
            }
        })
        .await;
        let config = overriding("b.example", format!("http://{address}"));
        let peers = peers(&config, &outgoing::Config::default(), Hosts::default());
        let b = server_name!("b.example");
        let mut contacts = peers.contacts();
        let refused = peers.send(b, Call::get("/_matrix/no")).await.unwrap_err();
        assert!(
            matches!(&refused, PeerError::Refused { status: 403, errcode: Some(code), .. } if code == "M_FORBIDDEN")
        );
        assert!(!refused.is_temporary() && peers.back_off(b).is_none());
        assert!(peers.send(b, Call::get("/_matrix/down")).await.unwrap_err().is_temporary());
        assert!(matches!(peers.send(b, Call::get("/_matrix/x")).await, Err(PeerError::BackingOff(_))));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        peers.heard_from(b);
        assert_eq!(contacts.try_recv().unwrap(), b);
        peers.send(b, Call::get("/_matrix/x")).await.unwrap();
        let busy = peers.send(b, Call::get("/_matrix/busy")).await.unwrap_err();
        assert!(matches!(busy, PeerError::Refused { retry_after: Some(wait), .. } if wait == Duration::from_secs(5)));
        assert!(peers.back_off(b).is_some());
        peers.send(b, Call::get("/_matrix/x").despite_back_off()).await.unwrap();
        assert!(peers.back_off(b).is_none());
    }

    #[tokio::test]
    async fn a_path_that_leads_elsewhere_is_not_asked_for() {
        let address = serve(|_| json(200, &serde_json::json!({}))).await;
        let config = overriding("b.example", format!("http://{address}"));
        let peers = peers(&config, &outgoing::Config::default(), Hosts::default());
        let outcome = peers.send(server_name!("b.example"), Call::get("/_matrix/../admin")).await;
        assert!(matches!(outcome, Err(PeerError::Unreachable(outgoing::Error::Url))));
        assert!(matches!(peers.send(server_name!("a.example"), Call::get("/_matrix/x")).await, Err(PeerError::Barred)));
    }

    #[test]
    fn bodies_are_canonical_json() {
        assert_eq!(
            Body::of(&serde_json::json!({ "b": [1], "a": "\u{7}" })).unwrap().text(),
            r#"{"a":"\u0007","b":[1]}"#
        );
        assert_eq!(Body::of(&serde_json::json!({ "a": 1.5 })), None);
        assert_eq!(Body::of(&serde_json::json!([])), None);
    }
}
