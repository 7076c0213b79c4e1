//! The predefined rules (client-server API, "Predefined Rules"; polls: MSC3930; threads: MSC4306), in the order of their
//! importance.

use super::{Predefined, Rule};
use ruma::UserId;
use serde_json::{Value, json};

/// The rule that comes before all others.
pub(super) const MASTER: &str = ".m.rule.master";
/// The rules that read the text of messages, and leave alone those that say whom they mention.
pub(super) const TEXT_MENTIONS: [&str; 3] =
    [".m.rule.contains_display_name", ".m.rule.roomnotif", ".m.rule.contains_user_name"];

pub(super) fn predefined(user: &UserId, which: Predefined) -> [Vec<Rule>; 6] {
    let Predefined { text_mentions, threads } = which;
    let content = if text_mentions { vec![contains_user_name(user)] } else { Vec::new() };
    let post_content = if threads { thread_rules() } else { Vec::new() };
    [overrides(user, text_mentions), content, post_content, Vec::new(), Vec::new(), underrides()]
}

fn rule(rule_id: &str, conditions: Value, actions: Value) -> Rule {
    let list = |value| if let Value::Array(items) = value { items } else { Vec::new() };
    Rule {
        actions: list(actions),
        default: true,
        enabled: true,
        rule_id: rule_id.to_owned(),
        conditions: Some(list(conditions)),
        pattern: None,
    }
}

fn of_type(kind: &str) -> Value {
    json!({"kind": "event_match", "key": "type", "pattern": kind})
}

fn of_state_key(state_key: &str) -> Value {
    json!({"kind": "event_match", "key": "state_key", "pattern": state_key})
}

fn notify() -> Value {
    json!(["notify"])
}

fn notify_with_sound(sound: &str) -> Value {
    json!(["notify", {"set_tweak": "sound", "value": sound}])
}

fn notify_with_highlight() -> Value {
    json!(["notify", {"set_tweak": "highlight"}])
}

fn notify_with_both() -> Value {
    json!(["notify", {"set_tweak": "sound", "value": "default"}, {"set_tweak": "highlight"}])
}

fn overrides(user: &UserId, text_mentions: bool) -> Vec<Rule> {
    let may_notify_room = json!({"kind": "sender_notification_permission", "key": "room"});
    let mut rules = vec![
        Rule { enabled: false, ..rule(MASTER, json!([]), json!([])) },
        rule(
            ".m.rule.suppress_notices",
            json!([{"kind": "event_match", "key": "content.msgtype", "pattern": "m.notice"}]),
            json!([]),
        ),
        rule(
            ".m.rule.invite_for_me",
            json!([
                of_type("m.room.member"),
                {"kind": "event_match", "key": "content.membership", "pattern": "invite"},
                of_state_key(user.as_str()),
            ]),
            notify_with_sound("default"),
        ),
        rule(".m.rule.member_event", json!([of_type("m.room.member")]), json!([])),
        rule(
            ".m.rule.is_user_mention",
            json!([{"kind": "event_property_contains", "key": "content.m\\.mentions.user_ids", "value": user}]),
            notify_with_both(),
        ),
    ];
    if text_mentions {
        rules.push(rule(
            ".m.rule.contains_display_name",
            json!([{"kind": "contains_display_name"}]),
            notify_with_both(),
        ));
    }
    rules.push(rule(
        ".m.rule.is_room_mention",
        json!([{"kind": "event_property_is", "key": "content.m\\.mentions.room", "value": true}, may_notify_room]),
        notify_with_highlight(),
    ));
    if text_mentions {
        rules.push(rule(
            ".m.rule.roomnotif",
            json!([{"kind": "event_match", "key": "content.body", "pattern": "@room"}, may_notify_room]),
            notify_with_highlight(),
        ));
    }
    rules.extend([
        rule(".m.rule.tombstone", json!([of_type("m.room.tombstone"), of_state_key("")]), notify_with_highlight()),
        rule(".m.rule.reaction", json!([of_type("m.reaction")]), json!([])),
        rule(".m.rule.room.server_acl", json!([of_type("m.room.server_acl"), of_state_key("")]), json!([])),
        rule(
            ".m.rule.suppress_edits",
            json!([{"kind": "event_property_is", "key": "content.m\\.relates_to.rel_type", "value": "m.replace"}]),
            json!([]),
        ),
        rule(".org.matrix.msc3930.rule.poll_response", json!([of_type("org.matrix.msc3381.poll.response")]), json!([])),
    ]);
    rules
}

fn contains_user_name(user: &UserId) -> Rule {
    let pattern = Some(user.localpart().to_owned());
    Rule { conditions: None, pattern, ..rule(".m.rule.contains_user_name", json!([]), notify_with_both()) }
}

/// In the order of MSC4306: what is said in threads is notified if and only if the user has subscribed to them.
fn thread_rules() -> Vec<Rule> {
    let subscribed =
        |subscribed: bool| json!([{"kind": "io.element.msc4306.thread_subscription", "subscribed": subscribed}]);
    vec![
        rule(".io.element.msc4306.rule.unsubscribed_thread", subscribed(false), json!([])),
        rule(".io.element.msc4306.rule.subscribed_thread", subscribed(true), notify_with_sound("default")),
    ]
}

fn underrides() -> Vec<Rule> {
    let of_two = |kind| json!([{"kind": "room_member_count", "is": "2"}, of_type(kind)]);
    let sound = || notify_with_sound("default");
    vec![
        rule(".m.rule.call", json!([of_type("m.call.invite")]), notify_with_sound("ring")),
        rule(".m.rule.encrypted_room_one_to_one", of_two("m.room.encrypted"), sound()),
        rule(".m.rule.room_one_to_one", of_two("m.room.message"), sound()),
        rule(".m.rule.message", json!([of_type("m.room.message")]), notify()),
        rule(".m.rule.encrypted", json!([of_type("m.room.encrypted")]), notify()),
        rule(".org.matrix.msc3930.rule.poll_start_one_to_one", of_two("org.matrix.msc3381.poll.start"), sound()),
        rule(".org.matrix.msc3930.rule.poll_start", json!([of_type("org.matrix.msc3381.poll.start")]), notify()),
        rule(".org.matrix.msc3930.rule.poll_end_one_to_one", of_two("org.matrix.msc3381.poll.end"), sound()),
        rule(".org.matrix.msc3930.rule.poll_end", json!([of_type("org.matrix.msc3381.poll.end")]), notify()),
    ]
}
