//! What can be found of an event: `content.body` of `m.room.message`, `content.name` of `m.room.name`, and what
//! `m.room.topic` says (client-server API, "Server Side Search").

use rules::Pdu;
use rules::filter::has_url;
use serde::Deserialize;
use serde_json::Value;

/// In which of its keys an event is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `content.body` of a message.
    Body,
    /// `content.name`.
    Name,
    /// `content.topic`.
    Topic,
}

impl Key {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Body, Self::Name, Self::Topic];

    /// The type of the events that have it.
    #[must_use]
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Body => "m.room.message",
            Self::Name => "m.room.name",
            Self::Topic => "m.room.topic",
        }
    }

    /// The key of an event.
    #[must_use]
    pub fn of(pdu: &Pdu) -> Option<Self> {
        match (pdu.kind_str(), pdu.state_key()) {
            ("m.room.message", None) => Some(Self::Body),
            ("m.room.name", Some("")) => Some(Self::Name),
            ("m.room.topic", Some("")) => Some(Self::Topic),
            _ => None,
        }
    }

    /// A number of two bits.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Body => 0,
            Self::Name => 1,
            Self::Topic => 2,
        }
    }
}

/// The text by which an event is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Where it is from.
    pub key: Key,
    /// The text.
    pub text: String,
    /// Whether the event has a `url`.
    pub has_url: bool,
}

/// The text of an event; none if it has none that is searched.
#[must_use]
pub fn text_of(pdu: &Pdu) -> Option<Text> {
    let key = Key::of(pdu)?;
    let content: Content = serde_json::from_str(pdu.content().get()).ok()?;
    let text = match key {
        Key::Body => content.message()?,
        Key::Name => content.name.as_ref().and_then(Value::as_str)?.to_owned(),
        Key::Topic => content.topic()?,
    };
    Some(Text { key, text, has_url: has_url(pdu) })
}

/// The text of an event that an edit of it replaces; none if the edit leaves none.
#[must_use]
pub fn edited_text(target: &Pdu, edit: &Pdu) -> Option<Text> {
    #[derive(Deserialize)]
    struct Edit {
        #[serde(rename = "m.new_content")]
        new_content: Content,
    }

    let key = Key::of(target).filter(|key| *key == Key::Body && target.kind() == edit.kind())?;
    let Edit { new_content } = serde_json::from_str(edit.content().get()).ok()?;
    Some(Text { key, text: new_content.message()?, has_url: has_url(target) })
}

/// The parts of contents that are looked at. Any of them may have any shape.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    body: Option<Value>,
    name: Option<Value>,
    topic: Option<Value>,
    #[serde(rename = "m.topic")]
    topic_forms: Option<Value>,
    #[serde(rename = "m.relates_to")]
    relates_to: Option<Value>,
}

impl Content {
    fn message(&self) -> Option<String> {
        let body = self.body.as_ref()?.as_str()?;
        let is_reply = self.relates_to.as_ref().is_some_and(|relation| relation.get("m.in_reply_to").is_some());
        Some(if is_reply { without_quote(body) } else { body }.to_owned())
    }

    /// The plain topic, and that among its other representations (client-server API, `m.room.topic`).
    fn topic(&self) -> Option<String> {
        let forms = self.topic_forms.as_ref().and_then(|forms| forms.get("m.text")?.as_array());
        let plain = forms
            .into_iter()
            .flatten()
            .filter(|form| form.get("mimetype").is_none_or(|mimetype| mimetype.as_str() == Some("text/plain")));
        let mut texts: Vec<&str> = self.topic.as_ref().and_then(Value::as_str).into_iter().collect();
        for text in plain.filter_map(|form| form.get("body")?.as_str()) {
            // Clients write the same into both.
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        (!texts.is_empty()).then(|| texts.join("\n"))
    }
}

/// A reply without what older clients put before it of the message that it answers: lines that begin with `> `, and
/// an empty one.
fn without_quote(body: &str) -> &str {
    let mut rest = body;
    while let Some(line) = rest.strip_prefix("> ") {
        rest = line.split_once('\n').map_or("", |(_, rest)| rest);
    }
    if rest.len() == body.len() { body } else { rest.strip_prefix('\n').unwrap_or(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::room_rules;
    use ruma::{RoomVersionId, owned_event_id};
    use serde_json::json;

    fn pdu(kind: &str, state_key: Option<&str>, content: &Value) -> Pdu {
        let mut json = json!({
            "type": kind, "content": content, "sender": "@a:a.example", "room_id": "!r:a.example", "depth": 1,
            "origin_server_ts": 7, "prev_events": [], "auth_events": [], "hashes": {"sha256": "x"}, "signatures": {},
        });
        if let Some(state_key) = state_key {
            json["state_key"] = json!(state_key);
        }
        let rules = room_rules(&RoomVersionId::V11).unwrap();
        Pdu::parse_stored(owned_event_id!("$event"), json.to_string(), &rules, false).unwrap()
    }

    fn text(kind: &str, state_key: Option<&str>, content: &Value) -> Option<String> {
        text_of(&pdu(kind, state_key, content)).map(|text| text.text)
    }

    #[test]
    fn messages_names_and_topics_have_texts() {
        assert_eq!(text("m.room.message", None, &json!({"body": "b"})).as_deref(), Some("b"));
        assert_eq!(text("m.room.name", Some(""), &json!({"name": "n"})).as_deref(), Some("n"));
        let topic = json!({"topic": "t", "m.topic": {"m.text": [
            {"body": "t"}, {"body": "<b>h</b>", "mimetype": "text/html"}, {"body": "p", "mimetype": "text/plain"},
        ]}});
        assert_eq!(text("m.room.topic", Some(""), &topic).as_deref(), Some("t\np"));
    }

    #[test]
    fn nothing_else_has_a_text() {
        for (kind, state_key, content) in [
            ("m.room.encrypted", None, json!({"body": "b"})),
            ("m.room.message", Some(""), json!({"body": "b"})),
            ("m.room.name", Some("x"), json!({"name": "n"})),
            ("m.room.message", None, json!({"body": 7})),
            ("m.room.message", None, json!({})),
            ("m.reaction", None, json!({"body": "b"})),
            ("m.room.topic", Some(""), json!({"topic": {}, "m.topic": []})),
        ] {
            assert_eq!(text(kind, state_key, &content), None, "{kind} {content}");
        }
    }

    #[test]
    fn what_a_reply_quotes_is_not_its_text() {
        let relation = json!({"m.in_reply_to": {"event_id": "$x"}});
        let body = "> <@a:b> first\n> second\n\nanswer\n> kept";
        let reply = json!({"body": body, "m.relates_to": relation});
        assert_eq!(text("m.room.message", None, &reply).as_deref(), Some("answer\n> kept"));
        assert_eq!(text("m.room.message", None, &json!({"body": body})).as_deref(), Some(body));
    }

    #[test]
    fn an_edit_has_the_text_of_its_new_content() {
        let target = pdu("m.room.message", None, &json!({"body": "b"}));
        let edit = pdu("m.room.message", None, &json!({"body": "* n", "m.new_content": {"body": "n"}}));
        assert_eq!(edited_text(&target, &edit).unwrap().text, "n");
        assert_eq!(edited_text(&target, &target), None);
        let name = pdu("m.room.name", Some(""), &json!({"name": "b"}));
        assert_eq!(edited_text(&name, &edit), None);
    }
}
