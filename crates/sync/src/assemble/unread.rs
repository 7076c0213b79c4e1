//! What a user has not read of a room.

use super::{Candidate, Context, Field};
use crate::SyncError;
use crate::counts::{Counts, RoomCounts};
use crate::json::{push_name, push_number};
use base::Stamp;
use rooms::RoomReader;

/// The counts of a room.
#[derive(Default)]
pub struct UnreadSection {
    /// The fields, if they may be of interest at all.
    pub fields: Vec<Field>,
    /// Whether they are reason enough to tell of the room.
    pub is_news: bool,
}

impl Context<'_> {
    /// What the user has not read of a room that they are in.
    pub(crate) fn counts(&self, reader: &RoomReader) -> Result<RoomCounts, SyncError> {
        let reading = match self.reading.get() {
            Some(reading) => reading,
            None => {
                let reading = self.inner.reading(&self.view, self.user())?;
                self.reading.get_or_init(|| reading)
            }
        };
        reading.counts(self.inner, reader)
    }

    /// The counts of a joined room, which the client knows as they were at `known`.
    pub(super) fn unread(
        &self,
        reader: &RoomReader,
        candidate: &Candidate,
        known: Option<Stamp>,
    ) -> Result<UnreadSection, SyncError> {
        if known.is_some() && !candidate.news.events && !candidate.news.receipts {
            return Ok(UnreadSection::default());
        }
        let counts = self.counts(reader)?;
        // Who wants nothing of timelines is not woken by what is in them.
        let is_wanted = !self.filter.timeline.matches_nothing();
        let is_news = known.is_none_or(|known| counts.since > known && is_wanted);
        let own = if self.filter.unread_threads { counts.main } else { counts.total() };
        let mut fields = vec![("unread_notifications", counts_json(own))];
        if self.filter.unread_threads && !counts.threads.is_empty() {
            let mut threads = String::from("{");
            for (root, counts) in &counts.threads {
                push_name(&mut threads, root.as_str());
                threads.push_str(&counts_json(*counts));
            }
            threads.push('}');
            fields.push(("unread_thread_notifications", threads));
        }
        Ok(UnreadSection { fields, is_news })
    }
}

fn counts_json(counts: Counts) -> String {
    let mut out = String::from("{");
    push_name(&mut out, "notification_count");
    push_number(&mut out, counts.notifications);
    push_name(&mut out, "highlight_count");
    push_number(&mut out, counts.highlights);
    out.push('}');
    out
}
