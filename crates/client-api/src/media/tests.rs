//! Files, as clients see them.

use crate::testing::{Server, User};
use ::media::Legacy;
use axum::body::Body;
use base::config::ByteSize;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use std::io::Cursor;

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    fn refused(&self, status: u16, errcode: &str) {
        assert_eq!((self.status.as_u16(), self.json()["errcode"].as_str().unwrap()), (status, errcode));
    }
}

struct Scene {
    server: Server,
    alice: User,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ::media::Config)) -> Self {
        let server = Server::with_media(change).await;
        Self { alice: server.user("alice").await, server }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.server.respond(request.body(body.into()).unwrap()).await;
        let (parts, body) = response.into_parts();
        Got { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    fn token(&self) -> String {
        format!("Bearer {}", self.alice.token)
    }

    async fn upload(&self, kind: &str, query: &str, body: impl Into<Body>) -> Got {
        let headers = [(AUTHORIZATION.as_str(), &*self.token()), (CONTENT_TYPE.as_str(), kind)];
        self.ask(Method::POST, &format!("/_matrix/media/v3/upload{query}"), &headers, body).await
    }

    /// Uploads and answers `server/id`.
    async fn uploaded(&self, kind: &str, query: &str, body: impl Into<Body>) -> String {
        let uploaded = self.upload(kind, query, body).await;
        assert_eq!(uploaded.status, StatusCode::OK, "{:?}", uploaded.body);
        uploaded.json()["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Got {
        let token = self.token();
        let all = [headers, &[(AUTHORIZATION.as_str(), &token)]].concat();
        self.ask(Method::GET, path, &all, Body::empty()).await
    }

    async fn download(&self, medium: &str, headers: &[(&str, &str)]) -> Got {
        self.get(&format!("/_matrix/client/v1/media/download/{medium}"), headers).await
    }
}

fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb([9, 90, 200])));
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_with_headers_that_keep_it_from_harm() {
    let scene = Scene::new().await;
    let medium = scene.uploaded("text/plain; charset=utf-8", "?filename=a%20b.txt", "hello").await;
    let got = scene.download(&medium, &[]).await;
    assert_eq!((got.status, &got.body[..]), (StatusCode::OK, &b"hello"[..]));
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-disposition", "inline; filename=\"a b.txt\""),
        ("content-length", "5"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("cache-control", "private, max-age=86400"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    assert!(got.header("content-security-policy").starts_with("sandbox; default-src 'none';"));
    let named = scene.download(&format!("{medium}/%F0%9F%90%94"), &[]).await;
    assert_eq!(named.header("content-disposition"), "inline; filename*=utf-8''%F0%9F%90%94");
    let again = scene.download(&medium, &[("if-none-match", got.header("etag"))]).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let page = scene.uploaded("text/html", "", "<script>alert(1)</script>").await;
    assert_eq!(scene.download(&page, &[]).await.header("content-disposition"), "attachment");
    let untyped = scene.uploaded("", "", "x").await;
    assert_eq!(scene.download(&untyped, &[]).await.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn a_part_of_a_file_can_be_asked_for() {
    let scene = Scene::new().await;
    let medium = scene.uploaded("text/plain", "", "0123456789").await;
    let got = scene.download(&medium, &[("range", "bytes=2-4")]).await;
    assert_eq!((got.status, &got.body[..]), (StatusCode::PARTIAL_CONTENT, &b"234"[..]));
    assert_eq!((got.header("content-range"), got.header("content-length")), ("bytes 2-4/10", "3"));
    let end = scene.download(&medium, &[("range", "bytes=-2")]).await;
    assert_eq!(&end.body[..], b"89");
    let beyond = scene.download(&medium, &[("range", "bytes=10-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10"));
    let other = scene.download(&medium, &[("range", "bytes=2-4"), ("if-range", "\"other\"")]).await;
    assert_eq!((other.status, &other.body[..]), (StatusCode::OK, &b"0123456789"[..]));
    let same = scene.download(&medium, &[("range", "bytes=2-4"), ("if-range", got.header("etag"))]).await;
    assert_eq!(same.status, StatusCode::PARTIAL_CONTENT);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let scene = Scene::new().await;
    for medium in ["example.org/unknown", "other.example/unknown", "example.org/..%2f..%2fetc", "not%20a%20name/x"] {
        scene.download(medium, &[]).await.refused(404, "M_NOT_FOUND");
    }
    for query in ["timeout_ms=soon", "timeout_ms=-1", "allow_remote=perhaps"] {
        scene.download(&format!("example.org/unknown?{query}"), &[]).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn an_upload_can_follow_its_name() {
    let scene = Scene::new().await;
    let token = Some(scene.alice.token.as_str());
    let created = scene.server.post("/_matrix/media/v1/create", token, &json!({})).await.ok();
    let medium = created["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    assert_eq!(created["unused_expires_at"], 1_700_000_000_000_u64 + 86_400_000);
    scene.download(&format!("{medium}?timeout_ms=0"), &[]).await.refused(504, "M_NOT_YET_UPLOADED");
    let path = format!("/_matrix/media/v3/upload/{medium}?filename=late.txt");
    let bob = scene.server.user("bob").await;
    scene.server.send(Method::PUT, &path, Some(&bob.token), "bob's").await.refused(403, "M_FORBIDDEN");
    scene.server.send(Method::PUT, &path, token, "late").await.ok();
    let got = scene.download(&medium, &[]).await;
    assert_eq!((&got.body[..], got.header("content-disposition")), (&b"late"[..], "inline; filename=\"late.txt\""));
    scene.server.send(Method::PUT, &path, token, "").await.refused(409, "M_CANNOT_OVERWRITE_MEDIA");
    let unknown = "/_matrix/media/v3/upload/example.org/unknown";
    scene.server.send(Method::PUT, unknown, token, "x").await.refused(404, "M_NOT_FOUND");
    for _ in 0..20 {
        scene.server.post("/_matrix/media/v1/create", token, &json!({})).await.ok();
    }
    scene.server.post("/_matrix/media/v1/create", token, &json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn the_limits_are_told_and_hold() {
    let scene = Scene::with(|config| {
        config.upload_bytes_max = ByteSize(10);
        config.user_files_max = Some(1);
    })
    .await;
    for path in ["/_matrix/client/v1/media/config", "/_matrix/media/v3/config"] {
        assert_eq!(scene.get(path, &[]).await.json(), json!({ "m.upload.size": 10 }));
    }
    scene.upload("text/plain", "", "more than ten").await.refused(413, "M_TOO_LARGE");
    let headers = [(AUTHORIZATION.as_str(), &*scene.token()), ("content-length", "11")];
    let said = scene.ask(Method::POST, "/_matrix/media/v3/upload", &headers, Body::empty()).await;
    said.refused(413, "M_TOO_LARGE");
    scene.uploaded("text/plain", "", "few").await;
    scene.upload("text/plain", "", "few").await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn an_image_is_shown_in_small() {
    let scene = Scene::new().await;
    let medium = scene.uploaded("image/png", "", picture(400, 200)).await;
    let thumbnail = |query: &'static str| {
        let path = format!("/_matrix/client/v1/media/thumbnail/{medium}?{query}");
        let scene = &scene;
        async move { scene.get(&path, &[]).await }
    };
    for _ in 0..2 {
        let got = thumbnail("width=96&height=96&method=crop").await;
        assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "image/jpeg"));
        assert_eq!(got.header("content-disposition"), "inline; filename=\"thumbnail.jpeg\"");
        let image = image::load_from_memory(&got.body).unwrap();
        assert_eq!((image.width(), image.height()), (96, 96));
    }
    let scaled = image::load_from_memory(&thumbnail("width=90&height=20").await.body).unwrap();
    assert_eq!((scaled.width(), scaled.height()), (96, 48));
    let itself = thumbnail("width=640&height=480&method=scale&animated=true").await;
    assert_eq!((itself.header("content-type"), &itself.body[..]), ("image/png", &picture(400, 200)[..]));
    thumbnail("width=96").await.refused(400, "M_MISSING_PARAM");
    thumbnail("width=-1&height=1").await.refused(400, "M_INVALID_PARAM");
    thumbnail("width=0&height=1").await.refused(400, "M_INVALID_PARAM");
    thumbnail("width=1&height=1&method=stretch").await.refused(400, "M_INVALID_PARAM");
    let text = scene.uploaded("image/png", "", "this is no image").await;
    let path = format!("/_matrix/client/v1/media/thumbnail/{text}?width=32&height=32");
    scene.get(&path, &[]).await.refused(400, "M_UNKNOWN");
}

#[tokio::test]
async fn an_image_that_is_too_large_has_no_thumbnail() {
    let scene = Scene::with(|config| config.thumbnails.source_pixels_max = 1_000).await;
    let medium = scene.uploaded("image/png", "", picture(40, 40)).await;
    let path = format!("/_matrix/client/v1/media/thumbnail/{medium}?width=32&height=32");
    scene.get(&path, &[]).await.refused(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn the_old_endpoints_serve_only_what_the_settings_let_them() {
    for (legacy, status) in [(Legacy::Off, StatusCode::NOT_FOUND), (Legacy::Open, StatusCode::OK)] {
        let scene = Scene::with(|config| config.legacy = legacy).await;
        let medium = scene.uploaded("image/png", "", picture(400, 200)).await;
        for path in ["v3/download/M", "r0/download/M/name.png", "v1/thumbnail/M?width=32&height=32"] {
            let path = format!("/_matrix/media/{}", path.replace('M', &medium));
            let got = scene.ask(Method::GET, &path, &[], Body::empty()).await;
            assert_eq!(got.status, status, "{path}");
        }
    }
}

#[tokio::test]
async fn only_administrators_see_what_is_quarantined() {
    let scene = Scene::new().await;
    let medium = scene.uploaded("text/plain", "", "bad").await;
    let mxc = ::media::Mxc::parse(&format!("mxc://{medium}")).unwrap();
    scene.server.state.media.quarantine(&mxc, &scene.alice.id).await.unwrap();
    scene.download(&medium, &[]).await.refused(404, "M_NOT_FOUND");
    let bypass = format!("{medium}?admin_unsafely_bypass_quarantine=true");
    scene.download(&bypass, &[]).await.refused(404, "M_NOT_FOUND");
    scene.upload("text/plain", "", "bad").await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn guests_may_look_but_not_upload() {
    let server = Server::with(|_, accounts| accounts.registration.guests = true).await;
    let guest = server.post("/_matrix/client/v3/register?kind=guest", None, &json!({})).await.ok();
    let token = guest["access_token"].as_str();
    server.send(Method::POST, "/_matrix/media/v3/upload", token, "x").await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    let path = "/_matrix/client/v1/media/download/example.org/unknown";
    server.get(path, token).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn without_previews_there_is_no_such_endpoint() {
    let scene = Scene::new().await;
    for path in ["client/v1/media", "media/v3"] {
        let path = format!("/_matrix/{path}/preview_url");
        scene.get(&format!("{path}?url=https://x.example/"), &[]).await.refused(404, "M_UNRECOGNIZED");
        scene.get(&path, &[]).await.refused(400, "M_MISSING_PARAM");
        scene.get(&format!("{path}?url=https://x.example/&ts=now"), &[]).await.refused(400, "M_INVALID_PARAM");
    }
}

/// A site with a page and a picture, which counts what it is asked.
async fn site() -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let page = r#"<title>Old</title><meta property="og:title" content="The page">
        <meta property="og:image" content="p.png">
        <link type="application/json+oembed" href="/oembed">"#;
    let counted = asked.clone();
    let page = move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move { ([(CONTENT_TYPE, "text/html")], page) }
    };
    let oembed = r#"{"version":"1.0","type":"link","title":"Unused","provider_name":"Site"}"#;
    let router = axum::Router::new()
        .route("/page", axum::routing::get(page))
        .route("/oembed", axum::routing::get(async move || oembed))
        .route("/p.png", axum::routing::get(async || ([(CONTENT_TYPE, "image/png")], picture(279, 129))))
        .route("/away", axum::routing::get(async || axum::response::Redirect::temporary("http://127.0.0.2:1/")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

async fn with_previews(change: impl FnOnce(&mut ::media::Previews)) -> Scene {
    let scene = Scene::with(|config| {
        config.previews.enabled = true;
        change(&mut config.previews);
    })
    .await;
    let config = remote::outgoing::Config {
        allowed_ranges: vec!["127.0.0.1".parse().unwrap()],
        ..remote::outgoing::Config::default()
    };
    let outgoing = remote::Outgoing::new(&config, remote::Hosts::default()).unwrap();
    scene.server.state.media.set_outgoing(outgoing);
    scene
}

#[tokio::test]
async fn a_page_is_previewed_with_its_picture() {
    let (site, asked) = site().await;
    let scene = with_previews(|_| {}).await;
    let path = format!("/_matrix/client/v1/media/preview_url?url=http://{site}/page%23part");
    let got = scene.get(&path, &[]).await;
    assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "application/json"), "{:?}", got.body);
    let mut preview = got.json();
    let image = preview["og:image"].take();
    assert_eq!(
        preview,
        json!({
            "og:title": "The page",
            "og:site_name": "Site",
            "og:image": null,
            "og:image:type": "image/png",
            "og:image:width": 279,
            "og:image:height": 129,
            "matrix:image:size": picture(279, 129).len(),
        })
    );
    let image = image.as_str().unwrap().strip_prefix("mxc://").unwrap();
    assert_eq!(scene.download(image, &[]).await.body, picture(279, 129));
    assert_eq!(scene.get(&path, &[]).await.json()["og:title"], "The page");
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1, "it is told from memory");
    scene.server.clock.advance(std::time::Duration::from_hours(24));
    scene.get(&path, &[]).await;
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2);
    let picture = format!("/_matrix/media/v3/preview_url?url=http://{site}/p.png");
    assert_eq!(scene.get(&picture, &[]).await.json()["og:title"], "p.png");
}

#[tokio::test]
async fn pages_that_lead_where_they_may_not_have_no_preview() {
    let (site, _) = site().await;
    let scene = with_previews(|previews| previews.hosts_refused = vec!["secret.example".to_owned()]).await;
    let ask = |url: String| {
        let path = format!("/_matrix/client/v1/media/preview_url?url={url}");
        let scene = &scene;
        async move { scene.get(&path, &[]).await }
    };
    ask("http://127.0.0.3/".to_owned()).await.refused(403, "M_FORBIDDEN");
    ask(format!("http://{site}/away")).await.refused(403, "M_FORBIDDEN");
    ask("https://www.secret.example/".to_owned()).await.refused(403, "M_FORBIDDEN");
    ask(format!("http://{site}/missing")).await.refused(502, "M_UNKNOWN");
    for url in ["ftp://x.example/", "x", "http://user:word@x.example/", "javascript:alert(1)"] {
        ask(url.to_owned()).await.refused(400, "M_INVALID_PARAM");
    }
}
