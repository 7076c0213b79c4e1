//! Reading the published room directory, page by page.

use crate::{RoomError, Rooms};
use records::{Listed, ListedPlace};
use store::Direction;

/// How many searches go through the directory at the same time; more wait for their turn.
pub(crate) const SEARCHES_AT_ONCE: usize = 2;
/// How many rooms one search looks at. Beyond, the client asks for the next page.
const SEARCHED_MAX: usize = 100_000;

/// Which rooms of the directory are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFilter {
    /// What their name, topic or alias has somewhere in it, in lower case; anything if it is empty.
    pub term: String,
    /// Their types, `None` for that of ordinary rooms. Any type if there is no list.
    pub room_types: Option<Vec<Option<String>>>,
}

impl ListFilter {
    fn wants(&self, text: &str, room_type: Option<&str>) -> bool {
        let is_of_type = |types: &Vec<Option<String>>| types.iter().any(|wanted| wanted.as_deref() == room_type);
        self.room_types.as_ref().is_none_or(is_of_type) && text.contains(&self.term)
    }
}

impl Rooms {
    /// A page of the directory: the rooms beyond a place that a filter lets through. A page without a filter costs
    /// what it shows; one with a filter goes through the directory, on a thread of its own, until it is full.
    pub async fn listed(
        &self,
        beyond: Option<ListedPlace>,
        direction: Direction,
        rooms_max: usize,
        filter: Option<ListFilter>,
    ) -> Result<Listed, RoomError> {
        let view = self.records().view();
        let Some(filter) = filter else {
            return Ok(view.listed(beyond.as_ref(), direction, rooms_max, rooms_max + 1, |_, _| true)?);
        };
        drop(view);
        let _turn = self.0.searches.clone().acquire_owned().await.map_err(RoomError::internal)?;
        let view = self.records().view();
        let search = move || {
            let wants = |text: &str, room_type: Option<&str>| filter.wants(text, room_type);
            view.listed(beyond.as_ref(), direction, rooms_max, SEARCHED_MAX, wants)
        };
        Ok(tokio::task::spawn_blocking(search).await.map_err(RoomError::internal)??)
    }
}
