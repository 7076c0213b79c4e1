//! Whether the server lives and whether it is ready, for load balancers and supervisors.
//!
//! `/health/live` answers 200 as long as the process answers at all; `/health/ready` answers 200 while it
//! takes requests, and 503 before that and once it is shutting down. Both are on every listener.

use crate::body::{self, Body};
use http::{Method, Response, StatusCode};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the server takes requests.
#[derive(Debug, Default)]
pub(crate) struct Health {
    ready: AtomicBool,
}

impl Health {
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// The answer, if the path is one of health.
    pub(crate) fn answer(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        let ready = match path.strip_prefix("/health/")? {
            "live" => true,
            "ready" => self.ready.load(Ordering::Acquire),
            _ => return None,
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(body::error(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "Only GET and HEAD are here."));
        }
        let (status, text) = if ready { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "no\n") };
        Some(body::respond(status, "text/plain; charset=utf-8", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(health: &Health, path: &str, status: Option<u16>) {
        assert_eq!(health.answer(&Method::GET, path).map(|answer| answer.status().as_u16()), status, "{path}");
    }

    #[test]
    fn readiness_follows_the_switch_and_liveness_does_not() {
        let health = Health::default();
        check(&health, "/health/ready", Some(503));
        check(&health, "/health/live", Some(200));
        health.set_ready(true);
        check(&health, "/health/ready", Some(200));
        check(&health, "/health/other", None);
        check(&health, "/_matrix/client/versions", None);
    }
}
