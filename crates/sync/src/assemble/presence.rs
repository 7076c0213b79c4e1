//! The presence of those whom the user shares rooms with.

use super::{Candidate, Context};
use crate::SyncError;
use crate::active::Active;
use crate::json::{push_name, push_text};
use crate::presence::{Presence, PresenceState};
use records::Membership;
use rules::filter::Facts;
use ruma::UserId;
use std::collections::BTreeSet;

const PRESENCE: &str = "m.presence";

impl Context<'_> {
    /// The `presence` section; none if there is nothing to tell. An initial sync tells who is there, another one
    /// who changed, and who is there in rooms that the user has joined since.
    pub(super) fn presence(&self, active: &Active, candidates: &[Candidate]) -> Result<Option<String>, SyncError> {
        if !self.inner.config.presence || self.filter.presence.matches_nothing() {
            return Ok(None);
        }
        let (mut users, mut others) = (BTreeSet::new(), BTreeSet::new());
        match self.since.map(|since| active.presence_after(since.volatile)) {
            None => others = self.inner.present_in(&self.view, active.rooms(), self.user())?,
            // Too much happened, or too long ago: whoever is known is told, gone or not.
            Some(None) => users = self.inner.present_in(&self.view, active.rooms(), self.user())?,
            Some(Some(changed)) => users.extend(changed),
        }
        if let Some(since) = self.since_stamp() {
            let is_new =
                |candidate: &&Candidate| candidate.record.membership == Membership::Join && candidate.at > since;
            let rooms = candidates.iter().filter(is_new).map(|candidate| candidate.room);
            others.extend(self.inner.present_in(&self.view, rooms, self.user())?);
        }
        let mut told = Vec::new();
        let presences = self.inner.presence.users();
        for user in users.iter().chain(others.difference(&users)) {
            let facts = Facts { kind: PRESENCE, sender: Some(user), room_id: None, has_url: false };
            if !self.filter.presence.matches(&facts) || self.ignored.contains(user) {
                continue;
            }
            let presence = presences.show(user, self.now);
            let presence = presence.unwrap_or_else(|| Presence::offline(records::PresenceRecord::default(), self.now));
            if presence.state != PresenceState::Offline || users.contains(user) {
                told.push(event(user, &presence));
            }
        }
        drop(presences);
        if told.is_empty() {
            return Ok(None);
        }
        Ok(Some(format!("{{\"events\":[{}]}}", told.join(","))))
    }
}

/// What a user is, as an event.
pub fn event(user: &UserId, presence: &Presence) -> String {
    let mut out = String::from("{");
    push_name(&mut out, "type");
    push_text(&mut out, PRESENCE);
    push_name(&mut out, "sender");
    push_text(&mut out, user.as_str());
    push_name(&mut out, "content");
    out.push_str(&presence.to_json());
    out.push('}');
    out
}
