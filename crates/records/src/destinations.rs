//! What is to be sent to other servers, as far as the log does not say it: where those that don't answer have stopped,
//! messages to devices of their users, and events of others that this server has to pass on.

use crate::codec::{self, RecordsError};
use crate::tables::{DESTINATION, OUTGOING_EDU, RELAYED};
use crate::{Changes, View};
use base::{Stamp, UnixMillis};
use ruma::{EventId, OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};
use store::key::KeyReader;
use store::{Direction, Hole, Stamped};

/// A server that does not have everything yet. Those that have need no row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRecord {
    /// Up to which stamp it has everything.
    pub done: Stamp,
    /// Since when it does not answer; none if it is only behind.
    pub failing_since: Option<UnixMillis>,
    /// When it is tried again.
    pub retry_at: UnixMillis,
}

fn destination(server: &ServerName) -> Vec<u8> {
    DESTINATION.key().number(0).text(server.as_str()).build()
}

fn relayed(event_id: &EventId) -> Vec<u8> {
    RELAYED.key().text(event_id.as_str()).build()
}

impl View {
    /// The servers that don't have everything, in the order of their names, from the one after `after`.
    pub fn destinations(
        &self,
        after: Option<&ServerName>,
        rows_max: usize,
    ) -> Result<Vec<(OwnedServerName, DestinationRecord)>, RecordsError> {
        let (mut from, to) = DESTINATION.key().number(0).prefix_range();
        if let Some(after) = after {
            from = destination(after);
            from.push(0);
        }
        let rows = self.scan(DESTINATION, (from, to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let server = reader.number().and_then(|_| reader.text());
                let server = server.and_then(|server| OwnedServerName::try_from(server).ok());
                Ok((server.ok_or_else(|| DESTINATION.corrupt())?, DESTINATION.decode(value)?))
            })
            .collect()
    }

    /// Whether this server has to pass on an event of another server's user, because it came in by this one.
    pub fn is_relayed(&self, event_id: &EventId) -> Result<bool, RecordsError> {
        Ok(self.get::<()>(RELAYED, &relayed(event_id))?.is_some())
    }

    /// What waits for a server beside events, oldest first: JSON objects (EDUs) with the stamps that they came with,
    /// those after a stamp, at most `rows_max`.
    pub fn outgoing_edus(
        &self,
        server: &ServerName,
        after: Stamp,
        rows_max: usize,
    ) -> Result<Vec<(Stamp, String)>, RecordsError> {
        let from = OUTGOING_EDU.key().text(server.as_str()).number(after.next().0).build();
        let to = OUTGOING_EDU.key().text(server.as_str()).prefix_range().1;
        let rows = self.scan(OUTGOING_EDU, (from, to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let stamp = reader.text().and_then(|_| reader.number()).ok_or_else(|| OUTGOING_EDU.corrupt())?;
                Ok((Stamp(stamp), OUTGOING_EDU.decode(value)?))
            })
            .collect()
    }
}

impl Changes {
    /// Notes up to where a server has everything.
    pub fn put_destination(&mut self, server: &ServerName, record: &DestinationRecord) {
        self.put(DESTINATION, destination(server), record);
    }

    /// Notes that a server has everything.
    pub fn clear_destination(&mut self, server: &ServerName) {
        self.clear(DESTINATION, destination(server));
    }

    /// Notes that this server has to pass on an event of another server's user.
    pub fn put_relayed(&mut self, event_id: &EventId) {
        self.put(RELAYED, relayed(event_id), &());
    }

    /// Notes that an event of another server's user was passed on.
    pub fn clear_relayed(&mut self, event_id: &EventId) {
        self.clear(RELAYED, relayed(event_id));
    }

    /// Lets something wait for a server at a stamp of these changes: a JSON object (an EDU). `place` tells those of one
    /// stamp from each other.
    pub fn put_outgoing_edu(&mut self, nth: u16, server: &ServerName, place: u64, edu: &str) {
        let key = OUTGOING_EDU.key().text(server.as_str());
        let at = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let key = Stamped { bytes: key.number(0).number(place).build(), holes: vec![Hole { at, nth }] };
        self.put_raw(OUTGOING_EDU, key, codec::encode(&edu).into());
    }

    /// Notes that a server has what waited for it up to a stamp.
    pub fn clear_outgoing_edus(&mut self, server: &ServerName, up_to: Stamp) {
        let from = OUTGOING_EDU.key().text(server.as_str()).number(0).build();
        let to = OUTGOING_EDU.key().text(server.as_str()).number(up_to.next().0).build();
        self.clear_range(OUTGOING_EDU, (from, to));
    }
}
