//! Push rules: which events a user is notified of, and how (client-server API, "Push Rules").
//!
//! A [`Ruleset`] is what clients see and change; [`Compiled`] is the same made ready for judging many events.
//! The predefined rules are those of the specification and of MSC3930. They are put together anew with each
//! reading, so that a rule that a later version brings is there for users who have changed theirs long ago.

mod compiled;
mod condition;
mod digest;
mod edit;
mod glob;
mod predefined;
#[cfg(test)]
mod tests;

pub use compiled::{Compiled, Outcome, Subject, Surroundings};
pub use digest::Digest;
pub use edit::{EditError, NewRule, Place};

use predefined::predefined;
use ruma::UserId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The type of the account data that holds a user's push rules.
pub const PUSH_RULES: &str = "m.push_rules";
/// How many rules of their own a user can have, of all kinds together.
pub const USER_RULES_MAX: usize = 500;
/// How many conditions a rule can have.
pub const CONDITIONS_MAX: usize = 32;
/// How many actions a rule can have.
pub const ACTIONS_MAX: usize = 32;
/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// The largest rule, in bytes of JSON.
pub const RULE_BYTES_MAX: usize = 8 * 1024;

/// The kinds of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Looked at first.
    Override,
    /// About texts in messages.
    Content,
    /// Between those about texts and those about rooms: about threads (MSC4306). Users have none of their own.
    PostContent,
    /// About a room.
    Room,
    /// About a sender.
    Sender,
    /// Looked at last.
    Underride,
}

impl Kind {
    /// All kinds, in the order in which they are looked at.
    pub const ALL: [Self; 6] =
        [Self::Override, Self::Content, Self::PostContent, Self::Room, Self::Sender, Self::Underride];

    /// The kind of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name in paths and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Content => "content",
            Self::PostContent => "postcontent",
            Self::Room => "room",
            Self::Sender => "sender",
            Self::Underride => "underride",
        }
    }
}

/// A push rule as clients see it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Rule {
    /// What to do with events that match: texts and objects.
    pub actions: Vec<Value>,
    /// Whether it is predefined.
    #[serde(default)]
    pub default: bool,
    /// Whether it is looked at.
    pub enabled: bool,
    /// Its name among those of its kind.
    pub rule_id: String,
    /// What must hold, of rules that override and underride.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Value>>,
    /// What a message must contain, of rules about texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// Which rules are predefined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Predefined {
    /// Beside those of the specification, version 1.17 and later, those that look for names in the text of messages,
    /// as versions up to 1.16 had them. They do not apply to events that say whom they mention.
    pub text_mentions: bool,
    /// Beside them those that notify of threads by what the user has subscribed to (MSC4306).
    pub threads: bool,
}

/// All push rules of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruleset {
    rules: [Vec<Rule>; 6],
}

impl Ruleset {
    /// The rules of a user who has changed none.
    #[must_use]
    pub fn predefined(user: &UserId, which: Predefined) -> Self {
        Self { rules: predefined(user, which) }
    }

    /// The rules of a user: the predefined ones, and what they have made of them as it is stored. What can't be
    /// read of that is as if it weren't there.
    #[must_use]
    pub fn read(user: &UserId, which: Predefined, stored: Option<&str>) -> Self {
        let mut ruleset = Self::predefined(user, which);
        let stored = stored.and_then(|stored| serde_json::from_str::<Value>(stored).ok());
        let Some(Value::Object(mut stored)) = stored.and_then(|mut stored| stored.get_mut("global").map(Value::take))
        else {
            return ruleset;
        };
        for kind in Kind::ALL {
            let Some(Value::Array(stored)) = stored.get_mut(kind.name()).map(Value::take) else { continue };
            let mut own = Vec::new();
            for rule in stored.into_iter().filter_map(|rule| serde_json::from_value::<Rule>(rule).ok()) {
                if !rule.rule_id.starts_with('.') {
                    own.push(Rule { default: false, ..rule });
                } else if let Some(known) = ruleset.rule_mut(kind, &rule.rule_id) {
                    (known.enabled, known.actions) = (rule.enabled, rule.actions);
                }
            }
            let at = ruleset.first_place(kind);
            ruleset.list_mut(kind).splice(at..at, own);
        }
        ruleset
    }

    /// The rules of a kind, the most important first.
    #[must_use]
    pub fn list(&self, kind: Kind) -> &[Rule] {
        let [overrides, content, post_content, room, sender, underride] = &self.rules;
        match kind {
            Kind::Override => overrides,
            Kind::Content => content,
            Kind::PostContent => post_content,
            Kind::Room => room,
            Kind::Sender => sender,
            Kind::Underride => underride,
        }
    }

    fn list_mut(&mut self, kind: Kind) -> &mut Vec<Rule> {
        let [overrides, content, post_content, room, sender, underride] = &mut self.rules;
        match kind {
            Kind::Override => overrides,
            Kind::Content => content,
            Kind::PostContent => post_content,
            Kind::Room => room,
            Kind::Sender => sender,
            Kind::Underride => underride,
        }
    }

    /// A rule.
    #[must_use]
    pub fn rule(&self, kind: Kind, rule_id: &str) -> Option<&Rule> {
        self.list(kind).iter().find(|rule| rule.rule_id == rule_id)
    }

    fn rule_mut(&mut self, kind: Kind, rule_id: &str) -> Option<&mut Rule> {
        self.list_mut(kind).iter_mut().find(|rule| rule.rule_id == rule_id)
    }

    /// Where the most important of the user's own rules is: only the rule that turns everything off is before it.
    fn first_place(&self, kind: Kind) -> usize {
        usize::from(self.list(kind).first().is_some_and(|rule| rule.rule_id == predefined::MASTER))
    }

    /// The rules as the endpoints answer them: by kind.
    #[must_use]
    pub fn to_json(&self) -> Value {
        // Clients that don't know of rules about threads need not see that there are none.
        let shown = |kind: &Kind| *kind != Kind::PostContent || !self.list(*kind).is_empty();
        let lists = Kind::ALL.into_iter().filter(shown).map(|kind| (kind.name().to_owned(), json!(self.list(kind))));
        Value::Object(lists.collect::<Map<_, _>>())
    }

    /// The content of `m.push_rules`.
    #[must_use]
    pub fn content(&self) -> String {
        json!({ "global": self.to_json() }).to_string()
    }

    /// Makes the rules ready for judging events.
    #[must_use]
    pub fn compile(&self, user: &UserId) -> Compiled {
        Compiled::of(self, user)
    }
}
