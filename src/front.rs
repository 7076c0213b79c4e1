//! What every request passes on its way to an agency: limits, CORS, the choice of the agency, and the
//! count of it all.
//!
//! An agency is chosen by the host name of the request, whatever its port. If there is only one agency it
//! answers to every host name; otherwise a host name that leads nowhere is answered 404 `M_UNRECOGNIZED`,
//! as an unknown path is, so that the answer doesn't tell which agencies are here.

use crate::agency::Agency;
use crate::body::{self, Body, BoxError};
use crate::config::{Limits, Network};
use crate::health::Health;
use crate::metrics::{HttpLabels, Metrics};
use crate::well_known;
use base::config::ByteSize;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Where other servers send their transactions, which are larger than what clients send.
const TRANSACTIONS: &str = "/_matrix/federation/v1/send/";

/// What all listeners hand their requests to.
#[derive(Debug)]
pub(crate) struct Front {
    hosts: HashMap<String, Arc<Agency>>,
    sole: Option<Arc<Agency>>,
    limits: Limits,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Front {
    pub(crate) fn new(agencies: &[Arc<Agency>], limits: Limits, health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        let hosts = agencies.iter().flat_map(|agency| agency.hosts.iter().map(|host| (host.clone(), agency.clone())));
        let sole = if let [agency] = agencies { Some(agency.clone()) } else { None };
        Self { hosts: hosts.collect(), sole, limits, health, metrics }
    }

    /// Answers a request that came from `peer`.
    pub(crate) async fn answer<B>(&self, request: Request<B>, peer: IpAddr, proxies: &[Network]) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let began = Instant::now();
        let method = request.method().clone();
        let agency = self.agency_of(&request);
        let waits = may_wait(request.uri().path());
        let log_path = tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().path().to_owned());
        let _in_flight = self.metrics.in_flight(waits);
        let mut response = match method {
            Method::OPTIONS => preflight(),
            _ => self.route(request, agency, waits, client_address(peer, proxies)).await,
        };
        add_cors(response.headers_mut());
        if method == Method::HEAD {
            *response.body_mut() = body::full(Bytes::new());
        }
        let elapsed = began.elapsed();
        let name = agency.map_or("", |agency| agency.server_name.as_str());
        if let Some(path) = log_path {
            tracing::debug!(agency = name, %method, path, status = response.status().as_u16(), ?elapsed, "request");
        }
        let route = response.extensions_mut().remove::<base::Route>();
        let labels = HttpLabels::new(name, &method, route.as_ref(), response.status());
        self.metrics.answered(&labels, elapsed, waits);
        response
    }

    async fn route<B>(
        &self,
        request: Request<B>,
        agency: Option<&Arc<Agency>>,
        waits: bool,
        address: impl FnOnce(&HeaderMap) -> IpAddr,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(answer) = self.health.answer(request.method(), request.uri().path()) {
            return answer;
        }
        let Some(agency) = agency else {
            return body::error(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "No agency has this host name here.");
        };
        if let Some(answer) = well_known::answer(&agency.well_known, request.method(), request.uri().path()) {
            return answer;
        }
        // Files come as they come: their size and time have limits of their own, in [agency.media].
        let uploads = is_upload(request.method(), request.uri().path());
        let mut bytes_max = if uploads { ByteSize(u64::MAX) } else { self.limits.request_bytes_max };
        if request.uri().path().starts_with(TRANSACTIONS) {
            bytes_max.0 = bytes_max.0.max(agency.transaction_bytes_max);
        }
        if request.body().size_hint().lower() > bytes_max.0 {
            let message = format!("The body of a request may have {} bytes.", bytes_max.0);
            return body::error(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", &message);
        }
        let address = address(request.headers());
        let request = request.map(|inner| body::boxed(http_body_util::Limited::new(inner, bytes_max.bytes())));
        let (head, inner) = request.into_parts();
        let (inner, arrived) = body::Arriving::new(inner);
        let mut request = Request::from_parts(head, body::boxed(inner));
        request.extensions_mut().insert(address);
        let answer = AssertUnwindSafe(agency.face.answer(request)).catch_unwind();
        let answer = if waits || uploads {
            answer.await
        } else {
            match tokio::time::timeout(self.limits.request_timeout, answer).await {
                Ok(answer) => answer,
                Err(_) if !arrived.load(Ordering::Relaxed) => {
                    let message = "The body of the request did not come in time.";
                    return body::error(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", message);
                }
                Err(_) => {
                    return body::error(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", "The request took too long.");
                }
            }
        };
        answer.unwrap_or_else(|_| {
            // The panic hook has logged where; that it was a request is what is left to say.
            tracing::error!(agency = %agency.server_name, "a request panicked");
            body::error(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal server error.")
        })
    }

    fn agency_of<B>(&self, request: &Request<B>) -> Option<&Arc<Agency>> {
        if self.sole.is_some() {
            return self.sole.as_ref();
        }
        let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().map(http::uri::Authority::as_str).or(header)?;
        let host = host_of(authority);
        self.hosts.get(host).or_else(|| self.hosts.get(&host.to_ascii_lowercase()))
    }
}

/// The host of an authority, without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether the request may wait for news, as long as its own timeout says.
fn may_wait(path: &str) -> bool {
    path.starts_with("/_matrix/client/") && (path.ends_with("/sync") || path.ends_with("/events"))
}

/// Whether the body of the request is a file.
fn is_upload(method: &Method, path: &str) -> bool {
    let below = path.strip_prefix("/_matrix/media/").and_then(|path| path.split_once('/'));
    let is_upload = below.is_some_and(|(_, path)| path == "upload" || path.starts_with("upload/"));
    is_upload && (method == Method::POST || method == Method::PUT)
}

/// The address that a request came from: the last one of X-Forwarded-For that is not a trusted proxy, if a
/// trusted proxy is who connected.
fn client_address(peer: IpAddr, proxies: &[Network]) -> impl FnOnce(&HeaderMap) -> IpAddr {
    let trusted = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    move |headers| {
        let mut address = peer.to_canonical();
        if !trusted(address) {
            return address;
        }
        // Each proxy appends whom it saw, so the list is believed from its end as long as it names proxies.
        let lines = headers.get_all("x-forwarded-for").iter().rev().filter_map(|line| line.to_str().ok());
        for hop in lines.flat_map(|line| line.rsplit(',')) {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            address = hop.to_canonical();
            if !trusted(address) {
                break;
            }
        }
        address
    }
}

/// The answer to every OPTIONS request: no logic, only the headers (client-server API, "Web Browser
/// Clients").
fn preflight() -> Response<Body> {
    let mut response = body::json(StatusCode::OK, &serde_json::json!({}));
    response.headers_mut().insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// The headers that the specification recommends on all responses (client-server API, "Web Browser
/// Clients"), and leave to read Retry-After.
fn add_cors(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization"),
    );
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_its_port() {
        for (authority, host) in
            [("a.example", "a.example"), ("a.example:8448", "a.example"), ("[::1]:8008", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn only_sync_and_events_wait() {
        assert!(may_wait("/_matrix/client/v3/sync"));
        assert!(may_wait("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"));
        assert!(may_wait("/_matrix/client/v3/events"));
        assert!(!may_wait("/_matrix/client/v3/rooms/!a/messages"));
        assert!(!may_wait("/sync"));
    }

    #[test]
    fn only_files_are_let_through_as_they_come() {
        assert!(is_upload(&Method::POST, "/_matrix/media/v3/upload"));
        assert!(is_upload(&Method::PUT, "/_matrix/media/v3/upload/a.example/id"));
        assert!(!is_upload(&Method::GET, "/_matrix/media/v3/upload"));
        assert!(!is_upload(&Method::POST, "/_matrix/media/v1/create"));
        assert!(!is_upload(&Method::POST, "/_matrix/client/v3/media/upload"));
    }

    fn check(peer: &str, forwarded: &[&str], expected: &str) {
        let proxies = ["127.0.0.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
        }
        assert_eq!(client_address(peer.parse().unwrap(), &proxies)(&headers), expected.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        check("127.0.0.1", &["203.0.113.7"], "203.0.113.7");
        check("::ffff:127.0.0.1", &["203.0.113.7"], "203.0.113.7");
        check("127.0.0.1", &["203.0.113.7, 10.0.0.1"], "203.0.113.7");
        check("127.0.0.1", &["203.0.113.7", "10.0.0.1"], "203.0.113.7");
        check("127.0.0.1", &[], "127.0.0.1");
    }

    #[test]
    fn a_client_can_not_name_itself() {
        check("203.0.113.7", &["192.0.2.1"], "203.0.113.7");
        check("127.0.0.1", &["192.0.2.1, 203.0.113.7"], "203.0.113.7");
        check("127.0.0.1", &["192.0.2.1, nonsense"], "127.0.0.1");
    }
}
