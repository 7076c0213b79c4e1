//! How far each follower of the log has come.

use crate::codec::RecordsError;
use crate::tables::FOLLOWER;
use crate::{Changes, View};
use base::Stamp;
use store::Direction;

/// How many followers there may be.
const FOLLOWERS_MAX: usize = 1_000;

impl Changes {
    /// Notes that a follower has done everything up to this stamp. In the batch with what it has made of it, so that
    /// each entry of the log takes effect once.
    pub fn set_follower(&mut self, name: &str, up_to: Stamp) {
        self.put(FOLLOWER, FOLLOWER.key().number(0).text(name).build(), &up_to);
    }

    /// Forgets a follower, so that the log is not kept for it any more.
    pub fn forget_follower(&mut self, name: &str) {
        self.clear(FOLLOWER, FOLLOWER.key().number(0).text(name).build());
    }
}

impl View {
    /// Up to which stamp a follower has done everything; `None` for one that has never begun. Its next entries are
    /// those of [`View::log`] after that stamp.
    pub fn follower(&self, name: &str) -> Result<Option<Stamp>, RecordsError> {
        self.get(FOLLOWER, &FOLLOWER.key().number(0).text(name).build())
    }

    /// How far the follower that is furthest behind has come: after that, the log is still needed.
    pub fn slowest_follower(&self) -> Result<Option<Stamp>, RecordsError> {
        let range = FOLLOWER.key().number(0).prefix_range();
        let rows = self.scan(FOLLOWER, range, Direction::Forward, FOLLOWERS_MAX)?;
        let mut stamps = rows.iter().map(|(_, value)| FOLLOWER.decode(value));
        stamps.try_fold(None, |slowest: Option<Stamp>, stamp| {
            let stamp: Stamp = stamp?;
            Ok(Some(slowest.map_or(stamp, |slowest| slowest.min(stamp))))
        })
    }
}
