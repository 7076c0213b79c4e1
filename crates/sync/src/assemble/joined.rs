//! A room that the user is in.

use super::account_data::AccountData;
use super::state::Scope;
use super::timeline::{Seen, Sight};
use super::{Candidate, Context, push_fields};
use crate::SyncError;
use crate::json::push_events;
use rooms::RoomReader;
use sync_core::Window;

impl Context<'_> {
    /// What is told of a joined room; none if nothing happened there.
    pub(super) fn joined(
        &self,
        reader: &RoomReader,
        candidate: &Candidate,
        account_data: &AccountData,
    ) -> Result<Option<String>, SyncError> {
        // A room that the user has joined since is new to the client: all of it is told, as far back as the
        // history visibility lets them see.
        let since = match self.since_stamp() {
            Some(since) if self.was_joined(reader, candidate, since)? => Some(since),
            _ => None,
        };
        let is_all = since.is_none() || self.request.full_state;
        let window = match since {
            Some(since) if candidate.at <= since => {
                if candidate.news.events {
                    self.window(reader, Some(since), self.end(), Sight::All)?
                } else {
                    self.no_window()
                }
            }
            since => self.window(reader, since, self.end(), Sight::Visible)?,
        };
        let mut window = self.without_contradictions(reader, window, self.end())?;
        // What the client may still have of an earlier stay, or of a preview, does not go on here.
        window.limited |= since.is_none() && self.since_stamp().is_some();
        let has_news = is_all || window.limited || window.skipped || !window.events.is_empty();
        let summary =
            (is_all || (has_news && Self::members_changed(&window))).then(|| self.summary(reader)).transpose()?;
        let state = if has_news {
            let known = since.filter(|_| !is_all);
            let heroes = summary.as_ref().map(|summary| summary.heroes.as_slice()).unwrap_or_default();
            self.state(reader, &window, &Scope { known, end: self.end(), heroes })?
        } else {
            Vec::new()
        };
        // Nobody notes for a user what others read while the user was away.
        let look_for_receipts = candidate.news.receipts || since.is_none_or(|since| candidate.at > since);
        let ephemeral = self.ephemeral(reader, since, look_for_receipts)?;
        let account_data = self.room_account_data(account_data, reader.room_id(), since.is_none())?;
        let unread = self.unread(reader, candidate, since.filter(|_| !is_all))?;
        let is_empty = window.events.is_empty()
            && !window.limited
            && state.is_empty()
            && ephemeral.is_empty()
            && account_data.is_empty()
            && !unread.is_news;
        if is_empty && !is_all {
            return Ok(None);
        }

        let mut out = String::from("{");
        self.push_timeline(&mut out, reader, &window)?;
        let state = self.state_events(reader, &state)?;
        push_events(&mut out, self.request.state.name(), state.iter().map(String::as_str));
        push_events(&mut out, "ephemeral", ephemeral.iter().map(String::as_str));
        push_events(&mut out, "account_data", account_data.iter().map(String::as_str));
        if let Some(summary) = &summary {
            Self::push_summary(&mut out, reader, summary);
        }
        push_fields(&mut out, unread.fields);
        out.push('}');
        Ok(Some(out))
    }

    /// The window of a room in which no events are to be looked for.
    fn no_window(&self) -> Window<Seen> {
        Window { events: Vec::new(), start: self.end(), limited: false, skipped: false }
    }
}
