//! Whole servers on free ports of the loopback address.

use super::*;
use crate::config::{Agency, Limits, Listen, Metrics as MetricsConfig, Tls};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A server with these agencies.
fn config(folder: &Path, names: &[&str]) -> Config {
    let mut config = Config::dev(folder.join("data"), 0);
    let agency = config.agency.remove(0);
    config.agency = names
        .iter()
        .map(|name| Agency {
            server_name: crate::config::ServerName(ruma::ServerName::parse(name).unwrap()),
            data_dir: folder.join(name),
            public_base_url: format!("https://{name}"),
            ..agency.clone()
        })
        .collect();
    config.metrics = MetricsConfig { address: Some(FREE) };
    config
}

/// Sends a request over a stream and reads the answer: status, headers, body.
async fn send<S>(stream: S, request: Request<Full<Bytes>>, http2: bool) -> (u16, http::HeaderMap, String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let response = if http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: &str, host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).header("host", host).body(Full::default()).unwrap()
}

async fn get(address: SocketAddr, host: &str, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (status, _, body) = send(stream, request("GET", host, path), false).await;
    (status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn agencies_are_told_apart_by_host() {
    let folder = tempfile::tempdir().unwrap();
    let running = Server::start(&config(folder.path(), &["a.example", "b.example"])).await.unwrap();
    let address = running.addresses[0];
    for (host, url) in [("a.example", "https://a.example"), ("B.Example:8448", "https://b.example")] {
        let (status, body) = get(address, host, "/.well-known/matrix/client").await;
        assert_eq!((status, body), (200, format!(r#"{{"m.homeserver":{{"base_url":"{url}"}}}}"#)));
    }
    let (status, body) = get(address, "c.example", "/_matrix/client/versions").await;
    assert_eq!(status, 404);
    assert!(body.contains("M_UNRECOGNIZED"), "{body}");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sole_agency_answers_to_every_host() {
    let folder = tempfile::tempdir().unwrap();
    let running = Server::start(&config(folder.path(), &["a.example"])).await.unwrap();
    let (status, _) = get(running.addresses[0], "127.0.0.1", "/.well-known/matrix/client").await;
    assert_eq!(status, 200);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_the_cors_headers_and_options_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let running = Server::start(&config(folder.path(), &["a.example"])).await.unwrap();
    for (method, path, expected) in [
        ("OPTIONS", "/_matrix/client/v3/register", 200),
        ("GET", "/_matrix/client/v3/nothing", 404),
        ("GET", "/.well-known/matrix/client", 200),
    ] {
        let stream = TcpStream::connect(running.addresses[0]).await.unwrap();
        let (status, headers, _) = send(stream, request(method, "a.example", path), false).await;
        assert_eq!(status, expected, "{method} {path}");
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
        assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("Authorization"));
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &["a.example"]);
    config.limits = Limits { request_bytes_max: base::config::ByteSize::kib(128), ..config.limits };
    let running = Server::start(&config).await.unwrap();
    let body = Full::from(vec![b' '; 128 * 1024 + 1]);
    let request = Request::put("/_matrix/client/v3/nothing").header("host", "a.example").body(body).unwrap();
    let stream = TcpStream::connect(running.addresses[0]).await.unwrap();
    let (status, _, body) = send(stream, request, false).await;
    assert_eq!(status, 413);
    assert!(body.contains("M_TOO_LARGE"), "{body}");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_have_their_own_listener() {
    let folder = tempfile::tempdir().unwrap();
    let running = Server::start(&config(folder.path(), &["a.example"])).await.unwrap();
    let metrics = running.metrics_address.unwrap();
    assert_eq!(get(metrics, "m", "/health/ready").await, (200, "ok\n".to_owned()));
    assert_eq!(get(running.addresses[0], "m", "/health/live").await, (200, "ok\n".to_owned()));
    let (status, text) = get(metrics, "m", "/metrics").await;
    assert_eq!(status, 200);
    for figure in ["chancery_http_requests_total{", "chancery_process_resident_memory_bytes ", "chancery_connections "]
    {
        assert!(text.contains(figure), "{figure} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(get(metrics, "m", "/_matrix/client/versions").await.0, 404);
    assert_eq!(get(running.addresses[0], "a.example", "/metrics").await.0, 404);
    running.shutdown().await;
}

/// Writes a new certificate for a.example and answers with the files.
fn certificate(folder: &Path) -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let files = Tls { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

/// Connects with TLS, trusting the certificate of the file, and speaking this protocol.
async fn connect(
    address: SocketAddr,
    files: &Tls,
    protocol: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("a.example").unwrap(), stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_serves_both_protocols_and_takes_a_new_certificate_without_dropping_connections() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificate(folder.path());
    let mut config = config(folder.path(), &["a.example"]);
    config.listen = vec![Listen { address: FREE, trusted_proxies: Vec::new(), admin: true, tls: Some(files.clone()) }];
    let running = Server::start(&config).await.unwrap();
    let address = running.addresses[0];
    for (protocol, http2) in [(b"h2".as_slice(), true), (b"http/1.1", false)] {
        let stream = connect(address, &files, protocol).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        let request = Request::get("https://a.example/.well-known/matrix/client").body(Full::default()).unwrap();
        assert_eq!(send(stream, request, http2).await.0, 200);
    }

    let old = connect(address, &files, b"http/1.1").await.unwrap();
    certificate(folder.path());
    assert!(connect(address, &files, b"h2").await.is_err(), "the new certificate is not served yet");
    running.reload();
    let new = connect(address, &files, b"http/1.1").await.unwrap();
    for stream in [old, new] {
        let (status, ..) = send(stream, request("GET", "a.example", "/.well-known/matrix/client"), false).await;
        assert_eq!(status, 200);
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(FREE).await.unwrap();
    let mut config = config(folder.path(), &["a.example"]);
    config.listen[0].address = taken.local_addr().unwrap();
    let error = Server::start(&config).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("can't listen on {}", taken.local_addr().unwrap())), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &["a.example"]);
    config.limits = Limits { head_timeout: Duration::from_millis(200), ..config.limits };
    let running = Server::start(&config).await.unwrap();
    for begun in ["", "P", "PRI * HTTP/2", "GET / HTTP/1.1\r\nHost: a"] {
        let mut stream = TcpStream::connect(running.addresses[0]).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // The connection ends, with or without an answer; otherwise this would wait for ever.
        let _ = stream.read_to_end(&mut rest).await;
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_body_does_not_come_is_told_that_it_took_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &["a.example"]);
    config.limits = Limits { request_timeout: Duration::from_millis(300), ..config.limits };
    let running = Server::start(&config).await.unwrap();
    let mut stream = TcpStream::connect(running.addresses[0]).await.unwrap();
    let head = "POST /_matrix/client/v3/login HTTP/1.1\r\nhost: a.example\r\ncontent-length: 100\r\n\r\n{\"type\":";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_does_not_keep_the_server_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &["a.example"]);
    config.shutdown.drain = Duration::from_hours(1);
    let running = Server::start(&config).await.unwrap();
    let address = running.addresses[0];
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    running.shutdown().await;
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest).await;
    assert!(TcpStream::connect(address).await.is_err(), "the socket is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_whose_folder_is_anothers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &["a.example"]);
    Server::start(&config).await.unwrap().shutdown().await;
    config.agency[0].server_name = crate::config::ServerName(ruma::owned_server_name!("b.example"));
    let error = Server::start(&config).await.unwrap_err().to_string();
    assert!(error.contains("it has the data of a.example"), "{error}");
}

/// Posts JSON and reads the JSON of the answer.
async fn call(address: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> (u16, serde_json::Value) {
    let request = Request::builder().method(method).uri(path).header("host", "a.example");
    let request = request.header("authorization", format!("Bearer {token}"));
    let request =
        if token.is_empty() { Request::builder().method(method).uri(path).header("host", "a") } else { request };
    let stream = TcpStream::connect(address).await.unwrap();
    let (status, _, body) = send(stream, request.body(Full::from(body.to_owned())).unwrap(), false).await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn log_in(address: SocketAddr, user: &str, password: &str) -> (u16, serde_json::Value) {
    let identifier = serde_json::json!({ "type": "m.id.user", "user": user });
    let body = serde_json::json!({ "type": "m.login.password", "identifier": identifier, "password": password });
    call(address, "POST", "/_matrix/client/v3/login", "", &body.to_string()).await
}

fn password(text: &str) -> admin::Password {
    admin::Password(base::Secret::new(text.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_manage_users_whether_the_server_runs_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &["a.example"]);
    let ask = async |ask| admin::ask(&config, &config.agency[0], ask).await;
    let create = |name: &str| admin::Ask::CreateUser {
        localpart: name.to_owned(),
        password: password("one two three"),
        admin: false,
    };
    ask(create("alice")).await.unwrap();

    let running = Server::start(&config).await.unwrap();
    let address = running.addresses[0];
    let (status, session) = log_in(address, "alice", "one two three").await;
    assert_eq!((status, session["user_id"].as_str()), (200, Some("@alice:a.example")));
    ask(create("bob")).await.unwrap();
    assert!(ask(create("bob")).await.is_err(), "the name is taken");
    ask(admin::Ask::ResetPassword { localpart: "bob".to_owned(), password: password("four five six") }).await.unwrap();
    assert_eq!(log_in(address, "bob", "one two three").await.0, 403);
    assert_eq!(log_in(address, "bob", "four five six").await.0, 200);
    ask(admin::Ask::DeactivateUser { localpart: "alice".to_owned(), erase: false }).await.unwrap();
    assert_eq!(log_in(address, "alice", "one two three").await.0, 403);
    running.shutdown().await;

    let answer = ask(admin::Ask::ListUsers { after: None, users_max: 10 }).await.unwrap();
    let admin::Answer::Users { users } = answer else { panic!("{answer:?}") };
    let users: Vec<_> = users.iter().map(|user| (user.user_id.as_str(), user.deactivated)).collect();
    assert_eq!(users, [("@alice:a.example", true), ("@bob:a.example", false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_answers_long_polls_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &["a.example"]);
    config.shutdown.drain = Duration::from_hours(1);
    let create =
        admin::Ask::CreateUser { localpart: "alice".to_owned(), password: password("one two three"), admin: false };
    admin::ask(&config, &config.agency[0], create).await.unwrap();
    let running = Server::start(&config).await.unwrap();
    let (address, metrics) = (running.addresses[0], running.metrics_address.unwrap());
    let (_, session) = log_in(address, "alice", "one two three").await;
    let token = session["access_token"].as_str().unwrap().to_owned();
    let (status, first) = call(address, "GET", "/_matrix/client/v3/sync", &token, "").await;
    assert_eq!(status, 200);
    let since = first["next_batch"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/sync?since={since}&timeout=300000");
    let poll = tokio::spawn(async move { call(address, "GET", &path, &token, "").await });
    while !get(metrics, "m", "/metrics").await.1.contains("chancery_long_polls 1") {
        tokio::task::yield_now().await;
    }
    running.shutdown().await;
    let (status, answer) = poll.await.unwrap();
    assert_eq!(status, 200);
    assert!(answer["next_batch"].is_string(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &["a.example"]);
    let running = Server::start(&config).await.unwrap();
    let error = Server::start(&config).await.unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    running.shutdown().await;
    Server::start(&config).await.unwrap().shutdown().await;
}
