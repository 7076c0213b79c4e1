//! Who may see an event (client-server API, "Room History Visibility").
//!
//! The rules look at the state of the room at the event, so the caller brings that: the visibility and the
//! user's membership before and after the event, and whether the user joined later.

use ruma::events::room::member::MembershipState;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Who may see events that are sent while this holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryVisibility {
    /// Everybody.
    WorldReadable,
    /// Members, also those who joined later. What a room has that does not say.
    #[default]
    Shared,
    /// Members, and those who were invited.
    Invited,
    /// Members.
    Joined,
}

impl HistoryVisibility {
    /// What the content of an `m.room.history_visibility` says; the default if it is missing or not understood.
    #[must_use]
    pub fn of_content(content: Option<&RawValue>) -> Self {
        #[derive(Deserialize)]
        struct Content<'a> {
            #[serde(borrow)]
            history_visibility: std::borrow::Cow<'a, str>,
        }

        let content = content.and_then(|content| serde_json::from_str::<Content<'_>>(content.get()).ok());
        match content.as_ref().map(|content| &*content.history_visibility) {
            Some("world_readable") => Self::WorldReadable,
            Some("invited") => Self::Invited,
            Some("joined") => Self::Joined,
            _ => Self::Shared,
        }
    }
}

/// A moment in a room as one user lived it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The visibility of history then.
    pub visibility: HistoryVisibility,
    /// The user's membership then; [`MembershipState::Leave`] if they had none.
    pub membership: MembershipState,
}

/// What became of the user after the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// They were a member at some point after the event, or are one now.
    Joined,
    /// They were not.
    NeverJoined,
}

/// Whether a user may see an event.
///
/// `before` and `after` are the moments around it. They differ only for an `m.room.history_visibility` and for
/// the user's own `m.room.member`, which are visible if either moment allows it; for every other event, pass
/// the same twice, or use [`may_see`].
#[must_use]
pub fn may_see_change(before: &Moment, after: &Moment, later: Later) -> bool {
    may_see(before, later) || may_see(after, later)
}

/// Whether a user may see an event that changes neither the visibility nor the user's membership.
#[must_use]
pub fn may_see(at: &Moment, later: Later) -> bool {
    match at.visibility {
        HistoryVisibility::WorldReadable => true,
        _ if at.membership == MembershipState::Join => true,
        HistoryVisibility::Shared => later == Later::Joined,
        HistoryVisibility::Invited => at.membership == MembershipState::Invite,
        HistoryVisibility::Joined => false,
    }
}

/// Whether a user could see an event, for being a member of the room, before its sender's account was erased.
/// `was_member` says whether they were one at some time between the two (client-server API, `POST
/// /account/deactivate`, `erase`). That everybody could read the room does not count: whoever comes later comes
/// after the erasure.
#[must_use]
pub fn saw(at: &Moment, was_member: bool) -> bool {
    match at.visibility {
        _ if at.membership == MembershipState::Join => true,
        HistoryVisibility::WorldReadable | HistoryVisibility::Shared => was_member,
        HistoryVisibility::Invited => at.membership == MembershipState::Invite,
        HistoryVisibility::Joined => false,
    }
}

#[cfg(test)]
mod tests {
    use super::HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
    use super::Later::NeverJoined;
    use super::MembershipState::{Ban, Invite, Join, Knock, Leave};
    use super::*;

    fn at(visibility: HistoryVisibility, membership: MembershipState) -> Moment {
        Moment { visibility, membership }
    }

    #[test]
    fn members_see_everything() {
        for visibility in [WorldReadable, Shared, Invited, Joined] {
            assert!(may_see(&at(visibility, Join), NeverJoined));
        }
    }

    #[test]
    fn the_world_sees_what_is_world_readable() {
        for membership in [Leave, Invite, Knock, Ban, Join] {
            assert!(may_see(&at(WorldReadable, membership), NeverJoined));
        }
    }

    #[test]
    fn shared_history_opens_to_those_who_join_later() {
        for membership in [Leave, Invite, Knock, Ban] {
            assert!(may_see(&at(Shared, membership.clone()), Later::Joined));
            assert!(!may_see(&at(Shared, membership), NeverJoined));
        }
    }

    #[test]
    fn invited_history_opens_with_the_invitation() {
        assert!(may_see(&at(Invited, Invite), NeverJoined));
        for membership in [Leave, Knock, Ban] {
            assert!(!may_see(&at(Invited, membership), Later::Joined));
        }
    }

    #[test]
    fn joined_history_is_for_members_only() {
        for membership in [Leave, Invite, Knock, Ban] {
            assert!(!may_see(&at(Joined, membership), Later::Joined));
        }
    }

    #[test]
    fn one_who_left_sees_neither_what_came_after_nor_loses_what_was_before() {
        assert!(may_see(&at(Joined, Join), NeverJoined));
        assert!(!may_see(&at(Shared, Leave), NeverJoined));
    }

    #[test]
    fn one_sees_ones_own_join_and_leave() {
        assert!(may_see_change(&at(Joined, Leave), &at(Joined, Join), NeverJoined));
        assert!(may_see_change(&at(Joined, Join), &at(Joined, Leave), NeverJoined));
        assert!(may_see_change(&at(Joined, Join), &at(Joined, Ban), NeverJoined));
        assert!(!may_see_change(&at(Joined, Leave), &at(Joined, Invite), NeverJoined));
    }

    #[test]
    fn a_change_of_the_visibility_is_seen_if_either_side_shows_it() {
        assert!(may_see_change(&at(WorldReadable, Leave), &at(Joined, Leave), NeverJoined));
        assert!(may_see_change(&at(Joined, Leave), &at(WorldReadable, Leave), NeverJoined));
        assert!(!may_see_change(&at(Joined, Leave), &at(Shared, Leave), NeverJoined));
    }

    #[test]
    fn of_an_erased_account_those_who_could_see_it_as_members_keep_the_events() {
        for visibility in [WorldReadable, Shared, Invited, Joined] {
            assert!(saw(&at(visibility, Join), false));
            assert!(!saw(&at(visibility, Leave), false));
        }
        assert!(saw(&at(WorldReadable, Leave), true) && saw(&at(Shared, Invite), true));
        assert!(!saw(&at(Invited, Leave), true) && !saw(&at(Joined, Invite), true));
        assert!(saw(&at(Invited, Invite), false));
    }

    #[test]
    fn a_visibility_that_is_not_understood_is_shared() {
        let of = |json: &str| HistoryVisibility::of_content(Some(&RawValue::from_string(json.to_owned()).unwrap()));
        assert_eq!(HistoryVisibility::of_content(None), Shared);
        for json in ["{}", "1", "[]", r#"{"history_visibility":7}"#, r#"{"history_visibility":"all"}"#] {
            assert_eq!(of(json), Shared, "{json}");
        }
        assert_eq!(of(r#"{"history_visibility":"joined"}"#), Joined);
        assert_eq!(of(r#"{"history_visibility":"inv\u0069ted"}"#), Invited);
        assert_eq!(of(r#"{"history_visibility":"world_readable"}"#), WorldReadable);
    }
}
