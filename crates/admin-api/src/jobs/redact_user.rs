//! Redacting what a user has said, room by room, the newest first.

use crate::State;
use base::Order;
use face::ApiError;
use records::{Job, JobRecord, UserRedaction};
use rooms::{Draft, StoredEvent};
use ruma::RoomId;
use serde_json::json;
use serde_json::value::to_raw_value;
use std::sync::Arc;
use store::Direction;

/// How many events are looked at at once.
const EVENTS_AT_ONCE: usize = 256;
/// How many events that could not be redacted are named.
const NAMED_MAX: usize = 1000;

impl State {
    pub(super) async fn redact_user(
        self: &Arc<Self>,
        id: &str,
        record: &mut JobRecord,
        mut redaction: UserRedaction,
    ) -> Result<(), ApiError> {
        let by = if redaction.as_admin { record.by.clone() } else { redaction.user.clone() };
        while let Some(room_id) = redaction.rooms.last().cloned() {
            self.redact_in(&room_id, &by, &mut redaction).await?;
            redaction.rooms.pop();
            record.job = Job::RedactUser(redaction.clone());
            self.put_job(id, record).await?;
        }
        Ok(())
    }

    async fn redact_in(
        &self,
        room_id: &RoomId,
        by: &ruma::UserId,
        redaction: &mut UserRedaction,
    ) -> Result<(), ApiError> {
        let (mut up_to, mut left) = (Order(i64::MAX), redaction.limit);
        while left > 0 {
            let view = self.records.view();
            let Some(reader) = self.rooms.reader_by_id(&view, room_id)? else { return Ok(()) };
            let events = reader.timeline(Order(i64::MIN), up_to, Direction::Backward, EVENTS_AT_ONCE)?;
            let Some(last) = events.last() else { return Ok(()) };
            up_to = Order(last.order.0.saturating_sub(1));
            drop((reader, view));
            let is_meant = |event: &&Arc<StoredEvent>| {
                event.pdu.sender() == redaction.user
                    && event.record.redacted_by.is_none()
                    && event.pdu.state_key().is_none()
                    && event.pdu.kind_str() != "m.room.redaction"
            };
            let meant: Vec<_> = events.iter().filter(is_meant).cloned().collect();
            for event in meant {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                let content = redaction.reason.as_ref().map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
                let content = to_raw_value(&content).map_err(|error| ApiError::internal(&error))?;
                let draft = Draft {
                    redacts: Some(event.pdu.event_id().clone()),
                    ..Draft::message(by.to_owned(), "m.room.redaction", content)
                };
                if let Err(error) = self.rooms.send(room_id, draft, None).await
                    && redaction.failed.len() < NAMED_MAX
                {
                    redaction.failed.push((event.pdu.event_id().to_string(), error.to_string()));
                }
            }
        }
        Ok(())
    }
}
