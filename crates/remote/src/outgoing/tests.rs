use super::*;
use crate::testing::{Authority, serve, serve_tls};
use http::{Request, Response};
use std::net::SocketAddr;

const LIMITS: Limits = Limits { body_bytes_max: 1000, timeout: Duration::from_secs(10), redirects_max: 3 };

fn outgoing(allowed: &[&str]) -> Outgoing {
    let allowed_ranges = allowed.iter().map(|range| range.parse().unwrap()).collect();
    Outgoing::new(&Config { allowed_ranges, ..Config::default() }, Hosts::default()).unwrap()
}

async fn get(outgoing: &Outgoing, url: String) -> Result<Bytes, Error> {
    let answer = outgoing.send(Request::get(url).body(Bytes::new()).unwrap(), LIMITS).await;
    answer.map(Response::into_body)
}

/// A server that redirects what asks for /to/... to that, and answers with the request otherwise.
async fn echo() -> SocketAddr {
    serve(|request| {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        if let Some(to) = path.strip_prefix("/to/") {
            return Response::builder().status(307).header(LOCATION, to).body(Bytes::new()).unwrap();
        }
        let secret = request.headers().get(AUTHORIZATION).map_or("-", |secret| secret.to_str().unwrap());
        let body = String::from_utf8_lossy(request.body());
        Response::new(Bytes::from(format!("{} {path} {secret} {body}", request.method())))
    })
    .await
}

#[tokio::test]
async fn an_allowed_address_is_asked() {
    let address = echo().await;
    let request = Request::put(format!("http://{address}/a?b=c")).header(AUTHORIZATION, "s").body("x".into()).unwrap();
    let answer = outgoing(&["127.0.0.0/8"]).send(request, LIMITS).await.unwrap();
    assert_eq!(answer.body(), "PUT /a?b=c s x");
}

#[tokio::test]
async fn an_address_of_this_machine_is_refused() {
    let address = echo().await;
    let plain = outgoing(&[]);
    assert_eq!(get(&plain, format!("http://{address}/")).await, Err(Error::Refused));
    assert_eq!(get(&plain, format!("http://0x7f.1:{}/", address.port())).await, Err(Error::Refused));
    assert_eq!(get(&plain, format!("http://[::ffff:127.0.0.1]:{}/", address.port())).await, Err(Error::Refused));
    let named = get(&plain, format!("http://localhost:{}/", address.port())).await;
    assert_eq!(named, Err(Error::Refused), "by name");
}

#[tokio::test]
async fn a_redirect_to_an_address_of_this_machine_is_refused() {
    let address = echo().await;
    let one = outgoing(&["127.0.0.1"]);
    assert_eq!(get(&one, format!("http://{address}/to/http://127.0.0.2:1/")).await, Err(Error::Refused));
    assert_eq!(get(&one, format!("http://{address}/to/ftp://127.0.0.1/")).await, Err(Error::Redirect));
}

#[tokio::test]
async fn redirects_are_followed_so_far_and_tell_no_secrets_to_others() {
    let (first, second) = (echo().await, echo().await);
    let local = outgoing(&["127.0.0.1"]);
    let ask = |path: String| {
        let request = Request::post(format!("http://{first}{path}")).header(AUTHORIZATION, "s").body("x".into());
        async { local.send(request.unwrap(), LIMITS).await.map(Response::into_body) }
    };
    assert_eq!(ask("/to//a".to_owned()).await.unwrap(), "POST /a s x");
    assert_eq!(ask(format!("/to/http://{second}/a")).await.unwrap(), "POST /a - x");
    assert_eq!(ask("/to//to//to//to//a".to_owned()).await, Err(Error::Redirect));
    let none = Limits { redirects_max: 0, ..LIMITS };
    let request = Request::get(format!("http://{first}/to//a")).body(Bytes::new()).unwrap();
    assert_eq!(local.send(request, none).await.unwrap().status(), 307);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_cut_off_packed_or_not() {
    use base64::Engine as _;
    // 200,000 zeros.
    let packed = format!("H4sIAAAAAAACA+3BMQEAAADCoPVPbQZ/o{}CA1wB7WOBcQA0DAA==", "A".repeat(257));
    let packed = Bytes::from(base64::engine::general_purpose::STANDARD.decode(packed).unwrap());
    let address = serve(move |request| match request.uri().path() {
        "/packed" => Response::builder().header("content-encoding", "gzip").body(packed.clone()).unwrap(),
        _ => Response::new(Bytes::from(vec![b'x'; 1001])),
    })
    .await;
    let local = outgoing(&["127.0.0.1"]);
    assert_eq!(get(&local, format!("http://{address}/")).await, Err(Error::TooLarge));
    assert_eq!(get(&local, format!("http://{address}/packed")).await, Err(Error::TooLarge));
    let wide = Limits { body_bytes_max: 200_000, ..LIMITS };
    let request = Request::get(format!("http://{address}/packed")).body(Bytes::new()).unwrap();
    assert_eq!(local.send(request, wide).await.unwrap().body().len(), 200_000);
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { timeout: Duration::from_millis(50), ..LIMITS };
    let request = Request::get(format!("http://{address}/")).body(Bytes::new()).unwrap();
    assert_eq!(outgoing(&["127.0.0.1"]).send(request, limits).await.map(Response::into_body), Err(Error::Timeout));
}

#[tokio::test]
async fn certificates_are_judged_by_the_configured_authorities() {
    let authority = Authority::new();
    let address =
        serve_tls("127.0.0.1:0", &authority, "a.example", |_| Response::new(Bytes::from_static(b"hello"))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    let mut hosts = Hosts::default();
    hosts.add("a.example", address.ip());
    hosts.add("b.example", address.ip());
    let config = Config { extra_roots: vec![file.clone()], ..Config::default() };
    let knowing = Outgoing::new(&config, hosts.clone()).unwrap();
    let url = |name: &str| format!("https://{name}:{}/", address.port());
    assert_eq!(get(&knowing, url("a.example")).await.unwrap(), "hello");
    assert!(matches!(get(&knowing, url("b.example")).await, Err(Error::Connect(_))));
    let unknowing = Outgoing::new(&Config::default(), hosts).unwrap();
    assert!(matches!(get(&unknowing, url("a.example")).await, Err(Error::Connect(_))));
    std::fs::write(&file, "nothing").unwrap();
    assert!(matches!(Outgoing::new(&config, Hosts::default()), Err(SetupError::Roots { .. })));
}

#[tokio::test]
async fn only_http_is_spoken() {
    let local = outgoing(&["127.0.0.1"]);
    for url in ["ftp://127.0.0.1/", "file://127.0.0.1/etc/passwd", "/relative"] {
        assert_eq!(get(&local, url.to_owned()).await, Err(Error::Url), "{url}");
    }
}
