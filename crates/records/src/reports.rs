//! Reports: what users have told the administrators of.

use crate::codec::{self, RecordsError};
use crate::tables::REPORT;
use crate::{Changes, View};
use base::{Stamp, UnixMillis};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use store::key::KeyReader;
use store::{Direction, Hole, Stamped};

/// What a report is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reported {
    /// An event.
    Event {
        /// The room that it is in.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// Who sent it.
        sender: OwnedUserId,
        /// How bad it is, from −100 to 0, if the reporter has said so.
        score: Option<i8>,
    },
    /// A room.
    Room {
        /// The room.
        room_id: OwnedRoomId,
    },
    /// A user.
    User {
        /// The user.
        user_id: OwnedUserId,
    },
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    /// Who reports.
    pub reporter: OwnedUserId,
    /// What.
    pub reported: Reported,
    /// Why, in their own words.
    pub reason: String,
    /// When.
    pub at: UnixMillis,
}

fn report_key(id: Stamp) -> Vec<u8> {
    REPORT.key().number(id.0).build()
}

impl View {
    /// A report by its id.
    pub fn report(&self, id: Stamp) -> Result<Option<ReportRecord>, RecordsError> {
        self.get(REPORT, &report_key(id))
    }

    /// Reports with their ids: the newest first, from the one before `beyond` on; or the other way round.
    pub fn reports(
        &self,
        beyond: Option<Stamp>,
        direction: Direction,
        rows_max: usize,
    ) -> Result<Vec<(Stamp, ReportRecord)>, RecordsError> {
        let (mut from, mut to) = REPORT.key().prefix_range();
        match (beyond, direction) {
            (Some(last), Direction::Backward) => to = report_key(last),
            (Some(last), Direction::Forward) => from = report_key(last.next()),
            (None, _) => {}
        }
        let rows = self.scan(REPORT, (from, to), direction, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let id = KeyReader::new(key).number().ok_or_else(|| REPORT.corrupt())?;
                Ok((Stamp(id), REPORT.decode(value)?))
            })
            .collect()
    }
}

impl Changes {
    /// Stores a report. Its id is the stamp that this takes.
    pub fn put_report(&mut self, report: &ReportRecord) {
        let nth = self.stamp();
        let key = REPORT.key();
        let hole = Hole { at: u32::try_from(key.len()).unwrap_or(u32::MAX), nth };
        let key = Stamped { bytes: key.number(0).build(), holes: vec![hole] };
        self.put_raw(REPORT, key, codec::encode(report).into());
    }

    /// Removes a report that has been dealt with.
    pub fn clear_report(&mut self, id: Stamp) {
        self.clear(REPORT, report_key(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::owned_user_id;
    use std::sync::Arc;
    use store::MemoryEngine;

    #[tokio::test]
    async fn reports_are_listed_page_by_page_both_ways() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        for n in 0..3 {
            let mut changes = records.changes(&records.view());
            changes.put_report(&ReportRecord {
                reporter: owned_user_id!("@a:x"),
                reported: Reported::User { user_id: owned_user_id!("@b:x") },
                reason: n.to_string(),
                at: UnixMillis(n),
            });
            records.commit(changes).await.unwrap();
        }
        let page = |beyond, direction, rows| -> Vec<(Stamp, String)> {
            let reports = records.view().reports(beyond, direction, rows).unwrap();
            reports.into_iter().map(|(id, report)| (id, report.reason)).collect()
        };
        let newest = page(None, Direction::Backward, 2);
        assert_eq!(newest.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>(), ["2", "1"]);
        assert_eq!(page(Some(newest[1].0), Direction::Backward, 2)[0].1, "0");
        let oldest = page(None, Direction::Forward, 1);
        assert_eq!(page(Some(oldest[0].0), Direction::Forward, 9).len(), 2);
        assert_eq!(records.view().report(oldest[0].0).unwrap().unwrap().at, UnixMillis(0));
        let mut changes = records.changes(&records.view());
        changes.clear_report(oldest[0].0);
        records.commit(changes).await.unwrap();
        assert_eq!(page(None, Direction::Backward, 9), newest);
    }
}
