//! Bodies, and what answers requests.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tower::{Service, ServiceExt};

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or a response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What answers the requests to an agency.
///
/// Requests carry the address of the client as an extension of type [`std::net::IpAddr`]. A response may
/// carry an extension [`base::Route`], the template of the path that matched, for the metrics.
#[derive(Clone)]
pub struct Face(Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>);

impl Face {
    /// The face that a service is, such as a router.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Arc::new(move |request| {
            Box::pin(service.clone().oneshot(request).map(|answer| match answer {
                Ok(response) => response.map(boxed),
                Err(never) => match never {},
            }))
        }))
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        (self.0)(request)
    }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Face")
    }
}

/// A body of any kind.
pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A body of a request that says whether all of it has come.
pub(crate) struct Arriving {
    body: Body,
    arrived: Arc<AtomicBool>,
}

impl Arriving {
    /// The body, and whether all of it has come.
    pub(crate) fn new(body: Body) -> (Self, Arc<AtomicBool>) {
        let arrived = Arc::new(AtomicBool::new(body.is_end_stream()));
        (Self { body, arrived: arrived.clone() }, arrived)
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // One that broke off comes no further: it has nothing left to wait for.
        let ends = matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream();
        if ends {
            self.arrived.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    boxed(Full::new(bytes.into()))
}

/// A response with a JSON value.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", value.to_string())
}

/// A standard error response (client-server API, "Standard error response").
pub(crate) fn error(status: StatusCode, errcode: &str, message: &str) -> Response<Body> {
    json(status, &serde_json::json!({ "errcode": errcode, "error": message }))
}

/// A response with a body of this type.
pub(crate) fn respond(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
