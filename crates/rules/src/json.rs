//! JSON objects that are hashed and signed: canonical JSON (appendices, "Canonical JSON"), and the events of
//! room versions 1 to 5 that are not quite.
//!
//! From room version 6 on an event with a fraction, or with an integer that a double cannot hold, does not
//! exist. Older rooms have such events, and servers MUST NOT refuse them there. The library has no value for
//! those numbers, so such a number is held as a string that starts with [`MARK`] and is written without its
//! quotes again. Text that has the mark itself is refused where numbers are marked: no event can pretend.
//!
//! What an old event's number looks like when it is signed is specified nowhere. This follows the appendix
//! where it speaks (`-0` is `0`, `1e10` is `10000000000`) and Python's notation otherwise, which is what those
//! rooms' servers spoke. Integers beyond 64 bits are refused.

use base::limits::JSON_DEPTH_MAX;
use ruma::canonical_json::{CanonicalJsonValue, RedactingSerializer, redact_in_place};
use ruma::room_version_rules::{EventIdFormatVersion, RedactionRules, RoomVersionRules};
use ruma::serde::Base64;
use ruma::serde::base64::{Standard, UrlSafe};
use ruma::{CanonicalJsonObject, Int};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// What starts a string that stands for a number: a character of Unicode's private use, and a name.
const MARK: &str = "\u{f8f6}number:";

/// Which numbers an event may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Integers from -(2^53)+1 to (2^53)-1.
    Canonical,
    /// Fractions and other integers as well.
    Any,
}

impl Numbers {
    /// Which numbers the events that others send into a room with `rules` may have.
    pub(crate) fn of(rules: &RoomVersionRules) -> Self {
        if rules.authorization.strict_canonical_json { Self::Canonical } else { Self::Any }
    }
}

/// A JSON object as it is hashed and signed.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) map: CanonicalJsonObject,
    /// Whether some number is marked.
    marked: bool,
}

impl Object {
    /// An object of numbers that are all canonical.
    pub(crate) fn new(map: CanonicalJsonObject) -> Self {
        Self { map, marked: false }
    }

    /// Parses an object.
    pub(crate) fn parse(json: &str, numbers: Numbers) -> Result<Self, serde_json::Error> {
        let marked = Cell::new(false);
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let value = Seed { numbers, marked: &marked, depth: 0 }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        let CanonicalJsonValue::Object(map) = value else {
            return Err(de::Error::custom("expected an object"));
        };
        Ok(Self { map, marked: marked.get() })
    }

    /// This object as canonical JSON.
    pub(crate) fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.map).map(|text| self.unmark(text))
    }

    /// What the event's server signs: the event as it is when it is redacted, without its signatures
    /// (server-server API, "Signing events").
    pub(crate) fn signed_text(&self, rules: &RedactionRules) -> Option<String> {
        self.text_without(&["signatures", "unsigned"], Some(rules))
    }

    /// The hash of everything that the event says (server-server API, "Calculating the content hash for an
    /// event").
    pub(crate) fn content_hash(&self) -> Option<Vec<u8>> {
        let text = self.text_without(&["hashes", "signatures", "unsigned"], None)?;
        Some(Sha256::digest(text.as_bytes()).to_vec())
    }

    /// The hash that names the event, in the alphabet of the room version (server-server API, "Calculating the
    /// reference hash for an event").
    pub(crate) fn reference_hash(&self, rules: &RoomVersionRules) -> Option<String> {
        let hash = Sha256::digest(self.signed_text(&rules.redaction)?.as_bytes()).to_vec();
        Some(match rules.event_id_format {
            EventIdFormatVersion::V1 | EventIdFormatVersion::V2 => Base64::<Standard>::new(hash).encode(),
            _ => Base64::<UrlSafe>::new(hash).encode(),
        })
    }

    /// Takes out what a redaction takes out. Nothing if the event has no type or no content.
    pub(crate) fn redact(&mut self, rules: &RedactionRules) -> Option<()> {
        if let Cow::Owned(map) = without_odd_invite(&self.map, rules) {
            self.map = map;
        }
        redact_in_place(&mut self.map, rules, None).ok()
    }

    /// This object as canonical JSON without some fields of its own, redacted if `redaction` is given.
    pub(crate) fn text_without(
        &self,
        fields: &'static [&'static str],
        redaction: Option<&RedactionRules>,
    ) -> Option<String> {
        let mut serializer = RedactingSerializer::new().custom_redacted_root_fields(fields);
        let mut map = Cow::Borrowed(&self.map);
        if let Some(rules) = redaction {
            serializer = serializer.rules(rules);
            map = without_odd_invite(&self.map, rules);
        }
        serializer.serialize(&map).ok().map(|text| self.unmark(text))
    }

    /// The string at `field`, unless it stands for a number.
    pub(crate) fn str(&self, field: &str) -> Option<&str> {
        self.map.get(field).and_then(CanonicalJsonValue::as_str).filter(|s| !s.starts_with(MARK))
    }

    /// Turns marked strings into the numbers that they stand for.
    fn unmark(&self, text: String) -> String {
        if !self.marked {
            return text;
        }
        let quoted = format!("\"{MARK}");
        let mut rest = text.as_str();
        let mut out = String::with_capacity(text.len());
        while let Some((before, after)) = rest.split_once(&quoted) {
            out.push_str(before);
            let (number, after) = after.split_once('"').unwrap_or((after, ""));
            out.push_str(number);
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// The event without a `third_party_invite` that is no object. Redaction keeps what is `signed` in it, where it
/// keeps anything; the library would keep a string or a list there as a whole, and so hash another event than
/// other servers do.
fn without_odd_invite<'a>(event: &'a CanonicalJsonObject, rules: &RedactionRules) -> Cow<'a, CanonicalJsonObject> {
    let content = event.get("content").and_then(CanonicalJsonValue::as_object);
    let invite = content.and_then(|content| content.get("third_party_invite"));
    let odd = rules.keep_room_member_third_party_invite_signed && invite.is_some_and(|invite| !invite.is_object());
    if !odd {
        return Cow::Borrowed(event);
    }
    let mut event = event.clone();
    if let Some(content) = event.get_mut("content").and_then(CanonicalJsonValue::as_object_mut) {
        content.remove("third_party_invite");
    }
    Cow::Owned(event)
}

/// Reads one value at a known depth.
#[derive(Clone, Copy)]
struct Seed<'m> {
    numbers: Numbers,
    marked: &'m Cell<bool>,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= JSON_DEPTH_MAX {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn number<E: de::Error>(self, text: &dyn fmt::Display) -> Result<CanonicalJsonValue, E> {
        match self.numbers {
            Numbers::Canonical => Err(E::custom(format_args!("the number {text} is not canonical JSON"))),
            Numbers::Any => {
                self.marked.set(true);
                Ok(CanonicalJsonValue::String(format!("{MARK}{text}")))
            }
        }
    }

    fn string<E: de::Error>(self, text: String) -> Result<String, E> {
        if self.numbers == Numbers::Any && text.contains(MARK) {
            return Err(E::custom("a string that could be taken for a number"));
        }
        Ok(text)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = CanonicalJsonValue;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = CanonicalJsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        match Int::try_from(value) {
            Ok(value) => Ok(CanonicalJsonValue::Integer(value)),
            Err(_) => self.number(&value),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        match Int::try_from(value) {
            Ok(value) => Ok(CanonicalJsonValue::Integer(value)),
            Err(_) => self.number(&value),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        const SAFE_MAX: f64 = 9_007_199_254_740_991.0;
        if self.numbers == Numbers::Canonical {
            return self.number(&python_notation(value));
        }
        if value.fract() == 0.0 && value.abs() <= SAFE_MAX {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53 is exact")]
            return self.visit_i64(value as i64);
        }
        // The parser gives an integer beyond 64 bits as a double: its digits are lost.
        if value.fract() == 0.0 && value.abs() < 1e22 && value.abs() >= 9.2e18 {
            return Err(E::custom("an integer beyond 64 bits"));
        }
        self.number(&python_notation(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        self.string(value.to_owned()).map(CanonicalJsonValue::String)
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Self::Value, E> {
        self.string(value).map(CanonicalJsonValue::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let deeper = self.deeper()?;
        let mut array = Vec::new();
        while let Some(value) = items.next_element_seed(deeper)? {
            array.push(value);
        }
        Ok(CanonicalJsonValue::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let deeper = self.deeper()?;
        let mut object = CanonicalJsonObject::new();
        while let Some(key) = entries.next_key::<String>()? {
            let key = self.string(key)?;
            object.insert(key, entries.next_value_seed(deeper)?);
        }
        Ok(CanonicalJsonValue::Object(object))
    }
}

/// A double in Python's notation: the fewest digits that say which, with an exponent from 1e16 up and below
/// 1e-4.
fn python_notation(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(json: &str, numbers: Numbers) -> Option<String> {
        Some(Object::parse(json, numbers).ok()?.text().unwrap())
    }

    // Appendices, "Canonical JSON", "Examples", in their order.
    const EXAMPLES: [(&str, &str); 10] = [
        ("{}", "{}"),
        (r#"{ "one": 1, "two": "Two" }"#, r#"{"one":1,"two":"Two"}"#),
        (r#"{ "b": "2", "a": "1" }"#, r#"{"a":"1","b":"2"}"#),
        (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {
                "display_name": "John Doe", "three_pids": [
                    {"medium": "email", "address": "john.doe@example.org"},
                    {"medium": "msisdn", "address": "123456789"}]}}}"#,
            r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}"#,
        ),
        (r#"{"a": "日本語"}"#, r#"{"a":"日本語"}"#),
        (r#"{"本": 2, "日": 1}"#, r#"{"日":1,"本":2}"#),
        (r#"{"a": "\u65E5"}"#, r#"{"a":"日"}"#),
        (r#"{"a": null}"#, r#"{"a":null}"#),
        (r#"{"a": -0, "b": 1e10}"#, r#"{"a":0,"b":10000000000}"#),
    ];

    #[test]
    fn the_examples_of_the_specification_become_canonical() {
        for (json, expected) in EXAMPLES {
            assert_eq!(canonical(json, Numbers::Any).as_deref(), Some(expected));
        }
        for (json, expected) in &EXAMPLES[..9] {
            assert_eq!(canonical(json, Numbers::Canonical).as_deref(), Some(*expected));
        }
    }

    #[test]
    fn control_characters_are_written_as_the_grammar_says() {
        let json = r#"{"a":"\u0000\u0008\u0009\u000a\u000b\u000c\u000d\u001f\u0022\u005c\u002f\u007f"}"#;
        let expected = "{\"a\":\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\"}";
        assert_eq!(canonical(json, Numbers::Canonical).as_deref(), Some(expected));
    }

    #[test]
    fn strict_json_refuses_other_numbers_than_safe_integers() {
        for number in ["1.5", "1.0", "1e10", "-0", "9007199254740992", "-9007199254740992", "1e400"] {
            assert_eq!(canonical(&format!("{{\"a\":{number}}}"), Numbers::Canonical), None, "{number}");
        }
        for number in ["0", "9007199254740991", "-9007199254740991"] {
            assert!(canonical(&format!("{{\"a\":{number}}}"), Numbers::Canonical).is_some(), "{number}");
        }
    }

    #[test]
    fn old_events_keep_their_other_numbers() {
        for (number, expected) in [
            ("1.5", "1.5"),
            ("50.57", "50.57"),
            ("1.0", "1"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("18446744073709551615", "18446744073709551615"),
            ("1e-7", "1e-07"),
            ("1.25e300", "1.25e+300"),
            ("0.0001", "0.0001"),
        ] {
            let json = format!("{{\"a\":[{number},\"s\"]}}");
            assert_eq!(canonical(&json, Numbers::Any), Some(format!("{{\"a\":[{expected},\"s\"]}}")), "{number}");
        }
        assert_eq!(canonical("{\"a\":18446744073709551616}", Numbers::Any), None);
    }

    #[test]
    fn no_string_passes_for_a_number() {
        let json = format!("{{\"a\":1.5,\"b\":\"{MARK}1,\"}}");
        assert_eq!(canonical(&json, Numbers::Any), None);
        let json = format!("{{\"a\":1.5,\"{MARK}1\":2}}");
        assert_eq!(canonical(&json, Numbers::Any), None);
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(canonical(&nested(JSON_DEPTH_MAX - 1), Numbers::Any).is_some());
        assert!(canonical(&nested(JSON_DEPTH_MAX), Numbers::Any).is_none());
        assert!(canonical(&nested(1_000_000), Numbers::Any).is_none());
    }

    proptest! {
        #[test]
        fn canonical_json_is_its_own_canonical_form(json in ".{0,200}", number in any::<f64>(), text in ".*") {
            for numbers in [Numbers::Any, Numbers::Canonical] {
                let text = serde_json::to_string(&text).unwrap();
                for json in [json.clone(), format!("{{\"n\":{number},{text}:{text}}}")] {
                    if let Some(once) = canonical(&json, numbers) {
                        prop_assert_eq!(canonical(&once, numbers), Some(once));
                    }
                }
            }
        }
    }
}
