//! A room's summary: its heroes and how many members it has.

use super::Context;
use super::state::parts;
use super::timeline::Seen;
use crate::SyncError;
use crate::json::{push_name, push_number, push_text, separate};
use base::Order;
use records::Membership;
use rooms::RoomReader;
use ruma::OwnedUserId;
use ruma::events::TimelineEventType;
use serde::Deserialize;
use sync_core::Window;
use sync_core::summary::{Candidate, heroes};

/// How many members of each membership are looked at to find the heroes. In a room of more, the first by id are
/// taken: who came first of thousands tells nobody which room it is.
const CANDIDATES_MAX: usize = 32;

/// A summary.
pub struct Summary {
    /// The members that name the room; empty if it has a name or an alias.
    pub heroes: Vec<OwnedUserId>,
}

impl Context<'_> {
    /// Whether the members of a room may have changed within a window.
    pub(super) fn members_changed(window: &Window<Seen>) -> bool {
        window.limited
            || window.skipped
            || parts(window)
            || window.events.iter().any(|seen| {
                matches!(
                    seen.event.pdu.kind(),
                    TimelineEventType::RoomMember | TimelineEventType::RoomName | TimelineEventType::RoomCanonicalAlias
                )
            })
    }

    /// The summary of a room as it is now.
    pub(crate) fn summary(&self, reader: &RoomReader) -> Result<Summary, SyncError> {
        #[derive(Deserialize)]
        struct Named {
            name: Option<String>,
            alias: Option<String>,
        }
        for kind in ["m.room.name", "m.room.canonical_alias"] {
            let Some(event) = reader.state_event(reader.state(), kind, "")? else { continue };
            let named = serde_json::from_str::<Named>(event.pdu.content().get());
            if named.is_ok_and(|named| named.name.or(named.alias).is_some_and(|name| !name.is_empty())) {
                return Ok(Summary { heroes: Vec::new() });
            }
        }
        let mut present = members(reader, Membership::Join)?;
        present.extend(members(reader, Membership::Invite)?);
        let mut absent = Vec::new();
        if present.iter().all(|candidate| candidate.user == self.user()) {
            absent.extend(members(reader, Membership::Leave)?);
            absent.extend(members(reader, Membership::Ban)?);
        }
        Ok(Summary { heroes: heroes(self.user(), present, || absent) })
    }

    /// Appends the `summary` of a room.
    pub(super) fn push_summary(out: &mut String, reader: &RoomReader, summary: &Summary) {
        push_name(out, "summary");
        out.push('{');
        if !summary.heroes.is_empty() {
            push_name(out, "m.heroes");
            out.push('[');
            for hero in &summary.heroes {
                separate(out);
                push_text(out, hero.as_str());
            }
            out.push(']');
        }
        push_name(out, "m.joined_member_count");
        push_number(out, reader.head().joined);
        push_name(out, "m.invited_member_count");
        push_number(out, reader.head().invited);
        out.push('}');
    }
}

/// The members with one membership.
fn members(reader: &RoomReader, membership: Membership) -> Result<Vec<Candidate>, SyncError> {
    let members = reader.view().room_members(reader.num(), membership, None, CANDIDATES_MAX)?;
    let mut candidates = Vec::with_capacity(members.len());
    let are_all = members.len() < CANDIDATES_MAX;
    for (user, num) in members {
        let event = if are_all { reader.event(num)? } else { None };
        candidates.push(Candidate { user, order: event.map_or(Order(0), |event| event.order) });
    }
    Ok(candidates)
}
