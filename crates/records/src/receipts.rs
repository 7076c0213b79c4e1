//! Receipts: up to where each user has read each room.

use crate::codec::{self, RecordsError};
use crate::tables::{RECEIPT, RECEIPT_BY_STAMP};
use crate::{Changes, View};
use base::{Order, RoomNum, Stamp, UnixMillis};
use ruma::{OwnedEventId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use store::key::{KeyBuilder, KeyReader};
use store::{Direction, Hole, Stamped};

/// The most receipts of one user in one room that are read at once.
const OWN_RECEIPTS_MAX: usize = 100;

/// Who gets to see a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReceiptKind {
    /// All members (`m.read`).
    Public,
    /// Only the user whose it is (`m.read.private`).
    Private,
}

impl ReceiptKind {
    fn byte(self) -> u8 {
        match self {
            Self::Public => 1,
            Self::Private => 2,
        }
    }
}

/// What tells one receipt of a room from another: each has one event at a time (client-server API, "Receipts").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReceiptKey {
    /// Whose.
    pub user: OwnedUserId,
    /// Who sees it.
    pub kind: ReceiptKind,
    /// The thread, `main` or a root's event id; none for a receipt that is for the whole room. Not empty.
    pub thread: Option<String>,
}

/// Where a receipt is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// The event up to which was read.
    pub event_id: OwnedEventId,
    /// Its place in the timeline.
    pub order: Order,
    /// When the receipt was given.
    pub at: UnixMillis,
}

fn receipt_key(room: RoomNum, key: &ReceiptKey) -> Vec<u8> {
    let start = RECEIPT.key().number(room.0).text(key.user.as_str()).byte(key.kind.byte());
    // No thread has an empty name, so the receipt of the whole room can't be taken for one of a thread.
    start.text(key.thread.as_deref().unwrap_or_default()).build()
}

/// What comes before the stamp: private receipts are kept apart by user, so that nobody else reads past them.
fn by_stamp(room: RoomNum, kind: ReceiptKind, user: &UserId) -> KeyBuilder {
    let key = RECEIPT_BY_STAMP.key().number(room.0).byte(kind.byte());
    match kind {
        ReceiptKind::Public => key,
        ReceiptKind::Private => key.text(user.as_str()),
    }
}

impl View {
    /// Where a receipt is, and since which stamp.
    pub fn receipt(&self, room: RoomNum, key: &ReceiptKey) -> Result<Option<(Stamp, ReceiptRecord)>, RecordsError> {
        self.get_stamped(RECEIPT, &receipt_key(room, key))
    }

    /// The receipts of a room that moved after a stamp and that `reader` may see: all public ones and their
    /// own private ones, of each the newest `rows_max`, newest first.
    pub fn receipts_after(
        &self,
        room: RoomNum,
        reader: &UserId,
        after: Stamp,
        rows_max: usize,
    ) -> Result<Vec<(Stamp, ReceiptKey, ReceiptRecord)>, RecordsError> {
        let mut receipts = Vec::new();
        for kind in [ReceiptKind::Public, ReceiptKind::Private] {
            let (_, to) = by_stamp(room, kind, reader).prefix_range();
            let from = by_stamp(room, kind, reader).number(after.next().0).build();
            for (key, value) in self.scan(RECEIPT_BY_STAMP, (from, to), Direction::Backward, rows_max)? {
                let mut parts = KeyReader::new(&key);
                let _room_and_kind = (parts.number(), parts.byte());
                if kind == ReceiptKind::Private {
                    let _reader = parts.text();
                }
                let stamp = parts.number().ok_or_else(|| RECEIPT_BY_STAMP.corrupt())?;
                let (key, record) = RECEIPT_BY_STAMP.decode(&value)?;
                receipts.push((Stamp(stamp), key, record));
            }
        }
        Ok(receipts)
    }
}

impl View {
    /// The receipts of one user in a room, those of threads included, at most `OWN_RECEIPTS_MAX`.
    pub fn receipts_of(
        &self,
        room: RoomNum,
        user: &UserId,
    ) -> Result<Vec<(Stamp, ReceiptKey, ReceiptRecord)>, RecordsError> {
        let range = RECEIPT.key().number(room.0).text(user.as_str()).prefix_range();
        let rows = self.scan(RECEIPT, range, Direction::Forward, OWN_RECEIPTS_MAX)?;
        rows.iter()
            .map(|(key, value)| {
                let mut parts = KeyReader::new(key);
                let _room_and_user = (parts.number(), parts.text().is_some());
                let kind = match parts.byte() {
                    Some(1) => ReceiptKind::Public,
                    Some(2) => ReceiptKind::Private,
                    _ => return Err(RECEIPT.corrupt()),
                };
                let thread = parts.text().filter(|thread| !thread.is_empty()).map(ToOwned::to_owned);
                let (stamp, record) = RECEIPT.decode_stamped(value)?;
                Ok((stamp, ReceiptKey { user: user.to_owned(), kind, thread }, record))
            })
            .collect()
    }
}

impl Changes {
    /// Moves a receipt, at a stamp of these changes, on condition that it is still where the view shows it.
    pub fn put_receipt(
        &mut self,
        nth: u16,
        room: RoomNum,
        key: &ReceiptKey,
        record: &ReceiptRecord,
    ) -> Result<(), RecordsError> {
        let row = receipt_key(room, key);
        if let Some((before, _)) = self.view().receipt(room, key)? {
            self.clear(RECEIPT_BY_STAMP, by_stamp(room, key.kind, &key.user).number(before.0).build());
        }
        self.expect_unchanged(RECEIPT, row.clone())?;
        self.put_stamped(RECEIPT, row, nth, record);
        let index = by_stamp(room, key.kind, &key.user);
        let at = u32::try_from(index.len()).unwrap_or(u32::MAX);
        let index = Stamped { bytes: index.number(0).build(), holes: vec![Hole { at, nth }] };
        self.put_raw(RECEIPT_BY_STAMP, index, codec::encode(&(key, record)).into());
        self.put_read(nth, room, key, record.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{EventId, user_id};
    use std::sync::Arc;
    use store::{CommitError, MemoryEngine, Stamps};

    const ROOM: RoomNum = RoomNum(1);

    async fn records() -> Records {
        Records::open(Arc::new(MemoryEngine::new())).await.unwrap()
    }

    fn key(user: &str, kind: ReceiptKind, thread: Option<&str>) -> ReceiptKey {
        ReceiptKey { user: user.try_into().unwrap(), kind, thread: thread.map(ToOwned::to_owned) }
    }

    fn at(order: i64) -> ReceiptRecord {
        ReceiptRecord {
            event_id: EventId::parse(format!("$e{order}")).unwrap(),
            order: Order(order),
            at: UnixMillis(7),
        }
    }

    async fn put(records: &Records, view: &View, key: &ReceiptKey, order: i64) -> Result<Stamps, CommitError> {
        let mut changes = records.changes(view);
        let nth = changes.stamp();
        changes.put_receipt(nth, ROOM, key, &at(order)).unwrap();
        records.commit(changes).await
    }

    fn orders(records: &Records, reader: &str, after: Stamp) -> Vec<i64> {
        let reader: OwnedUserId = reader.try_into().unwrap();
        let receipts = records.view().receipts_after(ROOM, &reader, after, 100).unwrap();
        receipts.iter().map(|(_, _, record)| record.order.0).collect()
    }

    #[tokio::test]
    async fn only_the_newest_of_each_receipt_is_kept() {
        let records = records().await;
        let main = key("@a:a.example", ReceiptKind::Public, Some("main"));
        let whole = key("@a:a.example", ReceiptKind::Public, None);
        put(&records, &records.view(), &main, 1).await.unwrap();
        put(&records, &records.view(), &whole, 2).await.unwrap();
        let stamps = put(&records, &records.view(), &main, 3).await.unwrap();
        assert_eq!(orders(&records, "@b:a.example", Stamp(0)), [3, 2]);
        assert_eq!(records.view().receipt(ROOM, &main).unwrap(), Some((stamps.first, at(3))));
        assert_eq!(orders(&records, "@b:a.example", Stamp(stamps.first.0 - 1)), [3]);
        assert_eq!(orders(&records, "@b:a.example", stamps.first), [0; 0]);
    }

    #[tokio::test]
    async fn a_private_receipt_is_for_its_user_only() {
        let records = records().await;
        put(&records, &records.view(), &key("@a:a.example", ReceiptKind::Private, None), 1).await.unwrap();
        put(&records, &records.view(), &key("@b:a.example", ReceiptKind::Private, None), 2).await.unwrap();
        put(&records, &records.view(), &key("@b:a.example", ReceiptKind::Public, None), 3).await.unwrap();
        assert_eq!(orders(&records, "@a:a.example", Stamp(0)), [3, 1]);
        assert_eq!(orders(&records, "@b:a.example", Stamp(0)), [3, 2]);
        assert_eq!(orders(&records, "@c:a.example", Stamp(0)), [3]);
    }

    #[tokio::test]
    async fn of_two_devices_that_move_a_receipt_at_once_one_is_told() {
        let records = records().await;
        let view = records.view();
        let key = key("@a:a.example", ReceiptKind::Public, None);
        put(&records, &view, &key, 1).await.unwrap();
        assert!(matches!(put(&records, &view, &key, 2).await, Err(CommitError::Conflict)));
        assert_eq!(orders(&records, user_id!("@a:a.example").as_str(), Stamp(0)), [1]);
    }
}
