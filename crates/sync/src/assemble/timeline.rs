//! The window of a room's timeline that a client gets.

use super::Context;
use crate::SyncError;
use crate::json::{push_name, push_text, separate};
use base::{EventNum, Order, Stamp};
use rooms::{RoomReader, StoredEvent};
use ruma::events::room::member::MembershipState;
use std::sync::Arc;
use store::Direction;
use sync_core::{PageToken, Window, WindowBuilder};

/// An event that the client sees.
pub struct Seen {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// What the user was to the room at it.
    pub membership: MembershipState,
}

/// Which events of a room the user may see.
#[derive(Clone, Copy, Debug)]
pub enum Sight {
    /// All of the window: a member since before it.
    All,
    /// What the history visibility shows them.
    Visible,
    /// What it shows them, and this event that ended their membership.
    VisibleAnd(EventNum),
}

impl Context<'_> {
    /// The window of the events after `since` and up to `end`.
    pub(crate) fn window(
        &self,
        reader: &RoomReader,
        since: Option<Stamp>,
        end: Order,
        sight: Sight,
    ) -> Result<Window<Seen>, SyncError> {
        let filter = &self.filter.timeline;
        let after = since.map_or(Order(i64::MIN), Order::from);
        let mut builder = WindowBuilder::new(self.filter.timeline_max, end);
        if filter.matches_nothing() || !filter.matches_room(reader.room_id()) {
            // Nothing to see, and so nothing to search; but what is not shown may have changed the state.
            let last = reader.view().timeline_last(reader.num(), end)?;
            if let Some(last) = last.filter(|last| last.order > after) {
                let _one_is_enough = builder.offer(last.order, None);
            }
            return Ok(builder.build());
        }
        let mut up_to = end;
        loop {
            let wanted = builder.wanted();
            let page = reader.timeline(after, up_to, Direction::Backward, wanted)?;
            let mut seen = self.seen(reader, &page, sight)?;
            if let Some(filter) = filter.related_by() {
                let related = reader.are_related_by(&page, filter)?;
                let unrelated = seen.iter_mut().zip(related).filter(|(_, is_related)| !is_related);
                unrelated.for_each(|(membership, _)| *membership = None);
            }
            let is_last = page.len() < wanted;
            for (event, membership) in page.into_iter().zip(seen) {
                let order = event.order;
                let shown = membership.filter(|_| filter.matches_everything() || filter.matches_pdu(&event.pdu));
                let shown = shown.filter(|_| !self.ignored.hide(&event.pdu, self.user()));
                let changes = event.pdu.state_key().is_some() || event.record.resolved.is_some();
                let end = match shown {
                    None if !changes => builder.pass(),
                    shown => builder.offer(order, shown.map(|membership| Seen { event, membership })),
                };
                if end.is_break() {
                    return Ok(builder.build());
                }
                up_to = Order(order.0.saturating_sub(1));
            }
            if is_last {
                return Ok(builder.build());
            }
        }
    }

    fn seen(
        &self,
        reader: &RoomReader,
        page: &[Arc<StoredEvent>],
        sight: Sight,
    ) -> Result<Vec<Option<MembershipState>>, SyncError> {
        let last = match sight {
            Sight::All => return Ok(vec![Some(MembershipState::Join); page.len()]),
            Sight::Visible => None,
            Sight::VisibleAnd(last) => Some(last),
        };
        let mut seen = reader.visible(self.user(), page)?;
        for (event, membership) in page.iter().zip(&mut seen) {
            if Some(event.num) == last && membership.is_none() {
                *membership = Some(MembershipState::Leave);
            }
        }
        Ok(seen)
    }

    /// Appends the `timeline` of a room.
    pub(super) fn push_timeline(
        &self,
        out: &mut String,
        reader: &RoomReader,
        window: &Window<Seen>,
    ) -> Result<(), SyncError> {
        push_name(out, "timeline");
        out.push_str("{\"events\":[");
        for seen in &window.events {
            separate(out);
            let event = match window.limited {
                true => self.event_with_relations(reader, &seen.event, &seen.membership)?,
                false => self.event(reader, &seen.event, Some(&seen.membership))?,
            };
            out.push_str(&event);
        }
        out.push_str("],\"limited\":");
        out.push_str(if window.limited { "true" } else { "false" });
        push_name(out, "prev_batch");
        push_text(out, &PageToken(window.start).to_string());
        out.push('}');
        Ok(())
    }
}
