//! Where a server is (server-server API, "Server discovery").

use crate::Outgoing;
use crate::config::{Config, Place};
use crate::outgoing::{Limits, Resolver, Service};
use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, Request, StatusCode};
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// The port of HTTPS.
const HTTPS_PORT: u16 = 443;
/// The port of servers that name none.
const PORT: u16 = 8448;
/// How many servers it is remembered of where they are.
const SERVERS_MAX: usize = 20_000;
/// The largest `/.well-known/matrix/server` that is read.
const WELL_KNOWN_BYTES_MAX: usize = 50 * 1024;
/// How long it may take.
const WELL_KNOWN_TIMEOUT: Duration = Duration::from_secs(15);
/// How many redirects it may have.
const WELL_KNOWN_REDIRECTS_MAX: usize = 5;
/// How long it is believed if it doesn't say.
const WELL_KNOWN_LIFETIME: Duration = Duration::from_hours(24);
/// How long it is believed at most.
const WELL_KNOWN_LIFETIME_MAX: Duration = Duration::from_hours(48);
/// How long it is believed at least: who says less can't have it asked for with every request.
const WELL_KNOWN_LIFETIME_MIN: Duration = Duration::from_mins(5);
/// When one that failed is asked for again, the first time; later twice as long, up to an hour.
const FAILURE_LIFETIME: Duration = Duration::from_mins(1);
const FAILURE_LIFETIME_MAX: Duration = Duration::from_hours(1);
/// How long what DNS says of services is kept, besides what the resolver does.
const TARGET_LIFETIME: Duration = Duration::from_mins(5);

/// Where a server is, and what it is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whether it speaks TLS; it does, unless the configuration says otherwise.
    pub tls: bool,
    /// The host that the certificate is for.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The `Host` header.
    pub header: String,
    /// What is connected to, if not what `host` leads to.
    pub via: Option<Via>,
}

/// What is connected to in the place of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// Another name, by an SRV record.
    Name(String),
    /// An address, by the configuration.
    Address(SocketAddr),
}

/// Finds servers.
pub(crate) struct Discovery {
    outgoing: Outgoing,
    resolver: Resolver,
    overrides: HashMap<OwnedServerName, Place>,
    /// What is known, or being found out.
    well_known: Cache<OwnedServerName, Arc<Slot<WellKnown>>>,
    targets: Cache<OwnedServerName, Arc<Slot<Target>>>,
    /// The port of `/.well-known`, which is that of HTTPS but in tests.
    well_known_port: u16,
}

/// What is found out once, for all who wait for it.
struct Slot<T> {
    cell: OnceCell<(T, Instant)>,
    /// How often in a row it has failed before.
    failures: u32,
}

impl<T> Slot<T> {
    fn new(failures: u32) -> Arc<Self> {
        Arc::new(Self { cell: OnceCell::new(), failures })
    }

    fn is_over(&self) -> bool {
        self.cell.get().is_some_and(|(_, until)| *until <= Instant::now())
    }
}

/// What a server's `/.well-known/matrix/server` says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WellKnown {
    /// The server is there.
    Delegated(OwnedServerName),
    /// Nothing that can be used; this often in a row.
    Nothing { failures: u32 },
}

impl Discovery {
    pub fn new(outgoing: Outgoing, config: &Config) -> Self {
        let read = |(name, place): (&String, &String)| Some((ServerName::parse(name).ok()?, Place::read(place)?));
        let overrides = config.overrides.iter().filter_map(read).collect();
        let resolver = outgoing.resolver().clone();
        let (well_known, targets) = (Cache::new(SERVERS_MAX), Cache::new(SERVERS_MAX));
        Self { outgoing, resolver, overrides, well_known, targets, well_known_port: HTTPS_PORT }
    }

    /// Where a server is.
    pub async fn find(&self, server: &ServerName) -> Target {
        if let Some(place) = self.overrides.get(server) {
            let (host, via) = (server.host().to_owned(), Some(Via::Address(place.address)));
            let port = place.address.port();
            return Target { tls: place.tls, host, port, header: server.to_string(), via };
        }
        if let Some(target) = direct(server) {
            return target;
        }
        let slot = current(&self.targets, server, |_| 0);
        let (target, _) = slot
            .cell
            .get_or_init(|| async {
                let target = match self.delegation(server).await {
                    WellKnown::Delegated(delegated) => match direct(&delegated) {
                        Some(target) => target,
                        None => self.by_service(&delegated).await,
                    },
                    WellKnown::Nothing { .. } => self.by_service(server).await,
                };
                (target, Instant::now() + TARGET_LIFETIME)
            })
            .await;
        target.clone()
    }

    /// Forgets where a server is, because it isn't there any more.
    pub fn forget(&self, server: &ServerName) {
        self.targets.remove(server);
    }

    /// Steps 3.3 to 3.5 and 4 to 6: an SRV record of the host, or its own address.
    async fn by_service(&self, server: &ServerName) -> Target {
        let host = server.host();
        let plain = Target { tls: true, host: host.to_owned(), port: PORT, header: host.to_owned(), via: None };
        if self.resolver.is_written_down(host) {
            return plain;
        }
        for service in ["_matrix-fed._tcp", "_matrix._tcp"] {
            if let Service::At(targets) = self.resolver.service(&format!("{service}.{host}")).await
                && let Some((name, port)) = targets.into_iter().next()
            {
                return Target { port, via: Some(Via::Name(name)), ..plain };
            }
        }
        plain
    }

    async fn delegation(&self, server: &ServerName) -> WellKnown {
        let slot = current(&self.well_known, server, |(found, _)| match found {
            WellKnown::Delegated(_) => 0,
            WellKnown::Nothing { failures } => *failures,
        });
        let failed = slot.failures;
        let asked = slot.cell.get_or_init(|| async move {
            match self.ask(server).await {
                Ok((delegated, lifetime)) => (WellKnown::Delegated(delegated), Instant::now() + lifetime),
                Err(why) => {
                    tracing::debug!(%server, why, "a server says nowhere where it is");
                    let lifetime = FAILURE_LIFETIME.saturating_mul(1 << failed.min(6)).min(FAILURE_LIFETIME_MAX);
                    (WellKnown::Nothing { failures: failed.saturating_add(1) }, Instant::now() + lifetime)
                }
            }
        });
        asked.await.0.clone()
    }

    /// Asks for `/.well-known/matrix/server`: the name that it says, and how long to believe it.
    async fn ask(&self, server: &ServerName) -> Result<(OwnedServerName, Duration), String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "m.server")]
            server: OwnedServerName,
        }

        let url = format!("https://{}:{}/.well-known/matrix/server", server.host(), self.well_known_port);
        let request = Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
        let limits = Limits {
            body_bytes_max: WELL_KNOWN_BYTES_MAX,
            timeout: WELL_KNOWN_TIMEOUT,
            redirects_max: WELL_KNOWN_REDIRECTS_MAX,
        };
        let answer = self.outgoing.send(request, limits).await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the status is {}", answer.status()));
        }
        let lifetime = lifetime(answer.headers());
        let answer: Answer = serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
        Ok((answer.server, lifetime))
    }
}

/// What is known of a server, unless that is over: then a slot to find it out again.
fn current<T>(
    cache: &Cache<OwnedServerName, Arc<Slot<T>>>,
    server: &ServerName,
    failures: impl Fn(&(T, Instant)) -> u32,
) -> Arc<Slot<T>> {
    if let Some(slot) = cache.get(server) {
        if !slot.is_over() {
            return slot;
        }
        let next = Slot::new(slot.cell.get().map_or(0, failures));
        cache.insert(server.to_owned(), next.clone());
        return next;
    }
    let next = Slot::new(0);
    cache.insert(server.to_owned(), next.clone());
    next
}

/// Steps 1, 2, 3.1 and 3.2: an address, or a name with a port, is where it says.
fn direct(server: &ServerName) -> Option<Target> {
    if !server.is_ip_literal() && server.port().is_none() {
        return None;
    }
    let (host, port) = (server.host().to_owned(), server.port().unwrap_or(PORT));
    Some(Target { tls: true, host, port, header: server.to_string(), via: None })
}

/// How long an answer is to be believed.
fn lifetime(headers: &HeaderMap) -> Duration {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut lifetime = WELL_KNOWN_LIFETIME;
    for directive in directives.flat_map(|line| line.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            lifetime = Duration::ZERO;
        } else if let Some(seconds) = directive.strip_prefix("max-age=") {
            lifetime = seconds.trim_matches('"').parse().map_or(lifetime, Duration::from_secs);
        }
    }
    lifetime.clamp(WELL_KNOWN_LIFETIME_MIN, WELL_KNOWN_LIFETIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Authority, json, serve_tls};
    use crate::{Hosts, outgoing};
    use http::{HeaderValue, Response};
    use ruma::server_name;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn target(host: &str, port: u16, header: &str) -> Target {
        Target { tls: true, host: host.to_owned(), port, header: header.to_owned(), via: None }
    }

    /// A server whose well-known answers as told, and how to find it.
    async fn discovery<F>(answer: F) -> (Discovery, tempfile::TempDir)
    where
        F: Fn(Request<Bytes>) -> Response<Bytes> + Clone + Send + Sync + 'static,
    {
        let authority = Authority::new();
        let address = serve_tls("127.0.0.1:0", &authority, "b.example", answer).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, &authority.pem).unwrap();
        let config = outgoing::Config { extra_roots: vec![file], ..outgoing::Config::default() };
        let mut hosts = Hosts::default();
        // What is written down is not looked up in DNS.
        for name in ["b.example", "elsewhere.example"] {
            hosts.add(name, address.ip());
        }
        let outgoing = Outgoing::new(&config, hosts).unwrap();
        let mut discovery = Discovery::new(outgoing, &Config::default());
        discovery.well_known_port = address.port();
        (discovery, folder)
    }

    #[tokio::test]
    async fn names_with_ports_and_addresses_are_where_they_say() {
        let (discovery, _folder) = discovery(|_| json(500, &serde_json::json!({}))).await;
        for (name, expected) in [
            ("1.2.3.4", target("1.2.3.4", 8448, "1.2.3.4")),
            ("1.2.3.4:5", target("1.2.3.4", 5, "1.2.3.4:5")),
            ("[2001:db8::1]", target("[2001:db8::1]", 8448, "[2001:db8::1]")),
            ("[2001:db8::1]:5", target("[2001:db8::1]", 5, "[2001:db8::1]:5")),
            ("b.example:5", target("b.example", 5, "b.example:5")),
        ] {
            assert_eq!(discovery.find(<&ServerName>::try_from(name).unwrap()).await, expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_well_known_delegates() {
        for (server, expected) in [
            ("elsewhere.example:5", target("elsewhere.example", 5, "elsewhere.example:5")),
            ("elsewhere.example", target("elsewhere.example", 8448, "elsewhere.example")),
            ("1.2.3.4", target("1.2.3.4", 8448, "1.2.3.4")),
            ("not a name", target("b.example", 8448, "b.example")),
        ] {
            let answer = move |_| json(200, &serde_json::json!({ "m.server": server }));
            let (discovery, _folder) = discovery(answer).await;
            assert_eq!(discovery.find(server_name!("b.example")).await, expected, "{server}");
        }
    }

    #[tokio::test]
    async fn a_well_known_is_asked_for_once_and_failures_too() {
        for status in [200, 404] {
            let asked = Arc::new(AtomicUsize::new(0));
            let (discovery, _folder) = discovery({
                let asked = asked.clone();
                move |_| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    json(status, &serde_json::json!({ "m.server": "elsewhere.example:5" }))
                }
            })
            .await;
            let find = || discovery.find(server_name!("b.example"));
            let found = futures::future::join_all([find(), find(), find()]).await;
            let expected = if status == 200 { "elsewhere.example" } else { "b.example" };
            assert!(found.iter().all(|target| target.host == expected), "{found:?}");
            discovery.forget(server_name!("b.example"));
            find().await;
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    }

    #[tokio::test]
    async fn a_well_known_that_is_too_large_or_redirects_forever_is_passed_over() {
        let large = |_| json(200, &serde_json::json!({ "m.server": "elsewhere.example", "x": "x".repeat(60_000) }));
        let (discovery_of_large, _folder) = discovery(large).await;
        assert_eq!(discovery_of_large.find(server_name!("b.example")).await.host, "b.example");
        let endless = |_| {
            let mut answer = json(302, &serde_json::json!({}));
            answer.headers_mut().insert("location", HeaderValue::from_static("/.well-known/matrix/server"));
            answer
        };
        let (discovery, _folder) = discovery(endless).await;
        assert_eq!(discovery.find(server_name!("b.example")).await.host, "b.example");
    }

    #[test]
    fn a_lifetime_is_what_the_headers_say_within_bounds() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(text));
            lifetime(&headers)
        };
        assert_eq!(lifetime(&HeaderMap::new()), WELL_KNOWN_LIFETIME);
        assert_eq!(of("public, max-age=3600"), Duration::from_hours(1));
        assert_eq!(of("max-age=99999999"), WELL_KNOWN_LIFETIME_MAX);
        assert_eq!(of("no-store"), WELL_KNOWN_LIFETIME_MIN);
        assert_eq!(of("max-age=x"), WELL_KNOWN_LIFETIME);
    }
}
