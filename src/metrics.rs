//! Figures for Prometheus.

use crate::body::{self, Body};
use crate::process;
use base::Route;
use http::{Method, Response, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// What the server counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<HttpLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    long_polls: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
}

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HttpLabels {
    agency: String,
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

impl HttpLabels {
    pub(crate) fn new(agency: &str, method: &Method, route: Option<&Route>, status: StatusCode) -> Self {
        // Names that a client makes up must not become labels: there would be no end of them.
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::HEAD => "HEAD",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        let route = route.map_or("", |route| &*route.0).to_owned();
        Self { agency: agency.to_owned(), method, route, status: status.as_u16() }
    }
}

/// The bounds of the histogram of durations, in seconds.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

impl Metrics {
    /// The metrics, and the registry's other figures: of the process, and of what `register` adds.
    pub(crate) fn new(register: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::with_prefix("chancery");
        let requests = Family::default();
        registry.register(
            "http_requests",
            "Requests that were answered, by agency, method, template of the path and status",
            requests.clone(),
        );
        let seconds: Family<RouteLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register(
            "http_request_duration_seconds",
            "How long requests took, except those that wait for news",
            seconds.clone(),
        );
        let [in_flight, long_polls, connections] = [Gauge::default(), Gauge::default(), Gauge::default()];
        registry.register("http_requests_in_flight", "Requests that are being answered", in_flight.clone());
        registry.register("long_polls", "Requests that may be waiting for news", long_polls.clone());
        registry.register("connections", "Open connections", connections.clone());
        let connections_refused = Counter::default();
        registry.register(
            "connections_refused",
            "Connections that ended before a request: failed TLS handshakes, and clients that were too slow",
            connections_refused.clone(),
        );
        registry.register_collector(Box::new(process::Figures));
        register(&mut registry);
        Self { registry, requests, seconds, in_flight, long_polls, connections, connections_refused }
    }

    /// Counts a request as long as the answer lives.
    pub(crate) fn in_flight(&self, waits: bool) -> Counted {
        Counted::new(if waits { &self.long_polls } else { &self.in_flight })
    }

    /// Counts a request that was answered.
    pub(crate) fn answered(&self, labels: &HttpLabels, elapsed: Duration, waits: bool) {
        if !waits {
            let route = RouteLabels { method: labels.method, route: labels.route.clone() };
            self.seconds.get_or_create(&route).observe(elapsed.as_secs_f64());
        }
        self.requests.get_or_create(labels).inc();
    }

    /// The answer to a scrape.
    pub(crate) fn scrape(&self) -> Response<Body> {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => body::respond(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text),
            Err(error) => {
                tracing::error!(%error, "the metrics can't be written");
                body::respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", "")
            }
        }
    }
}

/// Something that a gauge counts while it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_request_is_counted_by_its_route() {
        let metrics = Metrics::new(|_| {});
        let route = Route("/_matrix/client/versions".into());
        let labels = HttpLabels::new("a.example", &Method::GET, Some(&route), StatusCode::OK);
        metrics.answered(&labels, Duration::from_millis(3), false);
        let poll = metrics.in_flight(true);
        let scrape = async || metrics.scrape().into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(scrape().await.to_vec()).unwrap();
        for line in [
            r#"chancery_http_requests_total{agency="a.example",method="GET",route="/_matrix/client/versions",status="200"} 1"#,
            r#"chancery_http_request_duration_seconds_bucket{le="0.005",method="GET",route="/_matrix/client/versions"} 1"#,
            "chancery_long_polls 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(poll);
        assert!(String::from_utf8(scrape().await.to_vec()).unwrap().contains("chancery_long_polls 0"));
    }

    #[test]
    fn a_method_that_a_client_made_up_is_no_label() {
        let method = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(HttpLabels::new("", &method, None, StatusCode::OK).method, "other");
    }
}
