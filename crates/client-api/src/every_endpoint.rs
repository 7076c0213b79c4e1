//! What holds for every endpoint: who may call it, with which methods, and what it says to a body that is not what it
//! should be. The table below must name all that is mounted, so that a new endpoint can't be left out.

use crate::testing::{Answer, Server, User};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A line an endpoint: whether it needs a token, the method, the path, and a body in which each field has the type
/// that it should have. A field whose name begins with `~` may have any type.
const ENDPOINTS: &str = include_str!("every_endpoint.txt");

/// What is sent in place of a value: one of each type of JSON. `null` counts as absent in most places.
const OTHERS: [&str; 5] = ["true", "1234", "\"a text\"", "[]", "{}"];

/// Paths whose methods have their own server, outside of this router, or which answer any method.
const METHODS: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH];

#[derive(Debug)]
struct Endpoint {
    needs_token: bool,
    method: Method,
    path: String,
    body: Option<Value>,
}

fn endpoints() -> Vec<Endpoint> {
    let lines = ENDPOINTS.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.splitn(4, ' ');
            let mut word = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
            let needs_token = match word() {
                "token" => true,
                "open" => false,
                other => panic!("neither token nor open: {other}"),
            };
            let method = word().parse().unwrap();
            let path = format!("/_matrix/{}", word());
            let body = words.next().map(|body| serde_json::from_str(body).unwrap_or_else(|e| panic!("{line}: {e}")));
            Endpoint { needs_token, method, path, body }
        })
        .collect()
}

/// Somebody with a room, for whom the parameters of a path are filled in.
struct Scene {
    server: Server,
    alice: User,
    room: String,
    event: String,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        server.user("bob").await;
        let token = Some(alice.token.as_str());
        let room = server.post("/_matrix/client/v3/createRoom", token, &json!({})).await.ok();
        let room = room["room_id"].as_str().unwrap().to_owned();
        let said = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
        let said = server.put(&said, token, &json!({ "msgtype": "m.text", "body": "hello" })).await.ok();
        Self { event: said["event_id"].as_str().unwrap().to_owned(), server, alice, room }
    }

    /// The path with its parameters filled in.
    fn path(&self, template: &str) -> String {
        let fill = |segment: &str| match segment {
            "{user_id}" => self.alice.id.to_string(),
            "{room_id}" | "{room_id_or_alias}" => self.room.clone(),
            "{event_id}" => self.event.clone(),
            "{device_id}" => self.alice.device.clone(),
            "{room_alias}" => "%23alias:example.org".to_owned(),
            "{receipt_type}" => "m.read".to_owned(),
            "{kind}" => "override".to_owned(),
            "{key_name}" => "displayname".to_owned(),
            _ if segment.starts_with('{') => "something".to_owned(),
            _ => segment.to_owned(),
        };
        template.split('/').map(fill).collect::<Vec<_>>().join("/")
    }

    async fn call(&self, endpoint: &Endpoint, token: Option<&str>, body: impl Into<axum::body::Body>) -> Answer {
        let answer = self.server.send(endpoint.method.clone(), &self.path(&endpoint.path), token, body).await;
        assert!(!answer.status.is_server_error(), "{} {}: {answer:?}", endpoint.method, endpoint.path);
        answer
    }
}

/// The same body with another value at each place in turn, and what that place is called.
fn with_wrong_types(body: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut places = vec![String::new()];
    while let Some(place) = places.pop() {
        let here = body.pointer(&place).unwrap();
        let children: Vec<String> = match here {
            Value::Object(fields) => fields.keys().map(|key| key.replace('~', "~0").replace('/', "~1")).collect(),
            Value::Array(entries) => (0..entries.len().min(1)).map(|n| n.to_string()).collect(),
            _ => Vec::new(),
        };
        places.extend(children.into_iter().map(|child| format!("{place}/{child}")));
        if place.contains("~0") {
            continue;
        }
        let others = OTHERS.iter().map(|other| serde_json::from_str::<Value>(other).unwrap());
        for other in others.filter(|other| std::mem::discriminant(other) != std::mem::discriminant(here)) {
            let mut wrong = body.clone();
            *wrong.pointer_mut(&place).unwrap() = other;
            found.push((place.clone(), wrong));
        }
    }
    found
}

/// Gives the fields of any type their names back.
fn plain(body: &Value) -> Value {
    match body {
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.trim_start_matches('~').to_owned(), plain(value))).collect()
        }
        Value::Array(entries) => entries.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["errcode"].as_str().unwrap_or(""))
}

#[tokio::test]
async fn the_table_names_all_that_is_mounted() {
    let scene = Scene::new().await;
    let mut mounted = BTreeSet::new();
    for path in scene.server.paths() {
        // A method that no endpoint has is refused with the names of those that there are.
        let answer = scene.server.send(Method::PATCH, &scene.path(&path), None, "").await;
        answer.refused(405, "M_UNRECOGNIZED");
        let allowed = answer.headers["allow"].to_str().unwrap().to_owned();
        for method in allowed.split(',').filter(|method| *method != "HEAD") {
            // The old name of the same endpoint.
            mounted.insert(format!("{method} {}", path.replace("/client/r0/", "/client/v3/")));
        }
    }
    let named: BTreeSet<_> =
        endpoints().iter().map(|endpoint| format!("{} {}", endpoint.method, endpoint.path)).collect();
    let unnamed: Vec<_> = mounted.difference(&named).collect();
    let gone: Vec<_> = named.difference(&mounted).collect();
    assert!(unnamed.is_empty() && gone.is_empty(), "not in the table: {unnamed:#?}\nnot mounted: {gone:#?}");
}

#[tokio::test]
async fn without_a_valid_token_only_open_endpoints_answer() {
    let scene = Scene::new().await;
    for endpoint in endpoints() {
        let name = format!("{} {}", endpoint.method, endpoint.path);
        let answer = scene.call(&endpoint, None, "").await;
        if endpoint.needs_token {
            assert_eq!(code(&answer), (401, "M_MISSING_TOKEN"), "{name}: {answer:?}");
            let answer = scene.call(&endpoint, Some("not-a-token"), "").await;
            assert_eq!(code(&answer), (401, "M_UNKNOWN_TOKEN"), "{name}: {answer:?}");
        } else {
            assert_ne!(code(&answer), (401, "M_MISSING_TOKEN"), "{name}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_method_that_an_endpoint_has_not_is_refused() {
    let scene = Scene::new().await;
    let endpoints = endpoints();
    let token = Some(scene.alice.token.as_str());
    let paths: BTreeSet<_> = endpoints.iter().map(|endpoint| endpoint.path.as_str()).collect();
    for path in paths {
        let has = |method: &Method| endpoints.iter().any(|other| other.path == path && other.method == *method);
        for method in METHODS.iter().filter(|method| !has(method)) {
            let answer = scene.server.send(method.clone(), &scene.path(path), token, "").await;
            assert_eq!(code(&answer), (405, "M_UNRECOGNIZED"), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let scene = Scene::new().await;
    for endpoint in endpoints().into_iter().filter(|endpoint| endpoint.body.is_some()) {
        let name = format!("{} {}", endpoint.method, endpoint.path);
        for (body, errcode) in [("{", "M_NOT_JSON"), ("{\"a\":1}}", "M_NOT_JSON"), ("no", "M_NOT_JSON")] {
            let answer = scene.call(&endpoint, Some(&scene.alice.token), body).await;
            assert_eq!(code(&answer), (400, errcode), "{name} with {body}: {answer:?}");
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let answer = scene.call(&endpoint, Some(&scene.alice.token), deep).await;
        assert_eq!(code(&answer), (400, "M_BAD_JSON"), "{name} with deep nesting: {answer:?}");
    }
}

#[tokio::test]
async fn a_field_of_another_type_is_refused() {
    let mut scene = Scene::new().await;
    let mut accepted = Vec::new();
    for endpoint in endpoints() {
        let Some(body) = &endpoint.body else { continue };
        for (place, wrong) in with_wrong_types(body) {
            let answer = scene.call(&endpoint, Some(&scene.alice.token), plain(&wrong).to_string()).await;
            let (status, errcode) = code(&answer);
            let is_refused = status == 400 && matches!(errcode, "M_BAD_JSON" | "M_INVALID_PARAM" | "M_MISSING_PARAM");
            if !is_refused {
                let value = wrong.pointer(&place).unwrap();
                accepted
                    .push(format!("{} {} {place} = {value}: {status} {}", endpoint.method, endpoint.path, answer.body));
                scene = Scene::new().await;
            }
        }
    }
    assert!(accepted.is_empty(), "{} were not refused:\n{}", accepted.len(), accepted.join("\n"));
}

/// How clients in service still call endpoints that have another name now: what comes after `/_matrix/` before, and
/// after.
const OLD_NAMES: [(&str, &str); 17] = [
    ("client/r0/", "client/v3/"),
    ("client/unstable/keys/", "client/v3/keys/"),
    ("client/unstable/room_keys/", "client/v3/room_keys/"),
    ("client/unstable/rooms/", "client/v1/rooms/"),
    ("client/unstable/uk.tcpip.msc4133/", "client/v3/"),
    ("client/unstable/org.matrix.msc2432/", "client/v3/"),
    ("client/unstable/org.matrix.msc2918/", "client/v3/"),
    ("client/unstable/org.matrix.msc2946/", "client/v1/"),
    ("client/unstable/org.matrix.msc3030/", "client/v1/"),
    ("client/unstable/org.matrix.msc3856/", "client/v1/"),
    ("client/unstable/org.matrix.msc3916/", "client/v1/"),
    ("client/unstable/org.matrix.msc4151/", "client/v3/"),
    ("client/unstable/org.matrix.msc4260/", "client/v3/"),
    ("client/unstable/xyz.amorgan.knock/", "client/v3/"),
    ("client/unstable/im.nheko.summary/summary/", "client/v1/room_summary/"),
    (
        "client/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/",
        "client/v1/register/m.login.registration_token/",
    ),
    ("media/v1/upload", "media/v3/upload"),
];

#[tokio::test]
async fn old_names_answer_as_the_present_ones() {
    let scene = Scene::new().await;
    let mounted: BTreeSet<String> = scene.server.paths().into_iter().collect();
    let named = endpoints();
    let token = Some(scene.alice.token.as_str());
    for (old, new) in OLD_NAMES {
        let prefix = format!("/_matrix/{old}");
        let paths: Vec<_> = mounted.iter().filter(|path| path.starts_with(&prefix)).collect();
        assert!(!paths.is_empty(), "nothing is mounted as {old}");
        for path in paths {
            let present = path.replacen(old, new, 1);
            assert!(mounted.contains(&present), "{path} has no present name {present}");
            for method in METHODS {
                // Nothing of this changes anything: who asks is not known, or what they ask is not JSON.
                for (token, body) in [(None, ""), (token, "{")] {
                    let reads = |endpoint: &&Endpoint| endpoint.path == present && endpoint.method == method;
                    let reads_body = named.iter().find(reads).is_some_and(|endpoint| endpoint.body.is_some());
                    if token.is_some() && !reads_body {
                        continue;
                    }
                    let ask =
                        async |path: &str| scene.server.send(method.clone(), &scene.path(path), token, body).await;
                    let (before, after) = (ask(path).await, ask(&present).await);
                    assert_eq!(code(&before), code(&after), "{method} {path}");
                }
            }
        }
    }
}
