//! Changes of push rules (client-server API, "Push Rules: API").

use super::{ACTIONS_MAX, CONDITIONS_MAX, Kind, PATTERN_BYTES_MAX, RULE_BYTES_MAX, Rule, Ruleset, USER_RULES_MAX};
use base::limits::ID_BYTES_MAX;
use ruma::{RoomId, UserId};
use serde::Deserialize;
use serde_json::Value;

/// Why rules are not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no such rule, or it is one that can't be removed.
    #[error("the push rule was not found")]
    NotFound,
    /// The rule can't be called so.
    #[error("{0}")]
    BadId(&'static str),
    /// The rule is not one.
    #[error("{0}")]
    BadRule(&'static str),
    /// The rule that it should be before or after is not there, or is predefined.
    #[error("before/after rule not found: {0}")]
    NoSuchNeighbour(String),
    /// The rule is too large, or the user has too many.
    #[error("{0}")]
    TooLarge(&'static str),
}

/// A rule as a client gives it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct NewRule {
    /// What to do with events that match.
    pub actions: Vec<Value>,
    /// What must hold, of rules that override and underride.
    #[serde(default)]
    pub conditions: Option<Vec<Value>>,
    /// What a message must contain, of rules about texts.
    #[serde(default)]
    pub pattern: Option<String>,
}

/// Where a rule should be among the user's own of its kind. If both are given, `before` counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Just more important than this one.
    pub before: Option<String>,
    /// Just less important than this one.
    pub after: Option<String>,
}

impl Ruleset {
    /// Adds a rule of the user's own, or changes it; a new one is enabled, and without a place it is the most
    /// important of its kind. One that was there keeps its place and whether it is enabled.
    pub fn put(&mut self, kind: Kind, rule_id: &str, rule: NewRule, place: &Place) -> Result<(), EditError> {
        if kind == Kind::PostContent {
            return Err(EditError::BadId("rules of this kind are the server's"));
        }
        check_id(kind, rule_id)?;
        check_actions(&rule.actions)?;
        let known = self.list(kind).iter().position(|known| known.rule_id == rule_id);
        let enabled = self.rule(kind, rule_id).is_none_or(|known| known.enabled);
        let (conditions, pattern) = match kind {
            Kind::Override | Kind::PostContent | Kind::Underride => (Some(check_conditions(rule.conditions)?), None),
            Kind::Content => (None, Some(check_pattern(rule.pattern)?)),
            Kind::Room | Kind::Sender => (None, None),
        };
        let rule =
            Rule { actions: rule.actions, default: false, enabled, rule_id: rule_id.to_owned(), conditions, pattern };
        if serde_json::to_vec(&rule).map_or(usize::MAX, |json| json.len()) > RULE_BYTES_MAX {
            return Err(EditError::TooLarge("the rule is too large"));
        }
        let neighbour = place.before.as_deref().map(|id| (id, 0)).or(place.after.as_deref().map(|id| (id, 1)));
        if let Some((id, _)) = neighbour {
            let is_own = !id.starts_with('.') && self.rule(kind, id).is_some();
            if !is_own {
                return Err(EditError::NoSuchNeighbour(id.to_owned()));
            }
        }
        match (known, neighbour) {
            (Some(at), None) => drop(self.list_mut(kind).splice(at..=at, [rule])),
            // Beside itself it stays where it is.
            (Some(at), Some((id, _))) if id == rule_id => drop(self.list_mut(kind).splice(at..=at, [rule])),
            (known, neighbour) => {
                if known.is_none() && self.own_rules() >= USER_RULES_MAX {
                    return Err(EditError::TooLarge("there are too many push rules"));
                }
                self.list_mut(kind).retain(|known| known.rule_id != rule_id);
                let beside = neighbour.and_then(|(id, offset)| {
                    let at = self.list(kind).iter().position(|known| known.rule_id == id)?;
                    Some(at + offset)
                });
                let at = beside.unwrap_or_else(|| self.first_place(kind));
                self.list_mut(kind).insert(at, rule);
            }
        }
        Ok(())
    }

    /// Removes a rule of the user's own.
    pub fn remove(&mut self, kind: Kind, rule_id: &str) -> Result<(), EditError> {
        if self.rule(kind, rule_id).is_none_or(|rule| rule.default) {
            return Err(EditError::NotFound);
        }
        self.list_mut(kind).retain(|rule| rule.rule_id != rule_id);
        Ok(())
    }

    /// Enables or disables a rule, be it predefined or not.
    pub fn set_enabled(&mut self, kind: Kind, rule_id: &str, enabled: bool) -> Result<(), EditError> {
        self.rule_mut(kind, rule_id).ok_or(EditError::NotFound)?.enabled = enabled;
        Ok(())
    }

    /// Sets the actions of a rule, be it predefined or not.
    pub fn set_actions(&mut self, kind: Kind, rule_id: &str, actions: Vec<Value>) -> Result<(), EditError> {
        check_actions(&actions)?;
        self.rule_mut(kind, rule_id).ok_or(EditError::NotFound)?.actions = actions;
        Ok(())
    }

    fn own_rules(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.list(kind).iter().filter(|rule| !rule.default).count()).sum()
    }
}

fn check_id(kind: Kind, rule_id: &str) -> Result<(), EditError> {
    let is_right = match kind {
        Kind::Room => RoomId::parse(rule_id).is_ok(),
        Kind::Sender => UserId::parse(rule_id).is_ok(),
        Kind::Override | Kind::Content | Kind::PostContent | Kind::Underride => true,
    };
    match rule_id {
        "" => Err(EditError::BadId("a rule needs a rule_id")),
        id if id.starts_with('.') => Err(EditError::BadId("a rule_id with a dot in front is the server's")),
        id if id.contains(['/', '\\']) => Err(EditError::BadId("a rule_id has no slashes and no backslashes")),
        id if id.len() > ID_BYTES_MAX => Err(EditError::BadId("the rule_id is too long")),
        _ if is_right => Ok(()),
        _ if kind == Kind::Room => Err(EditError::BadId("the rule_id of a room rule is a room id")),
        _ => Err(EditError::BadId("the rule_id of a sender rule is a user id")),
    }
}

fn check_actions(actions: &[Value]) -> Result<(), EditError> {
    if actions.len() > ACTIONS_MAX || serde_json::to_vec(actions).map_or(usize::MAX, |json| json.len()) > RULE_BYTES_MAX
    {
        return Err(EditError::TooLarge("there are too many actions"));
    }
    let is_action = |action: &Value| match action {
        Value::String(_) => true,
        Value::Object(action) => action.get("set_tweak").is_none_or(Value::is_string),
        _ => false,
    };
    if actions.iter().all(is_action) { Ok(()) } else { Err(EditError::BadRule("an action is a text or an object")) }
}

fn check_conditions(conditions: Option<Vec<Value>>) -> Result<Vec<Value>, EditError> {
    let conditions = conditions.unwrap_or_default();
    if conditions.len() > CONDITIONS_MAX {
        return Err(EditError::TooLarge("there are too many conditions"));
    }
    for condition in &conditions {
        if !condition.get("kind").is_some_and(Value::is_string) {
            return Err(EditError::BadRule("a condition is an object with a kind"));
        }
        if condition.get("pattern").and_then(Value::as_str).is_some_and(|pattern| pattern.len() > PATTERN_BYTES_MAX) {
            return Err(EditError::TooLarge("a pattern is too long"));
        }
    }
    Ok(conditions)
}

fn check_pattern(pattern: Option<String>) -> Result<String, EditError> {
    let pattern = pattern.ok_or(EditError::BadRule("a content rule needs a pattern"))?;
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(EditError::TooLarge("the pattern is too long"));
    }
    Ok(pattern)
}
