//! Account data: what the user has stored, for themselves and for rooms.

use super::Context;
use crate::SyncError;
use crate::json::{push_name, push_text};
use base::Stamp;
use records::AccountDatum;
use rules::filter::{Facts, Matcher};
use rules::push::PUSH_RULES;
use ruma::{OwnedRoomId, RoomId};
use std::collections::HashMap;

/// The account data that changed, or all of it.
#[derive(Default)]
pub struct AccountData {
    global: Vec<AccountDatum>,
    rooms: HashMap<OwnedRoomId, Vec<AccountDatum>>,
    is_all: bool,
}

impl AccountData {
    /// The rooms that there is some of.
    pub fn rooms(&self) -> impl Iterator<Item = &OwnedRoomId> {
        self.rooms.keys()
    }
}

impl Context<'_> {
    /// Reads the account data that changed.
    pub(super) fn account_data(&self) -> Result<AccountData, SyncError> {
        let data = match self.since_stamp() {
            None => kept(self.view.account_data_all(self.user())?),
            Some(_) if !self.own => Vec::new(),
            Some(since) => self.view.account_data_since(self.user(), since, self.token.stamp)?,
        };
        let mut account_data = AccountData { is_all: self.since.is_none(), ..AccountData::default() };
        for datum in data {
            match &datum.room_id {
                Some(room_id) => account_data.rooms.entry(room_id.clone()).or_default().push(datum),
                None => account_data.global.push(datum),
            }
        }
        Ok(account_data)
    }

    /// The events of the account data that belongs to no room.
    pub(super) fn global_account_data(&self, account_data: &AccountData) -> Result<Vec<String>, SyncError> {
        let mut events = self.account_data_events(&account_data.global, None, &self.filter.account_data);
        let has_rules = account_data.global.iter().any(|datum| datum.kind == PUSH_RULES);
        let facts = Facts { kind: PUSH_RULES, sender: None, room_id: None, has_url: false };
        if account_data.is_all && !has_rules && self.filter.account_data.matches(&facts) {
            // A user who never changed a rule has those of the specification ("Push Rules: Events").
            let rules = self.inner.push_rules(&self.view, self.user())?;
            events.push(event(PUSH_RULES, &rules.content()));
        }
        Ok(events)
    }

    /// The events of the account data that belongs to no room and was written after a stamp, or all of it.
    pub(crate) fn global_account_data_after(&self, after: Option<Stamp>) -> Result<Vec<String>, SyncError> {
        let global = match after {
            None => kept(self.view.account_data_of(self.user(), None)?),
            Some(_) if !self.own => Vec::new(),
            Some(after) => {
                let mut data = self.view.account_data_since(self.user(), after, self.token.stamp)?;
                data.retain(|datum| datum.room_id.is_none());
                data
            }
        };
        self.global_account_data(&AccountData { global, is_all: after.is_none(), ..AccountData::default() })
    }

    /// The events of a room's account data: what changed, or all of it for a room that is new to the client.
    pub(super) fn room_account_data(
        &self,
        account_data: &AccountData,
        room_id: &RoomId,
        is_new: bool,
    ) -> Result<Vec<String>, SyncError> {
        let matcher = &self.filter.room_account_data;
        if is_new && !account_data.is_all {
            let data = kept(self.view.account_data_of(self.user(), Some(room_id))?);
            return Ok(self.account_data_events(&data, Some(room_id), matcher));
        }
        let data = account_data.rooms.get(room_id).map(Vec::as_slice).unwrap_or_default();
        Ok(self.account_data_events(data, Some(room_id), matcher))
    }

    fn account_data_events(&self, data: &[AccountDatum], room_id: Option<&RoomId>, matcher: &Matcher) -> Vec<String> {
        let facts = |kind| Facts { kind, sender: None, room_id, has_url: false };
        data.iter()
            .filter(|datum| matcher.matches(&facts(&datum.kind)))
            .map(|datum| self.select_fields(event(&datum.kind, &datum.content)))
            .collect()
    }
}

/// What was not deleted: that concerns only those who have seen it.
fn kept(mut data: Vec<AccountDatum>) -> Vec<AccountDatum> {
    data.retain(|datum| !datum.is_deleted());
    data
}

/// Account data as an event.
pub fn account_data_event(datum: &AccountDatum) -> String {
    event(&datum.kind, &datum.content)
}

fn event(kind: &str, content: &str) -> String {
    let mut out = String::with_capacity(kind.len() + content.len() + 25);
    out.push('{');
    push_name(&mut out, "type");
    push_text(&mut out, kind);
    push_name(&mut out, "content");
    out.push_str(content);
    out.push('}');
    out
}
