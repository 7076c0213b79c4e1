//! Whose devices changed of those whom the user shares rooms with.

use super::{Candidate, Context};
use crate::SyncError;
use crate::device_lists::DeviceLists;
use crate::json::{push_name, push_text, separate};

impl Context<'_> {
    /// The `device_lists` section; none if there is nothing to tell. `candidates` are the rooms that something
    /// may have happened in.
    pub(super) fn device_lists(&self, candidates: &[Candidate]) -> Result<Option<String>, SyncError> {
        let Some(since) = self.since_stamp() else { return Ok(None) };
        let rooms = candidates.iter().filter(|candidate| candidate.news.members).map(|candidate| candidate.room);
        let lists = self.inner.device_lists_since(&self.view, self.user(), since, (&self.devices, self.own), rooms)?;
        if lists.is_empty() {
            return Ok(None);
        }
        Ok(Some(device_lists_json(&lists)))
    }
}

/// Whose devices changed, as the JSON of the section.
pub fn device_lists_json(lists: &DeviceLists) -> String {
    let mut out = String::from("{");
    for (name, users) in [("changed", &lists.changed), ("left", &lists.left)] {
        push_name(&mut out, name);
        out.push('[');
        for user in users {
            separate(&mut out);
            push_text(&mut out, user.as_str());
        }
        out.push(']');
    }
    out.push('}');
    out
}
