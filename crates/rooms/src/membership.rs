//! Membership changes: from what a user wants to be to a room, or to make of another, to the draft of an
//! `m.room.member`.
//!
//! The transitions that the authorization rules forbid are left to them. Here is what they don't say: what a
//! change that changes nothing does, whom one can kick or unban, and what the content of the event is
//! (client-server API, "Room membership" and `m.room.member`).

use crate::RoomError;
use records::Membership;
use room_core::Draft;
use rules::PowerLevels;
use rules::power::Action;
use ruma::serde::JsonObject;
use ruma::{OwnedUserId, UserId};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// What a user wants to be to a room, or to make of another user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// The sender enters. One who is in already changes nothing, unless the client itself gives the content.
    Join,
    /// The sender, who is in, has changed their profile, and the room is to show it.
    ShowProfile,
    /// The sender asks to be let in.
    Knock,
    /// The sender leaves, rejects an invitation or takes back a knock.
    Leave,
    /// The sender invites someone, or accepts their knock.
    Invite {
        /// Whom.
        user: OwnedUserId,
    },
    /// The sender removes someone, takes back an invitation or rejects a knock.
    Kick {
        /// Whom.
        user: OwnedUserId,
    },
    /// The sender keeps someone out for good.
    Ban {
        /// Whom.
        user: OwnedUserId,
    },
    /// The sender takes back a ban.
    Unban {
        /// Whose.
        user: OwnedUserId,
    },
}

impl MembershipChange {
    /// Whose membership changes.
    #[must_use]
    pub fn target<'a>(&'a self, sender: &'a UserId) -> &'a UserId {
        match self {
            Self::Join | Self::ShowProfile | Self::Knock | Self::Leave => sender,
            Self::Invite { user } | Self::Kick { user } | Self::Ban { user } | Self::Unban { user } => user,
        }
    }

    /// What the target is afterwards.
    #[must_use]
    pub fn result(&self) -> Membership {
        match self {
            Self::Join | Self::ShowProfile => Membership::Join,
            Self::Knock => Membership::Knock,
            Self::Leave | Self::Kick { .. } | Self::Unban { .. } => Membership::Leave,
            Self::Invite { .. } => Membership::Invite,
            Self::Ban { .. } => Membership::Ban,
        }
    }

    /// Whether the event shows the target's profile: those who come have one to show.
    #[must_use]
    pub fn shows_profile(&self) -> bool {
        matches!(self, Self::Join | Self::ShowProfile | Self::Knock | Self::Invite { .. })
    }
}

/// How a user appears in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub displayname: Option<String>,
    /// The picture's `mxc:` URI.
    pub avatar_url: Option<String>,
}

/// What the room's join rules make of a user who comes without an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// The authorization rules know all about it.
    Plain,
    /// Members of some other rooms are let in (`restricted`, `knock_restricted`).
    Restricted {
        /// Whether the user is a member of one of them.
        admitted: bool,
        /// A joined user of this server who may invite, in whose name the user is let in.
        authorising: Option<OwnedUserId>,
    },
}

/// What [`plan`] must know of the room.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What the target is now, and the content of the event that says so.
    pub current: Option<(Membership, &'a RawValue)>,
    /// Whether the sender has joined.
    pub sender_joined: bool,
    /// The room's power levels.
    pub power: &'a PowerLevels,
    /// How the target appears, if [`MembershipChange::shows_profile`] and the target is a user of this server.
    pub profile: Option<&'a Profile>,
    /// What the join rules make of the target.
    pub door: Door,
}

/// What becomes of a change.
#[derive(Debug)]
pub enum Outcome {
    /// An event is to be sent.
    Send(Draft),
    /// Everything is as it should be already: the request succeeds without an event.
    Unchanged,
}

/// Makes the draft of a membership change. `extra` is what the client has put into the event's content itself;
/// it wins over the profile, but not over the membership.
///
/// # Errors
///
/// [`RoomError::Forbidden`] for what the endpoints refuse although the authorization rules might not: kicking
/// someone who is not there, taking back a ban that is none, entering a restricted room without being a
/// member of one that admits. [`RoomError::BadJson`] if the content cannot be written.
pub fn plan(
    sender: &UserId,
    change: &MembershipChange,
    facts: &Facts<'_>,
    reason: Option<String>,
    extra: Option<JsonObject>,
) -> Result<Outcome, RoomError> {
    let target = change.target(sender);
    refuse_impossible(sender, change, facts)?;
    let authorising = authorising(change, facts)?;

    let given_by_client = extra.is_some();
    let profile = facts.profile.filter(|_| change.shows_profile());
    let mut content = content(change.result(), profile, extra.unwrap_or_default());
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), Value::String(reason));
    }
    if is_unchanged(sender, change, facts, given_by_client, &content) {
        return Ok(Outcome::Unchanged);
    }
    if let Some(authorising) = authorising {
        content.insert("join_authorised_via_users_server".to_owned(), Value::String(authorising.into()));
    }
    Ok(Outcome::Send(draft(sender, target, &content)?))
}

/// The content of an `m.room.member`: what the client gave, how the member appears, and the membership.
#[must_use]
pub fn content(membership: Membership, profile: Option<&Profile>, mut given: JsonObject) -> JsonObject {
    // Who lets a user in is for this server to say.
    given.remove("join_authorised_via_users_server");
    given.insert("membership".to_owned(), Value::from(name(membership)));
    if let Some(Profile { displayname, avatar_url }) = profile {
        for (field, value) in [("displayname", displayname), ("avatar_url", avatar_url)] {
            if let Some(value) = value {
                given.entry(field).or_insert_with(|| Value::from(value.as_str()));
            }
        }
    }
    given
}

/// The draft of an `m.room.member`.
pub(crate) fn draft(sender: &UserId, target: &UserId, content: &JsonObject) -> Result<Draft, RoomError> {
    let content = to_raw_value(content).map_err(|error| RoomError::BadJson(error.to_string()))?;
    Ok(Draft::state(sender.to_owned(), "m.room.member", target.as_str(), content))
}

/// A membership as events write it.
#[must_use]
pub fn name(membership: Membership) -> &'static str {
    match membership {
        Membership::Join => "join",
        Membership::Invite => "invite",
        Membership::Knock => "knock",
        Membership::Leave => "leave",
        Membership::Ban => "ban",
    }
}

fn refuse_impossible(sender: &UserId, change: &MembershipChange, facts: &Facts<'_>) -> Result<(), RoomError> {
    let current = facts.current.map(|(membership, _)| membership);
    let forbidden = |message: String| Err(RoomError::Forbidden(message));
    match (change, current) {
        (MembershipChange::Leave, None) => forbidden("you are not in the room".to_owned()),
        (MembershipChange::ShowProfile, current) if current != Some(Membership::Join) => {
            forbidden("you are not in the room".to_owned())
        }
        (MembershipChange::Kick { user }, None | Some(Membership::Leave)) => {
            forbidden(format!("{user} is not in the room"))
        }
        (MembershipChange::Kick { user }, Some(Membership::Ban)) => forbidden(format!("{user} is banned already")),
        (MembershipChange::Unban { user }, current) if current != Some(Membership::Ban) => {
            forbidden(format!("{user} is not banned"))
        }
        // Said here in words that help, before the authorization rules would.
        (
            MembershipChange::Invite { user }
            | MembershipChange::Kick { user }
            | MembershipChange::Ban { user }
            | MembershipChange::Unban { user },
            _,
        ) if !facts.sender_joined && **user != *sender => forbidden("you are not in the room".to_owned()),
        (MembershipChange::Invite { user }, Some(Membership::Join)) => {
            forbidden(format!("{user} is in the room already"))
        }
        (MembershipChange::Invite { user }, Some(Membership::Ban)) => {
            forbidden(format!("{user} is banned from the room"))
        }
        (MembershipChange::Join | MembershipChange::Knock, Some(Membership::Ban)) => {
            forbidden("you are banned from the room".to_owned())
        }
        (MembershipChange::Knock, Some(Membership::Join)) => forbidden("you are in the room already".to_owned()),
        (MembershipChange::Knock, Some(Membership::Invite)) => forbidden("you are invited already".to_owned()),
        _ => Ok(()),
    }
}

/// In whose name the sender joins, where that is needed: those who are in or invited need nobody.
fn authorising(change: &MembershipChange, facts: &Facts<'_>) -> Result<Option<OwnedUserId>, RoomError> {
    let needed =
        *change == MembershipChange::Join && !matches!(facts.current, Some((Membership::Join | Membership::Invite, _)));
    match &facts.door {
        Door::Restricted { admitted: false, .. } if needed => {
            Err(RoomError::Forbidden("you are neither invited nor in a room whose members are let in".to_owned()))
        }
        Door::Restricted { authorising: None, .. } if needed => {
            Err(RoomError::Forbidden("nobody of this server may let you into the room".to_owned()))
        }
        Door::Restricted { authorising, .. } if needed => Ok(authorising.clone()),
        _ => Ok(None),
    }
}

/// Whether the target is already what they shall be, and the sender could have made them so. A repeated request
/// that says something new (another reason, other fields) is a change.
fn is_unchanged(
    sender: &UserId,
    change: &MembershipChange,
    facts: &Facts<'_>,
    given_by_client: bool,
    content: &JsonObject,
) -> bool {
    let Some((current, current_content)) = facts.current else { return false };
    if current != change.result() {
        return false;
    }
    let permitted = match change {
        MembershipChange::Invite { user } => facts.power.can_act_on(sender, Action::Invite, user),
        MembershipChange::Ban { user } => facts.power.can_act_on(sender, Action::Ban, user),
        // Whoever repeats what they did themselves may. Kicks and unbans are refused above.
        _ => true,
    };
    let current_content = serde_json::from_str::<JsonObject>(current_content.get()).unwrap_or_default();
    let same = |fields: &[&str]| fields.iter().all(|field| content.get(*field) == current_content.get(*field));
    let says_nothing_new = match change {
        // One who is out has nothing more to say.
        MembershipChange::Leave => true,
        _ if given_by_client => {
            let fields = content.keys().chain(current_content.keys()).map(String::as_str);
            let fields: Vec<&str> = fields.filter(|field| *field != "join_authorised_via_users_server").collect();
            same(&fields)
        }
        // One who is in is in, whatever reason is given.
        MembershipChange::Join => true,
        MembershipChange::ShowProfile => same(&["displayname", "avatar_url"]),
        _ => !content.contains_key("reason") || same(&["reason"]),
    };
    permitted && says_nothing_new
}

#[cfg(test)]
mod tests {
    use super::MembershipChange::{Ban, Invite, Join, Kick, Knock, Leave, ShowProfile, Unban};
    use super::*;
    use ruma::{RoomVersionId, owned_event_id, owned_user_id, user_id};
    use serde_json::json;

    fn admin() -> &'static UserId {
        user_id!("@admin:a.example")
    }

    fn user() -> &'static UserId {
        user_id!("@user:a.example")
    }

    fn power() -> PowerLevels {
        let rules = rules::room_rules(&RoomVersionId::V11).unwrap();
        let json = json!({
            "type": "m.room.power_levels", "state_key": "", "sender": admin(), "room_id": "!r:a.example",
            "depth": 1, "origin_server_ts": 1,
            "content": {"users": {(admin()): 100}, "invite": 50},
        });
        let pdu = rules::Pdu::parse_stored(owned_event_id!("$e"), json.to_string(), &rules, false).unwrap();
        PowerLevels::new(&rules, None, Some(&pdu))
    }

    /// What comes of a change by `sender` of a target who is `current`: the event's content, `None` if nothing
    /// is sent, or why it is refused.
    fn check(
        sender: &UserId,
        change: &MembershipChange,
        current: Option<(Membership, &str)>,
    ) -> Result<Option<Value>, String> {
        check_with(sender, change, current, Door::Plain, None, None)
    }

    fn check_with(
        sender: &UserId,
        change: &MembershipChange,
        current: Option<(Membership, &str)>,
        door: Door,
        reason: Option<&str>,
        extra: Option<Value>,
    ) -> Result<Option<Value>, String> {
        let content = current.map(|(membership, json)| (membership, RawValue::from_string(json.to_owned()).unwrap()));
        let profile = Profile { displayname: Some("Name".to_owned()), avatar_url: None };
        let facts = Facts {
            current: content.as_ref().map(|(membership, content)| (*membership, &**content)),
            sender_joined: true,
            power: &power(),
            profile: Some(&profile),
            door,
        };
        let extra = extra.map(|extra| extra.as_object().unwrap().clone());
        match plan(sender, change, &facts, reason.map(ToOwned::to_owned), extra) {
            Ok(Outcome::Send(draft)) => {
                assert_eq!(draft.state_key.as_deref(), Some(change.target(sender).as_str()));
                Ok(Some(serde_json::from_str(draft.content.get()).unwrap()))
            }
            Ok(Outcome::Unchanged) => Ok(None),
            Err(RoomError::Forbidden(message)) => Err(message),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn each_transition_is_sent_refused_or_nothing() {
        const SENT: &str = "sent";
        const NOTHING: &str = "nothing";
        const REFUSED: &str = "refused";
        let target = || owned_user_id!("@user:a.example");
        let states = [
            None,
            Some(Membership::Leave),
            Some(Membership::Invite),
            Some(Membership::Join),
            Some(Membership::Knock),
            Some(Membership::Ban),
        ];
        // From none, leave, invite, join, knock, ban. What is sent may still be refused by the rules.
        let table = [
            (user(), Join, [SENT, SENT, SENT, NOTHING, SENT, REFUSED]),
            (user(), Knock, [SENT, SENT, REFUSED, REFUSED, NOTHING, REFUSED]),
            (user(), Leave, [REFUSED, NOTHING, SENT, SENT, SENT, SENT]),
            (admin(), Invite { user: target() }, [SENT, SENT, NOTHING, REFUSED, SENT, REFUSED]),
            (admin(), Kick { user: target() }, [REFUSED, REFUSED, SENT, SENT, SENT, REFUSED]),
            (admin(), Ban { user: target() }, [SENT, SENT, SENT, SENT, SENT, NOTHING]),
            (admin(), Unban { user: target() }, [REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, SENT]),
        ];
        for (sender, change, expected) in table {
            for (state, expected) in states.iter().zip(expected) {
                let content = state.map(|state| json!({"membership": name(state)}).to_string());
                let current = state.zip(content.as_deref());
                let outcome = match check(sender, &change, current) {
                    Ok(Some(content)) => {
                        assert_eq!(content["membership"], name(change.result()));
                        SENT
                    }
                    Ok(None) => NOTHING,
                    Err(_) => REFUSED,
                };
                assert_eq!(outcome, expected, "{change:?} from {state:?}");
            }
        }
    }

    #[test]
    fn a_repeated_change_by_one_who_may_not_make_it_is_left_to_the_rules() {
        let other = user_id!("@other:a.example");
        let user = owned_user_id!("@user:a.example");
        let invited = Some((Membership::Invite, r#"{"membership":"invite"}"#));
        assert!(check(other, &Invite { user: user.clone() }, invited).unwrap().is_some());
        let banned = Some((Membership::Ban, r#"{"membership":"ban"}"#));
        assert!(check(other, &Ban { user }, banned).unwrap().is_some());
    }

    #[test]
    fn another_reason_makes_another_event() {
        let user = owned_user_id!("@user:a.example");
        let banned = Some((Membership::Ban, r#"{"membership":"ban","reason":"spam"}"#));
        let ban =
            |reason| check_with(admin(), &Ban { user: user.clone() }, banned, Door::Plain, Some(reason), None).unwrap();
        assert_eq!(ban("spam"), None);
        assert_eq!(ban("abuse"), Some(json!({"membership": "ban", "reason": "abuse"})));
    }

    #[test]
    fn those_who_come_show_their_profile_and_those_who_go_do_not() {
        assert_eq!(check(user(), &Join, None).unwrap(), Some(json!({"membership": "join", "displayname": "Name"})));
        let joined = Some((Membership::Join, "{}"));
        assert_eq!(check(user(), &Leave, joined).unwrap(), Some(json!({"membership": "leave"})));
    }

    #[test]
    fn what_the_client_gives_wins_over_the_profile_but_not_over_the_membership() {
        let extra =
            json!({"displayname": "Other", "membership": "ban", "x": 1, "join_authorised_via_users_server": admin()});
        let content = check_with(user(), &Join, None, Door::Plain, None, Some(extra)).unwrap();
        assert_eq!(content, Some(json!({"displayname": "Other", "membership": "join", "x": 1})));
    }

    #[test]
    fn a_member_can_change_how_they_appear() {
        let joined = Some((Membership::Join, r#"{"membership":"join","displayname":"Name"}"#));
        let join = |extra| check_with(user(), &Join, joined, Door::Plain, None, Some(extra)).unwrap();
        assert_eq!(join(json!({"displayname": "Name"})), None);
        assert_eq!(join(json!({"displayname": "Nick"})), Some(json!({"membership": "join", "displayname": "Nick"})));
    }

    #[test]
    fn a_new_profile_shows_only_where_the_user_is_in_and_only_if_it_is_new() {
        let show = |current| check(user(), &ShowProfile, current);
        let old = Some((Membership::Join, r#"{"membership":"join","displayname":"Old","reason":"R"}"#));
        assert_eq!(show(old).unwrap(), Some(json!({"membership": "join", "displayname": "Name"})));
        let new = Some((Membership::Join, r#"{"membership":"join","displayname":"Name","reason":"R"}"#));
        assert_eq!(show(new).unwrap(), None);
        assert!(show(Some((Membership::Invite, "{}"))).is_err());
    }

    #[test]
    fn a_restricted_room_lets_in_members_of_others_in_the_name_of_one_who_may_invite() {
        let door = |admitted, authorising| Door::Restricted { admitted, authorising };
        let join = |current, door| check_with(user(), &Join, current, door, None, None);
        let by = || Some(admin().to_owned());
        let content = join(None, door(true, by())).unwrap().unwrap();
        assert_eq!(content["join_authorised_via_users_server"], admin().as_str());
        assert!(join(None, door(false, by())).is_err());
        assert!(join(None, door(true, None)).is_err());
        let invited = Some((Membership::Invite, "{}"));
        let content = join(invited, door(false, None)).unwrap().unwrap();
        assert!(content.get("join_authorised_via_users_server").is_none());
    }

    #[test]
    fn one_who_is_not_in_the_room_cannot_act_on_others() {
        let user = owned_user_id!("@user:a.example");
        let content = RawValue::from_string("{}".to_owned()).unwrap();
        for change in [Invite { user: user.clone() }, Kick { user: user.clone() }, Ban { user: user.clone() }] {
            let facts = Facts {
                current: Some((Membership::Invite, &content)),
                sender_joined: false,
                power: &power(),
                profile: None,
                door: Door::Plain,
            };
            assert!(matches!(plan(admin(), &change, &facts, None, None), Err(RoomError::Forbidden(_))), "{change:?}");
        }
    }
}
