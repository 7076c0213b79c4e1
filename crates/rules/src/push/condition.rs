//! Conditions of push rules (client-server API, "Conditions").

use super::compiled::{Found, Subject, Surroundings};
use super::glob::{Glob, contains_words};
use ruma::UserId;
use serde_json::Value;

/// The numbers that canonical JSON can hold.
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// A condition, made ready.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// A property matches a pattern.
    Matches { path: Path, glob: Glob },
    /// The body contains words that match.
    BodyMatches(Glob),
    /// A property is this value.
    Is { path: Path, value: Value },
    /// A property is an array with this value.
    Contains { path: Path, value: Value },
    /// A property is the user's id. Predefined rules name it so, to be shared by all users.
    IsUser(Path),
    /// A property is an array with the user's id.
    ContainsUser(Path),
    /// The body contains the user's localpart.
    BodyNamesUser,
    /// The body contains the name that the user has in the room.
    BodyShowsName,
    /// The event does not say whom it mentions.
    MentionsNobody,
    /// The event is of this room.
    Room(Box<str>),
    /// The event is of this sender.
    Sender(Box<str>),
    /// How many members the room has.
    Members(Comparison, u64),
    /// The sender may notify the room under this name.
    MayNotify(Box<str>),
    /// The event is of a thread that the user has subscribed to, or has not (MSC4306).
    ThreadSubscribed(bool),
    /// What is not known matches nothing.
    Never,
}

/// How numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    More,
    AtLeast,
    AtMost,
}

/// A path to a property (appendices, "Dot-separated property paths").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(pub Box<[Box<str>]>);

impl Path {
    /// Dots separate, unless a backslash escapes them; other backslashes but escaped ones stand for themselves.
    pub fn parse(key: &str) -> Self {
        let (mut parts, mut part) = (Vec::new(), String::new());
        let mut letters = key.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '.' => parts.push(std::mem::take(&mut part).into()),
                '\\' => part.push(letters.next_if(|next| matches!(next, '.' | '\\')).unwrap_or('\\')),
                letter => part.push(letter),
            }
        }
        parts.push(part.into());
        Self(parts.into())
    }

    fn is_body(&self) -> bool {
        self.0.iter().map(AsRef::as_ref).eq(["content", "body"])
    }
}

impl Condition {
    /// Reads a condition of a rule of this user.
    pub fn parse(condition: &Value, user: &UserId, is_predefined: bool) -> Self {
        Self::known(condition, user, is_predefined).unwrap_or(Self::Never)
    }

    fn known(condition: &Value, user: &UserId, is_predefined: bool) -> Option<Self> {
        let text = |name: &str| condition.get(name).and_then(Value::as_str);
        let means_user = |text: Option<&str>| is_predefined && text == Some(user.as_str());
        Some(match text("kind")? {
            "event_match" => {
                let (path, pattern) = (Path::parse(text("key")?), text("pattern")?);
                if path.is_body() {
                    Self::BodyMatches(Glob::new(pattern))
                } else if means_user(Some(pattern)) {
                    Self::IsUser(path)
                } else {
                    Self::Matches { path, glob: Glob::new(pattern) }
                }
            }
            "event_property_is" => {
                Self::Is { path: Path::parse(text("key")?), value: scalar(condition.get("value")?)? }
            }
            "event_property_contains" => {
                let (path, value) = (Path::parse(text("key")?), scalar(condition.get("value")?)?);
                if means_user(value.as_str()) { Self::ContainsUser(path) } else { Self::Contains { path, value } }
            }
            "contains_display_name" => Self::BodyShowsName,
            "room_member_count" => {
                let (comparison, count) = comparison(text("is")?)?;
                Self::Members(comparison, count)
            }
            "sender_notification_permission" => Self::MayNotify(text("key")?.into()),
            "io.element.msc4306.thread_subscription" => {
                Self::ThreadSubscribed(condition.get("subscribed").and_then(Value::as_bool)?)
            }
            _ => return None,
        })
    }

    /// Whether the condition holds.
    pub fn holds(&self, event: &Subject<'_>, around: &Surroundings<'_>) -> bool {
        match self {
            Self::Matches { path, glob } => match event.find(path) {
                Some(Found::Text(text)) => glob.matches(text),
                _ => false,
            },
            Self::BodyMatches(glob) => event.body().is_some_and(|body| glob.matches_words(body)),
            Self::Is { path, value } => event.find(path).is_some_and(|found| found.is(value)),
            Self::Contains { path, value } => event.find(path).is_some_and(|found| found.contains(value)),
            Self::IsUser(path) => {
                matches!(event.find(path), Some(Found::Text(text)) if text == around.user.as_str())
            }
            Self::ContainsUser(path) => event.find(path).is_some_and(|found| found.contains_text(around.user.as_str())),
            Self::BodyNamesUser => {
                event.body().is_some_and(|body| contains_words(body, &around.user.localpart().to_lowercase()))
            }
            Self::BodyShowsName => event.body().is_some_and(|body| {
                (around.display_name)().is_some_and(|name| contains_words(body, name.to_lowercase().trim()))
            }),
            Self::MentionsNobody => event.content().get("m.mentions").is_none(),
            Self::Room(room_id) => event.pdu().room_id().as_str() == &**room_id,
            Self::Sender(sender) => event.pdu().sender().as_str() == &**sender,
            Self::Members(comparison, count) => comparison.holds(around.member_count, *count),
            Self::MayNotify(name) => (around.may_notify)(event.pdu().sender(), name),
            Self::ThreadSubscribed(subscribed) => (around.thread_subscribed)() == Some(*subscribed),
            Self::Never => false,
        }
    }
}

impl Comparison {
    fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
            Self::AtMost => left <= right,
        }
    }
}

/// A value that properties are compared with: no array, no object, no fraction.
fn scalar(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Some(value.clone()),
        Value::Number(number) => {
            number.as_i64().filter(|number| number.abs() <= INTEGER_MAX).map(|number| Value::Number(number.into()))
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn comparison(is: &str) -> Option<(Comparison, u64)> {
    let prefixes = [
        ("==", Comparison::Equal),
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("<", Comparison::Less),
        (">", Comparison::More),
    ];
    let prefixed = prefixes.iter().find_map(|(prefix, comparison)| Some((*comparison, is.strip_prefix(prefix)?)));
    let (comparison, number) = prefixed.unwrap_or((Comparison::Equal, is));
    let is_decimal = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((comparison, number.parse().ok().filter(|_| is_decimal)?))
}
