//! What a gateway is told (Push Gateway API, `POST /_matrix/push/v1/notify`).

use super::Inner;
use super::badge::Unread;
use records::Pusher;
use rooms::{RoomError, RoomReader, StoredEvent};
use rules::push::Outcome;
use ruma::UserId;
use ruma::serde::JsonObject;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a rule says of how an event is to be presented.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tweaks(Map<String, Value>);

impl Tweaks {
    pub fn of(outcome: &Outcome) -> Self {
        let mut tweaks = Map::new();
        for action in &outcome.actions {
            let Some(name) = action.get("set_tweak").and_then(Value::as_str) else { continue };
            // Without a value a highlight is one (client-server API, "Actions").
            let value = action.get("value").cloned().or_else(|| (name == "highlight").then_some(Value::Bool(true)));
            tweaks.extend(value.map(|value| (name.to_owned(), value)));
        }
        Self(tweaks)
    }

    fn is_loud(&self) -> bool {
        self.0.contains_key("sound") || self.0.get("highlight") == Some(&Value::Bool(true))
    }
}

/// How an event is shown: the same for all who are told of it.
#[derive(Debug)]
pub(super) struct Described {
    event: Map<String, Value>,
    /// Whose membership it is about.
    target: Option<String>,
}

impl Inner {
    /// How an event is shown. Names may be those of a moment ago.
    pub fn describe(&self, reader: &RoomReader, event: &StoredEvent) -> Result<Arc<Described>, RoomError> {
        self.described.get_or_insert_with(&event.num, || Ok(Arc::new(describe(reader, event)?)))
    }
}

fn describe(reader: &RoomReader, event: &StoredEvent) -> Result<Described, RoomError> {
    let pdu = &event.pdu;
    let text = |kind: &str, state_key: &str, field: &str| -> Result<Option<Value>, RoomError> {
        let Some(found) = reader.state_event(reader.state(), kind, state_key)? else { return Ok(None) };
        let mut content: JsonObject = serde_json::from_str(found.pdu.content().get()).unwrap_or_default();
        Ok(content.remove(field).filter(|value| value.as_str().is_some_and(|text| !text.is_empty())))
    };
    let mut described = Map::new();
    described.insert("type".to_owned(), json!(pdu.kind_str()));
    described.insert("sender".to_owned(), json!(pdu.sender()));
    let names = [
        ("sender_display_name", text("m.room.member", pdu.sender().as_str(), "displayname")?),
        ("room_name", text("m.room.name", "", "name")?),
        ("room_alias", text("m.room.canonical_alias", "", "alias")?),
    ];
    described.extend(names.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let content = serde_json::from_str(pdu.content().get()).unwrap_or_default();
    described.insert("content".to_owned(), content);
    let target = (pdu.kind_str() == "m.room.member").then(|| pdu.state_key().map(ToOwned::to_owned)).flatten();
    Ok(Described { event: described, target })
}

/// What a pusher's data says.
pub(super) struct Data {
    /// Where the gateway is.
    pub url: String,
    /// Whether it is told ids alone.
    ids_only: bool,
    /// What is passed on to it.
    rest: JsonObject,
}

impl Data {
    pub fn read(data: &str) -> Option<Self> {
        let mut rest: JsonObject = serde_json::from_str(data).ok()?;
        let url = rest.remove("url")?.as_str()?.to_owned();
        let ids_only = rest.get("format").and_then(Value::as_str) == Some("event_id_only");
        Some(Self { url, ids_only, rest })
    }
}

/// The event of a notification.
pub(super) struct Subject<'a> {
    pub event: &'a StoredEvent,
    pub reader: &'a RoomReader,
    pub described: &'a Described,
    pub tweaks: &'a Tweaks,
}

/// The body of a request: about an event, or of the counts alone.
pub(super) fn body(
    pusher: &Pusher,
    user: &UserId,
    data: &Data,
    ids_only: bool,
    unread: Unread,
    subject: Option<&Subject<'_>>,
) -> Vec<u8> {
    let mut device = Map::new();
    device.insert("app_id".to_owned(), json!(pusher.app_id));
    device.insert("pushkey".to_owned(), json!(pusher.pushkey));
    device.insert("pushkey_ts".to_owned(), json!(pusher.record.set_at.0 / 1000));
    device.insert("data".to_owned(), json!(data.rest));
    let mut notification = Map::new();
    let mut counts = Map::new();
    // Counts that are zero are left out, but for the one that is the news: gateways keep what they were told last.
    if unread.messages > 0 || subject.is_none() {
        counts.insert("unread".to_owned(), json!(unread.messages));
    }
    if unread.calls > 0 {
        counts.insert("missed_calls".to_owned(), json!(unread.calls));
    }
    notification.insert("counts".to_owned(), Value::Object(counts));
    if let Some(subject) = subject {
        let pdu = &subject.event.pdu;
        notification.insert("event_id".to_owned(), json!(pdu.event_id()));
        notification.insert("room_id".to_owned(), json!(subject.reader.room_id()));
        let urgent = subject.tweaks.is_loud() || matches!(pdu.kind_str(), "m.room.encrypted" | "m.call.invite");
        notification.insert("prio".to_owned(), json!(if urgent { "high" } else { "low" }));
        if !data.ids_only && !ids_only {
            notification.extend(subject.described.event.clone());
            if subject.described.target.as_deref() == Some(user.as_str()) {
                notification.insert("user_is_target".to_owned(), json!(true));
            }
            device.insert("tweaks".to_owned(), json!(subject.tweaks.0));
        }
    } else {
        notification.insert("prio".to_owned(), json!("low"));
    }
    notification.insert("devices".to_owned(), json!([device]));
    json!({ "notification": notification }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tweaks_are_what_the_actions_set() {
        let outcome =
            |actions: Value| Outcome { notify: true, highlight: false, actions: actions.as_array().unwrap().clone() };
        let check = |actions: Value, expected: Value, loud: bool| {
            let tweaks = Tweaks::of(&outcome(actions));
            assert_eq!((json!(tweaks.0), tweaks.is_loud()), (expected, loud));
        };
        check(json!(["notify"]), json!({}), false);
        check(
            json!(["notify", {"set_tweak": "sound", "value": "ring"}, {"set_tweak": "highlight"}]),
            json!({"sound": "ring", "highlight": true}),
            true,
        );
        check(json!(["notify", {"set_tweak": "highlight", "value": false}]), json!({"highlight": false}), false);
        check(json!(["notify", {"set_tweak": "sound"}, 7]), json!({}), false);
    }
}
