use super::*;
use crate::Hosts;
use crate::outgoing::{self, Outgoing};
use crate::testing::{json as answer_json, serve};
use base::{FakeClock, Secret};
use rules::{Checked, OldKey, PduDraft, SigningKey, room_rules};
use ruma::events::TimelineEventType;
use ruma::{RoomVersionId, owned_server_name, server_name};
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use store::MemoryEngine;

const NOW: u64 = 1_700_000_000_000;
const DAY: u64 = 86_400_000;

fn signing_key(server: &str, version: &str, seed: u8) -> Arc<SigningKey> {
    Arc::new(SigningKey::generate(server.try_into().unwrap(), version, Secret::new([seed; 32])).unwrap())
}

/// The other server, `b.example`: what it answers can be changed, and how often it was asked is counted.
struct Other {
    document: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    address: std::net::SocketAddr,
}

impl Other {
    async fn new(document: String) -> Self {
        let document = Arc::new(Mutex::new(document));
        let asked = Arc::new(AtomicUsize::new(0));
        let address = serve({
            let (document, asked) = (document.clone(), asked.clone());
            move |request| {
                asked.fetch_add(1, Ordering::SeqCst);
                let text = document.lock().unwrap().clone();
                match request.uri().path() {
                    "/_matrix/key/v2/server" if !text.is_empty() => {
                        answer_json(200, &serde_json::from_str(&text).unwrap())
                    }
                    _ => answer_json(404, &json!({"errcode": "M_NOT_FOUND"})),
                }
            }
        })
        .await;
        Self { document, asked, address }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

struct Agency {
    keys: Keys,
    ring: KeyRing,
    clock: Arc<FakeClock>,
}

async fn agency(overrides: &[(&str, std::net::SocketAddr)], notaries: &[&str]) -> Agency {
    let overrides = overrides.iter().map(|(name, address)| ((*name).to_owned(), format!("http://{address}")));
    let notaries = notaries.iter().map(|name| (*name).to_owned()).collect();
    let config = Config { overrides: overrides.collect(), notaries, ..Config::default() };
    let ring = KeyRing::from(signing_key("a.example", "1", 1));
    let outgoing_config = outgoing::Config::default();
    let outgoing = Outgoing::new(&outgoing_config, Hosts::default()).unwrap();
    let peers = Peers::new(&config, &outgoing_config, outgoing, ring.clone()).unwrap();
    let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
    let clock = Arc::new(FakeClock::new(UnixMillis(NOW)));
    Agency { keys: Keys::new(&config, peers, ring.clone(), records, clock.clone()), ring, clock }
}

fn request_of(key: &SigningKey, uri: &str, body: &str) -> String {
    let content = (!body.is_empty()).then_some(body);
    XMatrix::sign(key, server_name!("a.example"), "PUT", uri, content).header()
}

async fn verify(agency: &Agency, header: &str, uri: &str, body: &str) -> Result<OwnedServerName, RequestError> {
    agency.keys.verify_request([header], SignedRequest { method: "PUT", uri, body }).await
}

#[tokio::test]
async fn a_request_is_believed_if_its_servers_key_has_signed_it() {
    let key = signing_key("b.example", "1", 2);
    let other = Other::new(document::own(&key.clone().into(), UnixMillis(NOW + DAY))).await;
    let a = agency(&[("b.example", other.address)], &[]).await;
    let header = request_of(&key, "/_matrix/x", r#"{"a":1}"#);
    assert_eq!(verify(&a, &header, "/_matrix/x", r#"{ "a" : 1 }"#).await.unwrap(), "b.example");
    assert_eq!(verify(&a, &header, "/_matrix/x", r#"{"a":1}"#).await.unwrap(), "b.example");
    assert_eq!(other.asked(), 1, "keys are kept");
    assert!(matches!(verify(&a, &header, "/_matrix/y", r#"{"a":1}"#).await, Err(RequestError::BadSignature(_))));
    assert!(matches!(verify(&a, &header, "/_matrix/x", r#"{"a":2}"#).await, Err(RequestError::BadSignature(_))));
    assert!(matches!(verify(&a, &header, "/_matrix/x", "[").await, Err(RequestError::Malformed)));
    assert!(matches!(verify(&a, "Bearer x", "/_matrix/x", "").await, Err(RequestError::Missing)));
    let own = request_of(&a.ring.current(), "/_matrix/x", "");
    assert!(matches!(verify(&a, &own, "/_matrix/x", "").await, Err(RequestError::Itself)));
    let elsewhere = XMatrix::sign(&key, server_name!("c.example"), "PUT", "/_matrix/x", None).header();
    assert!(matches!(verify(&a, &elsewhere, "/_matrix/x", "").await, Err(RequestError::Destination(_))));
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_by_all_who_need_it() {
    let key = signing_key("b.example", "1", 2);
    let other = Other::new(document::own(&key.clone().into(), UnixMillis(NOW + DAY))).await;
    let a = agency(&[("b.example", other.address)], &[]).await;
    let stranger = signing_key("b.example", "9", 9);
    let header = request_of(&stranger, "/_matrix/x", "");
    let outcomes = futures::future::join_all((0..10).map(|_| verify(&a, &header, "/_matrix/x", ""))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(RequestError::UnknownKey { .. }))));
    assert_eq!(other.asked(), 1);
}

#[tokio::test]
async fn a_key_is_not_believed_longer_than_it_is_valid() {
    let key = signing_key("b.example", "1", 2);
    let other = Other::new(document::own(&key.clone().into(), UnixMillis(NOW + 365 * DAY))).await;
    let a = agency(&[("b.example", other.address)], &[]).await;
    let header = request_of(&key, "/_matrix/x", "");
    verify(&a, &header, "/_matrix/x", "").await.unwrap();
    other.document.lock().unwrap().clear();
    a.clock.advance(VALID_MAX + Duration::from_secs(1));
    assert!(matches!(verify(&a, &header, "/_matrix/x", "").await, Err(RequestError::UnknownKey { .. })));
}

#[tokio::test]
async fn a_document_that_is_not_signed_by_its_server_is_refused() {
    let (key, stranger) = (signing_key("b.example", "1", 2), signing_key("b.example", "1", 9));
    let mut forged: Value = serde_json::from_str(&document::own(&stranger.into(), UnixMillis(NOW + DAY))).unwrap();
    forged["verify_keys"]["ed25519:1"]["key"] = key.public_key().encode().into();
    let other = Other::new(forged.to_string()).await;
    let a = agency(&[("b.example", other.address)], &[]).await;
    let header = request_of(&key, "/_matrix/x", "");
    assert!(matches!(verify(&a, &header, "/_matrix/x", "").await, Err(RequestError::UnknownKey { .. })));
    *other.document.lock().unwrap() = document::own(&signing_key("c.example", "1", 2).into(), UnixMillis(NOW + DAY));
    assert!(matches!(verify(&a, &header, "/_matrix/x", "").await, Err(RequestError::UnknownKey { .. })));
}

#[tokio::test]
async fn a_notary_gives_keys_of_servers_that_are_gone() {
    let key = signing_key("b.example", "1", 2);
    let notary_key = signing_key("n.example", "1", 3);
    let own: Value = serde_json::from_str(&document::own(&notary_key.clone().into(), UnixMillis(NOW + DAY))).unwrap();
    let mut signed: ruma::CanonicalJsonObject =
        serde_json::from_str(&document::own(&key.clone().into(), UnixMillis(NOW + DAY))).unwrap();
    let unsigned = signed.clone();
    notary_key.sign_json(&mut signed).unwrap();
    let trusted = Arc::new(Mutex::new(unsigned));
    let notary = serve({
        let trusted = trusted.clone();
        move |request| match request.uri().path() {
            "/_matrix/key/v2/server" => answer_json(200, &own),
            _ => answer_json(200, &json!({ "server_keys": [*trusted.lock().unwrap()] })),
        }
    })
    .await;
    let gone = Other::new(String::new()).await;
    let a = agency(&[("b.example", gone.address), ("n.example", notary)], &["n.example"]).await;
    let header = request_of(&key, "/_matrix/x", "");
    let refused = verify(&a, &header, "/_matrix/x", "").await;
    assert!(matches!(refused, Err(RequestError::UnknownKey { .. })), "without the notary's own signature");
    *trusted.lock().unwrap() = signed;
    verify(&a, &header, "/_matrix/x", "").await.unwrap();
}

/// An event of a room of `b.example`, sent at a time.
fn event(key: &SigningKey, version: &RoomVersionId, at: u64) -> String {
    let draft = PduDraft {
        room_id: Some("!r:b.example".try_into().unwrap()),
        sender: "@b:b.example".try_into().unwrap(),
        kind: TimelineEventType::from("m.room.message"),
        state_key: None,
        content: serde_json::value::to_raw_value(&json!({ "body": "x" })).unwrap(),
        redacts: None,
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        depth: 1,
        origin_server_ts: UnixMillis(at),
        event_id: (*version == RoomVersionId::V1).then(|| "$x:b.example".try_into().unwrap()),
        reference_hashes: BTreeMap::new(),
    };
    let pdu = rules::build(draft, &room_rules(version).unwrap(), key).unwrap();
    pdu.json().to_owned()
}

#[tokio::test]
async fn events_are_checked_with_the_keys_that_were_valid_when_they_were_sent() {
    let (old, key) = (signing_key("b.example", "1", 2), signing_key("b.example", "2", 3));
    let expired = OldKey { key_id: old.key_id(), public_key: old.public_key(), expired_at: UnixMillis(NOW - DAY) };
    let ring = KeyRing::new(key.clone(), vec![expired]);
    let other = Other::new(document::own(&ring, UnixMillis(NOW + DAY))).await;
    let a = agency(&[("b.example", other.address)], &[]).await;
    let check = async |key: &SigningKey, version: RoomVersionId, at: u64| {
        let events = vec![event(key, &version, at), "{}".to_owned()];
        let checked = a.keys.check_events(&room_rules(&version).unwrap(), events).await.unwrap();
        assert_eq!(checked.len(), 2);
        assert!(matches!(checked[1], Checked::Drop(_)));
        matches!(checked[0], Checked::Whole(_))
    };
    assert!(check(&key, RoomVersionId::V10, NOW).await);
    assert!(check(&old, RoomVersionId::V10, NOW - 2 * DAY).await);
    assert!(!check(&old, RoomVersionId::V10, NOW).await, "the key had expired");
    assert!(check(&old, RoomVersionId::V4, NOW).await, "old rooms don't ask when a key was valid");
    assert!(!check(&key, RoomVersionId::V10, NOW + 30 * DAY).await, "the key may not be valid then");
    assert!(!check(&signing_key("b.example", "2", 9), RoomVersionId::V10, NOW).await);
    assert_eq!(other.asked(), 1);
}

#[tokio::test]
async fn events_of_this_server_are_checked_with_its_own_keys() {
    let a = agency(&[], &[]).await;
    let key = a.ring.current();
    let draft = |at| {
        let text = event(&signing_key("b.example", "1", 2), &RoomVersionId::V10, at);
        let mut object: ruma::CanonicalJsonObject = serde_json::from_str(&text).unwrap();
        object.remove("signatures");
        object.insert("sender".to_owned(), "@a:a.example".to_owned().into());
        object
    };
    let mut object = draft(NOW);
    let rules = room_rules(&RoomVersionId::V10).unwrap();
    ruma::signatures::hash_and_sign_event("a.example", &pair(&key), &mut object, &rules.redaction).unwrap();
    let text = ruma::CanonicalJsonValue::Object(object).to_string();
    let expired = OldKey { key_id: key.key_id(), public_key: key.public_key(), expired_at: UnixMillis(NOW + 1) };
    a.ring.replace(signing_key("a.example", "2", 5), vec![expired]);
    let checked = a.keys.check_events(&rules, vec![text]).await.unwrap();
    assert!(matches!(checked[0], Checked::Whole(_)), "{checked:?}");
}

/// The key as the library has it.
fn pair(key: &SigningKey) -> ruma::signatures::Ed25519KeyPair {
    let prefix = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let document = [prefix.as_slice(), key.seed().expose().as_slice()].concat();
    ruma::signatures::Ed25519KeyPair::from_der(&document, key.version().to_owned()).unwrap()
}

#[tokio::test]
async fn a_servers_document_is_given_to_others_even_when_it_is_gone() {
    let key = signing_key("b.example", "1", 2);
    let document = document::own(&key.into(), UnixMillis(NOW + DAY));
    let other = Other::new(document.clone()).await;
    let a = agency(&[("b.example", other.address)], &[]).await;
    let b = server_name!("b.example");
    let same = |left: Option<String>| {
        let left: Value = serde_json::from_str(&left.unwrap()).unwrap();
        left == serde_json::from_str::<Value>(&document).unwrap()
    };
    assert!(same(a.keys.published(b, UnixMillis(NOW)).await.unwrap()));
    assert!(same(a.keys.published(b, UnixMillis(NOW)).await.unwrap()));
    assert_eq!(other.asked(), 1);
    other.document.lock().unwrap().clear();
    a.clock.advance(Duration::from_hours(48));
    assert!(same(a.keys.published(b, UnixMillis(NOW + 2 * DAY)).await.unwrap()));
    assert_eq!(a.keys.published(&owned_server_name!("c.invalid"), UnixMillis(NOW)).await.unwrap(), None);
}
