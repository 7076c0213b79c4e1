//! Push gateways: which may be told, and how they are asked (Push Gateway API).

use super::Config;
use bytes::Bytes;
use delivery_core::{Jitter, Outcome};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, Uri};
use quick_cache::sync::Cache;
use remote::outgoing::{Limits, Outgoing, Range};
use ruma::serde::JsonObject;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The path of every gateway (client-server API, `POST /pushers/set`).
const PATH: &str = "/_matrix/push/v1/notify";
/// The longest URL of a gateway, in bytes.
const URL_BYTES_MAX: usize = 2048;
/// The largest answer of a gateway that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of how many gateways it is remembered how many requests they get.
const GATEWAYS_MAX: usize = 10_000;

/// Why a gateway can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// The URL is none.
    #[error("the URL of the push gateway is not valid")]
    Invalid,
    /// The URL has another scheme.
    #[error("the URL of the push gateway must be one of HTTPS")]
    NotHttps,
    /// The URL has another path.
    #[error("the path of the push gateway must be /_matrix/push/v1/notify")]
    Path,
    /// The operator allows others only.
    #[error("the push gateway is not one of those that this server tells")]
    NotAllowed,
}

/// Which gateways may be told.
#[derive(Clone, Debug, Default)]
pub struct GatewayRules {
    hosts: Vec<String>,
    near: Vec<Range>,
}

impl GatewayRules {
    /// Those of the settings. Without TLS, only those at addresses of ranges that the operator has allowed.
    #[must_use]
    pub fn new(config: &Config, allowed_ranges: &[Range]) -> Self {
        Self { hosts: config.gateways.clone(), near: allowed_ranges.to_vec() }
    }

    /// Checks the URL of a gateway.
    ///
    /// # Errors
    ///
    /// [`BadUrl`].
    pub fn check(&self, url: &str) -> Result<(), BadUrl> {
        let uri: Uri = url.parse().map_err(|_| BadUrl::Invalid)?;
        let host = uri.host().filter(|_| url.len() <= URL_BYTES_MAX).ok_or(BadUrl::Invalid)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(BadUrl::Invalid);
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_near(host, &self.near) => {}
            Some("http") => return Err(BadUrl::NotHttps),
            _ => return Err(BadUrl::Invalid),
        }
        if uri.path() != PATH || uri.query().is_some() {
            return Err(BadUrl::Path);
        }
        let allowed = self.hosts.is_empty() || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
        if allowed { Ok(()) } else { Err(BadUrl::NotAllowed) }
    }
}

fn is_near(host: &str, allowed_ranges: &[Range]) -> bool {
    let allows = |address: IpAddr| allowed_ranges.iter().any(|range| range.contains(address.to_canonical()));
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => allows(address),
        Err(_) => host.eq_ignore_ascii_case("localhost") && allows(IpAddr::from([127, 0, 0, 1])),
    }
}

/// What a gateway made of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has taken it.
    Accepted,
    /// It knows nothing of the pushkey.
    Rejected,
    /// It has not taken it, for now.
    Failed(String, Option<Duration>),
}

impl Answer {
    /// What follows for the delivery.
    pub fn outcome(&self, jitter: Jitter) -> Outcome {
        match self {
            Self::Accepted => Outcome::Accepted,
            // The pusher is another one by now.
            Self::Rejected => Outcome::Failed { retry_after: None, jitter },
            Self::Failed(_, retry_after) => Outcome::Failed { retry_after: *retry_after, jitter },
        }
    }
}

/// The way to the gateways.
pub(super) struct Gateways {
    outgoing: Outgoing,
    timeout: Duration,
    /// Those that wait or ask, of each gateway.
    turns: Cache<String, Arc<Semaphore>>,
    turns_each: usize,
    all: Semaphore,
}

impl Gateways {
    pub fn new(outgoing: Outgoing, config: &Config) -> Self {
        let turns = Cache::new(GATEWAYS_MAX);
        let all = Semaphore::new(config.requests_max);
        Self { outgoing, timeout: config.timeout, turns, turns_each: config.gateway_requests_max, all }
    }

    /// Tells a gateway. Waits for a turn first: a slow gateway makes only those wait who want to tell it.
    pub async fn tell(&self, url: &str, pushkey: &str, body: Vec<u8>) -> Answer {
        let Ok(uri) = url.parse::<Uri>() else { return failed("its URL is not valid") };
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let turns = self
            .turns
            .get_or_insert_with(&host, || Ok::<_, std::convert::Infallible>(Arc::new(Semaphore::new(self.turns_each))));
        let turns = match turns {
            Ok(turns) => turns,
            Err(never) => match never {},
        };
        let (Ok(_turn), Ok(_one)) = (turns.acquire().await, self.all.acquire().await) else {
            return failed("there are no turns");
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body));
        let Ok(request) = request else { return failed("its URL is not valid") };
        let limits = Limits { body_bytes_max: ANSWER_BYTES_MAX, timeout: self.timeout, redirects_max: 0 };
        match self.outgoing.send(request, limits).await {
            Ok(response) => read(&response, pushkey),
            Err(error) => failed(&error.to_string()),
        }
    }
}

fn failed(why: &str) -> Answer {
    Answer::Failed(why.to_owned(), None)
}

fn read(response: &Response<Bytes>, pushkey: &str) -> Answer {
    if !response.status().is_success() {
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        return Answer::Failed(format!("it answered {}", response.status()), seconds.map(Duration::from_secs));
    }
    // What answers 200 without saying what a gateway says, is none.
    let Ok(told) = serde_json::from_slice::<JsonObject>(response.body()) else {
        return failed("its answer is not that of a push gateway");
    };
    let rejected = told.get("rejected").and_then(Value::as_array);
    if rejected.is_some_and(|keys| keys.iter().any(|key| key.as_str() == Some(pushkey))) {
        Answer::Rejected
    } else {
        Answer::Accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gateways: &[&str], url: &str, expected: Result<(), BadUrl>) {
        let gateways = gateways.iter().map(ToString::to_string).collect();
        let config = Config { gateways, ..Config::default() };
        let ranges = ["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        assert_eq!(GatewayRules::new(&config, &ranges).check(url), expected, "{url}");
    }

    #[test]
    fn a_gateway_is_asked_over_https_at_its_path() {
        check(&[], "https://push.example/_matrix/push/v1/notify", Ok(()));
        check(&[], "https://push.example:8443/_matrix/push/v1/notify", Ok(()));
        check(&[], "http://push.example/_matrix/push/v1/notify", Err(BadUrl::NotHttps));
        check(&[], "ftp://push.example/_matrix/push/v1/notify", Err(BadUrl::Invalid));
        check(&[], "/_matrix/push/v1/notify", Err(BadUrl::Invalid));
        check(&[], "https://", Err(BadUrl::Invalid));
        check(&[], "https://user@push.example/_matrix/push/v1/notify", Err(BadUrl::Invalid));
        check(&[], "https://push.example/_matrix/push/v1/notify?x=1", Err(BadUrl::Path));
        check(&[], "https://push.example/_matrix/push/v1/other", Err(BadUrl::Path));
        check(&[], "https://push.example", Err(BadUrl::Path));
        check(&[], &format!("https://push.example/{}", "x".repeat(3000)), Err(BadUrl::Invalid));
    }

    #[test]
    fn without_tls_a_gateway_must_be_at_an_allowed_address() {
        check(&[], "http://127.0.0.1:5000/_matrix/push/v1/notify", Ok(()));
        check(&[], "http://localhost:5000/_matrix/push/v1/notify", Ok(()));
        check(&[], "http://[fd00::1]/_matrix/push/v1/notify", Ok(()));
        check(&[], "http://10.0.0.1/_matrix/push/v1/notify", Err(BadUrl::NotHttps));
    }

    #[test]
    fn the_operator_can_name_the_gateways() {
        check(&["push.example"], "https://PUSH.example/_matrix/push/v1/notify", Ok(()));
        check(&["push.example"], "https://other.example/_matrix/push/v1/notify", Err(BadUrl::NotAllowed));
    }

    #[test]
    fn only_what_a_gateway_says_to_have_taken_is_delivered() {
        let answer = |status: u16, body: &'static str| {
            read(&Response::builder().status(status).body(Bytes::from(body)).unwrap(), "key")
        };
        assert_eq!(answer(200, r#"{"rejected":[]}"#), Answer::Accepted);
        assert_eq!(answer(200, r#"{"rejected":["other"]}"#), Answer::Accepted);
        assert_eq!(answer(200, r#"{"rejected":["key"]}"#), Answer::Rejected);
        for (status, body) in
            [(200, ""), (200, "<html>"), (200, "[]"), (502, "{}"), (404, r#"{"rejected":["key"]}"#), (302, "{}")]
        {
            assert!(matches!(answer(status, body), Answer::Failed(..)), "{status} {body}");
        }
        let response = Response::builder().status(429).header("Retry-After", "17").body(Bytes::new()).unwrap();
        assert!(matches!(read(&response, "key"), Answer::Failed(_, Some(after)) if after == Duration::from_secs(17)));
    }
}
