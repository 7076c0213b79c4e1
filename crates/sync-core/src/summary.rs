//! What a client needs to name a room that has no name (client-server API, `RoomSummary` of `GET /sync`).

use base::Order;
use ruma::{OwnedUserId, UserId};

/// How many members name a room.
pub const HEROES_MAX: usize = 5;

/// A member who may be a hero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub user: OwnedUserId,
    /// The place of their membership event in the timeline.
    pub order: Order,
}

/// The heroes: the first members other than the user who asks, in the order of their membership events. Those
/// present (joined or invited) if there are any, else those absent (left or banned).
#[must_use]
pub fn heroes(asker: &UserId, present: Vec<Candidate>, absent: impl FnOnce() -> Vec<Candidate>) -> Vec<OwnedUserId> {
    let present = first(asker, present);
    if present.is_empty() { first(asker, absent()) } else { present }
}

fn first(asker: &UserId, mut candidates: Vec<Candidate>) -> Vec<OwnedUserId> {
    candidates.retain(|candidate| candidate.user != asker);
    candidates.sort_by(|left, right| (left.order, &left.user).cmp(&(right.order, &right.user)));
    candidates.into_iter().take(HEROES_MAX).map(|candidate| candidate.user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::user_id;

    fn candidate(name: &str, order: i64) -> Candidate {
        Candidate { user: UserId::parse(format!("@{name}:a.example")).unwrap(), order: Order(order) }
    }

    fn names(heroes: &[OwnedUserId]) -> Vec<&str> {
        heroes.iter().map(|hero| hero.localpart()).collect()
    }

    #[test]
    fn heroes_are_the_first_others() {
        let present = (0..7).rev().map(|n| candidate(&format!("u{n}"), n)).collect();
        let heroes = heroes(user_id!("@u1:a.example"), present, Vec::new);
        assert_eq!(names(&heroes), ["u0", "u2", "u3", "u4", "u5"]);
    }

    #[test]
    fn those_who_left_name_a_room_only_if_nobody_else_is_there() {
        let me = candidate("me", 1);
        let gone = || vec![candidate("gone", 2)];
        assert_eq!(names(&heroes(&me.user, vec![me.clone()], gone)), ["gone"]);
        assert_eq!(names(&heroes(&me.user, vec![me.clone(), candidate("here", 3)], gone)), ["here"]);
    }
}
