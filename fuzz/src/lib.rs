//! What the fuzz targets do with bytes: read them as the server reads what comes from the network, and check
//! what must hold of everything that was read. A broken promise is a panic.
//!
//! `fuzz/run` feeds these through libFuzzer; the test `fuzz_corpus` includes this file and feeds them the
//! corpus on every run of the tests.

use base::{Secret, UnixMillis};
use rules::client_event::{Format, client_event, stripped_state, with_unsigned};
use rules::filter::Facts;
use rules::incoming::{self, DropReason, Unverified};
use rules::{Checked, Pdu, PduDraft, SUPPORTED, SigningKey, build, redaction, room_rules};
use ruma::room_version_rules::{EventIdFormatVersion, RoomIdFormatVersion, RoomVersionRules};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::str::from_utf8;
use sync_core::filter::SyncFilter;
use sync_core::token::{PageToken, SyncToken};

/// The server that signs here.
const SERVER: &str = "a.example";

/// An event of another server: the first byte chooses the room version, the rest is JSON.
pub fn pdu(data: &[u8]) {
    let Some((rules, json)) = versioned(data) else { return };
    let Ok(read) = Unverified::read(json, &rules) else { return };
    assert!(read.required_signers().len() <= incoming::SIGNERS_MAX);
    let event_id = read.event_id().clone();
    let key = key();
    if let Checked::Whole(pdu) | Checked::Redacted(pdu) = read.verify(&rules, &key.public_key_map()) {
        holds(&pdu, &rules);
    }

    // The same event as this server would send it passes all checks, however odd what it says.
    let Ok(pdu) = Pdu::parse_stored(event_id, json, &rules, false) else { return };
    holds(&pdu, &rules);
    let written_id = matches!(rules.event_id_format, EventIdFormatVersion::V1);
    let no_room_id = rules.room_id_format == RoomIdFormatVersion::V2 && pdu.kind_str() == "m.room.create";
    let references = pdu.prev_events().iter().chain(pdu.auth_events()).cloned();
    let draft = PduDraft {
        room_id: (!no_room_id).then(|| pdu.room_id().to_owned()),
        sender: owned("@alice:a.example"),
        kind: pdu.kind().clone(),
        state_key: pdu.state_key().map(str::to_owned),
        content: pdu.content().to_owned(),
        redacts: pdu.redacts().map(ToOwned::to_owned),
        prev_events: pdu.prev_events().to_vec(),
        auth_events: pdu.auth_events().to_vec(),
        depth: pdu.depth(),
        origin_server_ts: UnixMillis(u64::from(pdu.origin_server_ts().0)),
        event_id: written_id.then(|| owned("$fuzz:a.example")),
        reference_hashes: references.map(|id| (id, "A".repeat(43))).collect(),
    };
    sent(draft, &rules, &key);
}

/// A content that a user of this server sends: the first byte chooses the room version, the rest is JSON.
/// Checks that what is stored, hashed and signed is canonical JSON.
pub fn canonical_json(data: &[u8]) {
    let Some((rules, json)) = versioned(data) else { return };
    let Ok(content) = RawValue::from_string(json.to_owned()) else { return };
    let written_id = matches!(rules.event_id_format, EventIdFormatVersion::V1);
    let draft = PduDraft {
        room_id: Some(owned("!room:a.example")),
        sender: owned("@alice:a.example"),
        kind: "org.example.fuzz".into(),
        state_key: None,
        content,
        redacts: None,
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        depth: 1,
        origin_server_ts: UnixMillis(1),
        event_id: written_id.then(|| owned("$fuzz:a.example")),
        reference_hashes: BTreeMap::new(),
    };
    let key = key();
    let Some(first) = sent(draft.clone(), &rules, &key) else { return };
    let value: Value = serde_json::from_str(first.json()).expect("an event is JSON");
    assert_eq!(canonical(&value), first.json(), "an event is canonical JSON");
    let again = sent(PduDraft { content: first.content().to_owned(), ..draft }, &rules, &key);
    assert_eq!(again.expect("canonical JSON can be sent").json(), first.json());
}

/// A filter that a client uploads, used on a few events.
pub fn filter(data: &[u8]) {
    let Ok(json) = from_utf8(data) else { return };
    let Ok(filter) = SyncFilter::parse(json) else { return };
    let (alice, room): (OwnedUserId, OwnedRoomId) = (owned("@alice:a.example"), owned("!room:a.example"));
    let of_rooms = [&filter.timeline, &filter.state, &filter.ephemeral, &filter.room_account_data];
    for (kind, has_url) in [("m.room.message", true), ("", false), ("*", false), (json, true)] {
        for sender in [None, Some(&*alice)] {
            // Account data of the user is in no room; everything else is in one.
            let in_room = Facts { kind, sender, room_id: Some(&room), has_url };
            let in_none = Facts { room_id: None, ..in_room };
            for (matcher, facts) in
                of_rooms.iter().map(|matcher| (*matcher, &in_room)).chain([(&filter.account_data, &in_none)])
            {
                let matches = matcher.matches(facts);
                assert!(matches || !matcher.matches_everything(), "{json}");
                assert!(!matches || !matcher.matches_nothing(), "{json}");
            }
        }
    }
    let _ = filter.rooms.matches(&room);
    if let Some(fields) = &filter.fields {
        let event = r#"{"content":{"a":{"b.c":[1]},"body":"x"},"type":"m.room.message","sender":"@alice:a.example"}"#;
        let selected = fields.select(event);
        assert!(selected.len() <= event.len(), "a part is no larger than the whole: {selected}");
        assert_eq!(fields.select(&selected), selected, "selecting twice is selecting once");
        // Events are objects; nothing else comes here, and nothing else does harm.
        let _ = fields.select(json);
    }
}

/// A token from `since`, `from` or `to`.
pub fn token(data: &[u8]) {
    let Ok(text) = from_utf8(data) else { return };
    if let Ok(token) = text.parse::<SyncToken>() {
        assert_eq!(token.to_string(), text);
        assert_eq!(PageToken::parse(text), Ok(PageToken::from(token)));
    }
    if let Ok(token) = PageToken::parse(text) {
        assert_eq!(PageToken::parse(&token.to_string()), Ok(token));
    }
}

fn versioned(data: &[u8]) -> Option<(RoomVersionRules, &str)> {
    let (version, json) = data.split_first()?;
    let version = SUPPORTED.get(usize::from(*version) % SUPPORTED.len())?;
    Some((room_rules(version)?, from_utf8(json).ok()?))
}

fn key() -> SigningKey {
    let server: OwnedServerName = owned(SERVER);
    SigningKey::generate(server, "1", Secret::new([7; 32])).expect("a key")
}

fn owned<'a, T: TryFrom<&'a str>>(id: &'a str) -> T {
    T::try_from(id).ok().expect("an identifier")
}

/// What this server sends is what any server takes. Nothing if it does not send it.
fn sent(draft: PduDraft, rules: &RoomVersionRules, key: &SigningKey) -> Option<Pdu> {
    let pdu = build(draft, rules, key).ok()?;
    holds(&pdu, rules);
    match rules::incoming::check(pdu.json(), rules, &key.public_key_map()) {
        Checked::Whole(checked) => assert_eq!((checked.event_id(), checked.json()), (pdu.event_id(), pdu.json())),
        // An event may need the signature of another server as well.
        Checked::Drop(DropReason::NoSignature(server)) => assert_ne!(server, SERVER),
        other => panic!("{other:?}: {}", pdu.json()),
    }
    Some(pdu)
}

/// What holds of every event.
fn holds(pdu: &Pdu, rules: &RoomVersionRules) {
    let id: &OwnedEventId = pdu.event_id();
    for format in [Format::WithRoomId, Format::WithoutRoomId] {
        let event = with_unsigned(client_event(pdu, format), r#"{"age":1}"#);
        let event: Value = serde_json::from_str(&event).unwrap_or_else(|error| panic!("{error}: {event}"));
        assert_eq!(event["event_id"], id.as_str());
        assert_eq!(event["type"], pdu.kind_str());
        assert_eq!(event["unsigned"]["age"], 1);
    }
    if let Some(state) = stripped_state(pdu) {
        serde_json::from_str::<Value>(&state).unwrap_or_else(|error| panic!("{error}: {state}"));
    }
    if let Ok(redacted) = redaction::redact(pdu, rules) {
        assert_eq!(redacted.event_id(), id);
        let again = redaction::redact(&redacted, rules).expect("what was redacted can be redacted");
        assert_eq!(again.json(), redacted.json(), "redacting twice is redacting once");
    }
}

/// Canonical JSON, written independently of the library (appendices, "Canonical JSON").
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let sorted: BTreeMap<_, _> = object.iter().collect();
            let fields: Vec<_> = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}
