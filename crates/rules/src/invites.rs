//! Who may invite a user (client-server API, "Invite permission"; MSC4155): what their account data says of it.

use crate::server_acl::glob_matches;
use base::limits::ID_BYTES_MAX;
use ruma::UserId;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashSet;

/// The types of account data that say it: the one of the specification, that with its name from before (MSC4380), and
/// the one that names users and servers (MSC4155).
pub const INVITE_PERMISSION_CONFIGS: [&str; 3] = [
    "m.invite_permission_config",
    "org.matrix.msc4380.invite_permission_config",
    "org.matrix.msc4155.invite_permission_config",
];

/// How many patterns of a list are looked at; names of single users and servers are no patterns.
const PATTERNS_MAX: usize = 100;

/// What becomes of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InviteVerdict {
    /// The user gets it.
    Allow,
    /// It is made, and the user hears nothing of it.
    Ignore,
    /// It is refused.
    Block,
}

/// Who may invite a user.
#[derive(Clone, Debug, Default)]
pub struct InvitePermission(Vec<Config>);

#[derive(Clone, Debug, Default)]
struct Config {
    allowed_users: Names,
    ignored_users: Names,
    blocked_users: Names,
    allowed_servers: Names,
    ignored_servers: Names,
    blocked_servers: Names,
    blocks_all: bool,
}

/// Names, and patterns of names.
#[derive(Clone, Debug, Default)]
struct Names {
    names: HashSet<String>,
    patterns: Vec<String>,
}

impl InvitePermission {
    /// What the contents of a user's account data say, of those types that they have. What is not understood allows
    /// everybody.
    #[must_use]
    pub fn of_contents<'a>(contents: impl IntoIterator<Item = &'a str>) -> Self {
        Self(contents.into_iter().filter_map(Config::of_content).collect())
    }

    /// What becomes of an invitation by this user: the strictest of what they say.
    #[must_use]
    pub fn verdict(&self, inviter: &UserId) -> InviteVerdict {
        self.0.iter().map(|config| config.verdict(inviter)).max().unwrap_or(InviteVerdict::Allow)
    }
}

impl Config {
    fn of_content(content: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            enabled: Option<bool>,
            allowed_users: Option<Vec<String>>,
            ignored_users: Option<Vec<String>>,
            blocked_users: Option<Vec<String>>,
            allowed_servers: Option<Vec<String>>,
            ignored_servers: Option<Vec<String>>,
            blocked_servers: Option<Vec<String>>,
        }
        let value: Value = serde_json::from_str(content).ok()?;
        // The two say different things: one that is not understood leaves the other as it is.
        let blocks_all = value.get("default_action").and_then(Value::as_str) == Some("block");
        let lists = Content::deserialize(value).ok().filter(|content| content.enabled != Some(false));
        let Some(lists) = lists else { return Some(Self { blocks_all, ..Self::default() }) };
        Some(Self {
            allowed_users: Names::of(lists.allowed_users),
            ignored_users: Names::of(lists.ignored_users),
            blocked_users: Names::of(lists.blocked_users),
            allowed_servers: Names::of(lists.allowed_servers),
            ignored_servers: Names::of(lists.ignored_servers),
            blocked_servers: Names::of(lists.blocked_servers),
            blocks_all,
        })
    }

    /// In the order of MSC4155, "Proposal"; then what holds for everybody else.
    fn verdict(&self, inviter: &UserId) -> InviteVerdict {
        let (user, server) = (inviter.as_str(), inviter.server_name().host());
        let steps = [
            (&self.allowed_users, user, InviteVerdict::Allow),
            (&self.ignored_users, user, InviteVerdict::Ignore),
            (&self.blocked_users, user, InviteVerdict::Block),
            (&self.allowed_servers, server, InviteVerdict::Allow),
            (&self.ignored_servers, server, InviteVerdict::Ignore),
            (&self.blocked_servers, server, InviteVerdict::Block),
        ];
        let found = steps.into_iter().find(|(names, name, _)| names.has(name)).map(|(_, _, verdict)| verdict);
        let otherwise = if self.blocks_all { InviteVerdict::Block } else { InviteVerdict::Allow };
        found.unwrap_or(otherwise)
    }
}

impl Names {
    fn of(names: Option<Vec<String>>) -> Self {
        let names = names.unwrap_or_default().into_iter().filter(|name| name.len() <= ID_BYTES_MAX);
        let (mut patterns, names): (Vec<String>, Vec<String>) = names.partition(|name| name.contains(['*', '?']));
        patterns.truncate(PATTERNS_MAX);
        Self { names: names.into_iter().collect(), patterns }
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.patterns.iter().any(|pattern| glob_matches(pattern, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(content: &Value, expected: [InviteVerdict; 3]) {
        let permission = InvitePermission::of_contents([content.to_string().as_str()]);
        let inviters = ["@good:good.example", "@bad:good.example", "@bad:bad.example:8448"];
        let found = inviters.map(|inviter| permission.verdict(inviter.try_into().unwrap()));
        assert_eq!(found, expected, "{content}");
    }

    #[test]
    fn users_come_before_servers_and_allowing_before_ignoring_before_blocking() {
        use InviteVerdict::{Allow, Block, Ignore};
        for (content, expected) in [
            (json!({}), [Allow; 3]),
            (json!({"blocked_servers": ["*"]}), [Block; 3]),
            (json!({"blocked_servers": ["*"], "enabled": false}), [Allow; 3]),
            (json!({"allowed_servers": ["good.example"], "blocked_servers": ["*"]}), [Allow, Allow, Block]),
            (json!({"blocked_users": ["@bad:*"], "allowed_servers": ["good.example"]}), [Allow, Block, Block]),
            (json!({"ignored_servers": ["b?d.example"], "blocked_servers": ["*"]}), [Block, Block, Ignore]),
            (json!({"allowed_users": ["@good:good.example"], "ignored_users": ["*"]}), [Allow, Ignore, Ignore]),
            (json!({"allowed_users": null, "blocked_users": ["@bad:good.example"]}), [Allow, Block, Allow]),
            (json!({"blocked_users": ["@bad:good.example", 7]}), [Allow; 3]),
            (json!({"default_action": "block"}), [Block; 3]),
            (json!({"default_action": "allow"}), [Allow; 3]),
            (json!({"default_action": "block", "blocked_users": 7}), [Block; 3]),
            (json!({"default_action": "block", "allowed_users": ["@good:*"]}), [Allow, Block, Block]),
        ] {
            check(&content, expected);
        }
    }

    #[test]
    fn of_several_configurations_the_strictest_holds() {
        let permission = InvitePermission::of_contents([r#"{"ignored_users":["*"]}"#, "nonsense", "{}"]);
        assert_eq!(permission.verdict("@a:b".try_into().unwrap()), InviteVerdict::Ignore);
    }
}
