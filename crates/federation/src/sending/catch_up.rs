//! What a server is to be told that is not in memory any more.

use super::Item;
use super::destination::Destination;
use crate::{Federation, FederationError};
use base::{Order, Stamp};
use records::View;
use ruma::ServerName;
use store::Direction;

/// How many entries of the log are read for one server at a time.
const LOG_PAGE: usize = 2_000;
/// From how many stamps on it is not told everything, but the last event of each room.
const LONG: u64 = 50_000;
/// How many things are given to a queue at once.
const ITEMS_MAX: usize = 200;
/// How many rooms are shared with one server, as far as it is told of them after a long absence.
const ROOMS_MAX: usize = 10_000;
/// How many of the last events of a room are looked at for one of this server.
const LAST_EVENTS: usize = 50;
/// How many users are looked at whose devices have changed meanwhile.
const USERS_MAX: usize = 5_000;

type Missed = Vec<(Stamp, usize, Item)>;

impl Federation {
    /// Gives a queue what comes after a stamp.
    pub(super) fn catch_up(&self, destination: &Destination, after: Stamp) -> Result<(), FederationError> {
        let view = self.0.records.view();
        let is_long = view.stamp().0.saturating_sub(after.0) > LONG || after < view.log_trimmed()?;
        let (missed, up_to) = match is_long {
            true => self.missed_for_long(&view, &destination.server, after)?,
            false => self.missed(&view, &destination.server, after)?,
        };
        destination.queue().caught_up(missed, up_to);
        Ok(())
    }

    fn missed(&self, view: &View, server: &ServerName, after: Stamp) -> Result<(Missed, Stamp), FederationError> {
        let mut missed = Missed::new();
        let mut at = after;
        loop {
            let entries = view.log(at, view.stamp(), LOG_PAGE)?;
            let full = entries.len() == LOG_PAGE;
            for (stamp, entry) in &entries {
                self.route(view, entry, |other, item| {
                    if other == server {
                        missed.push((*stamp, item.weight(), item));
                    }
                })?;
                at = *stamp;
                if missed.len() >= ITEMS_MAX {
                    return Ok((missed, at));
                }
            }
            if !full {
                return Ok((missed, view.stamp()));
            }
        }
    }

    /// The last event of each room that is this server's: by what it follows, the other one finds what it missed.
    fn missed_for_long(
        &self,
        view: &View,
        server: &ServerName,
        after: Stamp,
    ) -> Result<(Missed, Stamp), FederationError> {
        let mut missed = Missed::new();
        for room in view.rooms_of_server(server, None, ROOMS_MAX)? {
            let Some(reader) = self.0.rooms.reader(view, room)? else { continue };
            let after = Order::from(after);
            let last = reader.timeline(after, Order(i64::MAX), Direction::Backward, LAST_EVENTS)?;
            let own = last.iter().find(|event| !self.is_remote(event.pdu.sender().server_name()));
            if let Some(event) = own {
                let item = Item::Event(event.num);
                missed.push((Stamp(event.order.0.max(0).cast_unsigned()), item.weight(), item));
            }
        }
        for (stamp, user) in view.device_lists_changed(after, view.stamp(), USERS_MAX)? {
            if !self.is_remote(user.server_name()) && self.servers_around(view, &user)?.contains(server) {
                let item = Item::Devices(user);
                missed.push((stamp, item.weight(), item));
            }
        }
        let mut seen = None;
        for (stamp, _) in view.outgoing_edus(server, after, ROOMS_MAX)? {
            if seen != Some(stamp) {
                missed.push((stamp, Item::Messages.weight(), Item::Messages));
                seen = Some(stamp);
            }
        }
        missed.sort_by_key(|(stamp, ..)| *stamp);
        tracing::info!(%server, things = missed.len(), "a server that was away for long is told the last of each room");
        Ok((missed, view.stamp()))
    }
}
