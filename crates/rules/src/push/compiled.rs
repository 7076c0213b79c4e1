//! Rules made ready for judging many events.

use super::condition::{Condition, Path};
use super::glob::Glob;
use super::predefined::TEXT_MENTIONS;
use super::{Digest, Kind, Predefined, Rule, Ruleset};
use crate::pdu::Pdu;
use ruma::UserId;
use serde_json::Value;
use std::cell::OnceCell;

/// A ruleset made ready. One that is made of predefined rules alone serves all users alike.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Those that are enabled, in the order in which they are looked at.
    rules: Vec<CompiledRule>,
    /// Whether these are the predefined rules, which events need not always be read for.
    is_predefined: bool,
    /// Whether these are those and the ones about threads, which may notify of an event that the others don't.
    is_predefined_with_threads: bool,
}

#[derive(Clone, Debug)]
struct CompiledRule {
    conditions: Vec<Condition>,
    outcome: Outcome,
}

/// What is to be done about an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Whether the user is notified.
    pub notify: bool,
    /// Whether the event is highlighted.
    pub highlight: bool,
    /// The actions of the rule that matched, without those that have no meaning any more.
    pub actions: Vec<Value>,
}

impl Outcome {
    fn of(actions: &[Value]) -> Self {
        // "Historical Actions" are to be ignored.
        let actions: Vec<Value> = actions
            .iter()
            .filter(|action| !matches!(action.as_str(), Some("dont_notify" | "coalesce")))
            .cloned()
            .collect();
        let is_highlight = |action: &Value| {
            let tweak = action.get("set_tweak").and_then(Value::as_str);
            tweak == Some("highlight") && action.get("value").is_none_or(|value| *value == Value::Bool(true))
        };
        Self {
            notify: actions.iter().any(|action| action.as_str() == Some("notify")),
            highlight: actions.iter().any(is_highlight),
            actions,
        }
    }
}

/// What rules ask beside the event itself. Lookups are made only where a rule gets as far as to ask.
pub struct Surroundings<'a> {
    /// Whose rules they are.
    pub user: &'a UserId,
    /// How many members have joined the room.
    pub member_count: u64,
    /// The name that the user has in the room.
    pub display_name: &'a dyn Fn() -> Option<String>,
    /// Whether the user has subscribed to the thread that the event is of; none if it is of no thread.
    pub thread_subscribed: &'a dyn Fn() -> Option<bool>,
    /// Whether somebody has the level to notify the room under a name, such as `room`.
    pub may_notify: &'a dyn Fn(&UserId, &str) -> bool,
}

/// An event to be judged; what is read of it is read once for all rules and users.
pub struct Subject<'a> {
    pdu: &'a Pdu,
    content: OnceCell<Value>,
    body: OnceCell<Option<String>>,
}

/// A property of an event.
pub(super) enum Found<'a> {
    Text(&'a str),
    Value(&'a Value),
}

impl Compiled {
    pub(super) fn of(ruleset: &Ruleset, user: &UserId) -> Self {
        let mut rules = Vec::new();
        for kind in Kind::ALL {
            for rule in ruleset.list(kind).iter().filter(|rule| rule.enabled) {
                rules.push(CompiledRule {
                    conditions: conditions(kind, rule, user),
                    outcome: Outcome::of(&rule.actions),
                });
            }
        }
        let is_predefined = *ruleset == Ruleset::predefined(user, Predefined::default());
        let with_threads = Predefined { threads: true, ..Predefined::default() };
        let is_predefined_with_threads = *ruleset == Ruleset::predefined(user, with_threads);
        Self { rules, is_predefined, is_predefined_with_threads }
    }

    /// What a digest alone says of an event of somebody else: whether it notifies, without a highlight. `None`:
    /// the event must be read.
    #[must_use]
    pub fn by_digest(&self, digest: Digest) -> Option<bool> {
        match digest {
            Digest::Plain if self.is_predefined || self.is_predefined_with_threads => Some(true),
            Digest::Silent if self.is_predefined => Some(false),
            _ => None,
        }
    }

    /// What is to be done about an event: what the first rule says that matches. A user's own events are none of
    /// their business.
    #[must_use]
    pub fn judge(&self, event: &Subject<'_>, around: &Surroundings<'_>) -> Option<&Outcome> {
        if event.pdu.sender() == around.user {
            return None;
        }
        let matches = |rule: &&CompiledRule| rule.conditions.iter().all(|condition| condition.holds(event, around));
        self.rules.iter().find(matches).map(|rule| &rule.outcome)
    }
}

fn conditions(kind: Kind, rule: &Rule, user: &UserId) -> Vec<Condition> {
    let mut conditions = match kind {
        Kind::Override | Kind::PostContent | Kind::Underride => {
            let given = rule.conditions.as_deref().unwrap_or_default();
            given.iter().map(|condition| Condition::parse(condition, user, rule.default)).collect()
        }
        Kind::Content if rule.default => vec![Condition::BodyNamesUser],
        Kind::Content => {
            vec![rule.pattern.as_deref().map_or(Condition::Never, |pattern| Condition::BodyMatches(Glob::new(pattern)))]
        }
        Kind::Room => vec![Condition::Room(rule.rule_id.as_str().into())],
        Kind::Sender => vec![Condition::Sender(rule.rule_id.as_str().into())],
    };
    if TEXT_MENTIONS.contains(&rule.rule_id.as_str()) {
        conditions.insert(0, Condition::MentionsNobody);
    }
    conditions
}

impl<'a> Subject<'a> {
    /// An event to be judged.
    #[must_use]
    pub fn new(pdu: &'a Pdu) -> Self {
        Self { pdu, content: OnceCell::new(), body: OnceCell::new() }
    }

    pub(super) fn pdu(&self) -> &Pdu {
        self.pdu
    }

    pub(super) fn content(&self) -> &Value {
        self.content.get_or_init(|| serde_json::from_str(self.pdu.content().get()).unwrap_or_default())
    }

    /// The body in lower case.
    pub(super) fn body(&self) -> Option<&str> {
        let body = || self.content().get("body").and_then(Value::as_str).map(str::to_lowercase);
        self.body.get_or_init(body).as_deref()
    }

    pub(super) fn find(&self, path: &Path) -> Option<Found<'_>> {
        let (first, rest) = path.0.split_first()?;
        let text = match &**first {
            "content" => {
                let found = rest.iter().try_fold(self.content(), |value, name| value.get(&**name))?;
                return Some(found.as_str().map_or(Found::Value(found), Found::Text));
            }
            _ if !rest.is_empty() => return None,
            "type" => self.pdu.kind_str(),
            "sender" => self.pdu.sender().as_str(),
            "room_id" => self.pdu.room_id().as_str(),
            "event_id" => self.pdu.event_id().as_str(),
            "state_key" => self.pdu.state_key()?,
            _ => return None,
        };
        Some(Found::Text(text))
    }
}

impl Found<'_> {
    pub(super) fn is(&self, expected: &Value) -> bool {
        match self {
            Self::Text(text) => expected.as_str() == Some(text),
            Self::Value(value) => *value == expected,
        }
    }

    pub(super) fn contains(&self, expected: &Value) -> bool {
        matches!(self, Self::Value(Value::Array(items)) if items.contains(expected))
    }

    pub(super) fn contains_text(&self, expected: &str) -> bool {
        matches!(self, Self::Value(Value::Array(items)) if items.iter().any(|item| item.as_str() == Some(expected)))
    }
}
