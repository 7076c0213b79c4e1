//! Which members a lazy-loading client was sent already (client-server API, "Lazy-loading room members").

use base::{EventNum, Stamp};
use std::collections::VecDeque;

/// The most membership events that are remembered for a device. An older one is sent again, which the
/// specification allows.
pub const SENT_MEMBERS_MAX: usize = 256;

/// The membership events that one device was sent, the newest of them.
///
/// A membership event is remembered with the stamp of the response that carried it. It counts as known only to
/// a client that comes back with that stamp or a later one: if the response was lost, it is sent again.
#[derive(Clone, Debug, Default)]
pub struct SentMembers {
    sent: VecDeque<(EventNum, Stamp)>,
}

impl SentMembers {
    /// Whether a client that has seen everything up to `since` knows this membership event.
    #[must_use]
    pub fn knows(&self, member: EventNum, since: Option<Stamp>) -> bool {
        since.is_some_and(|since| self.sent.iter().any(|(sent, at)| *sent == member && *at <= since))
    }

    /// Remembers that the response with the token `at` carries this membership event.
    pub fn sent(&mut self, member: EventNum, at: Stamp) {
        // An earlier response that carried it may be the one that arrives: both count.
        if self.sent.iter().any(|(sent, before)| *sent == member && *before == at) {
            return;
        }
        if self.sent.len() >= SENT_MEMBERS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((member, at));
    }

    /// Forgets everything: the client starts anew.
    pub fn clear(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_once_the_response_arrived() {
        let mut sent = SentMembers::default();
        sent.sent(EventNum(1), Stamp(10));
        assert!(!sent.knows(EventNum(1), Some(Stamp(9))), "the response was lost, and the client asks again");
        assert!(sent.knows(EventNum(1), Some(Stamp(10))));
        assert!(!sent.knows(EventNum(2), Some(Stamp(10))));
        assert!(!sent.knows(EventNum(1), None));
    }

    #[test]
    fn sending_a_member_again_does_not_make_it_unknown() {
        let mut sent = SentMembers::default();
        sent.sent(EventNum(1), Stamp(10));
        sent.sent(EventNum(1), Stamp(20));
        assert!(sent.knows(EventNum(1), Some(Stamp(15))));
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut sent = SentMembers::default();
        for num in 0..=SENT_MEMBERS_MAX as u64 {
            sent.sent(EventNum(num), Stamp(1));
        }
        assert!(!sent.knows(EventNum(0), Some(Stamp(1))));
        assert!(sent.knows(EventNum(1), Some(Stamp(1))));
        sent.clear();
        assert!(!sent.knows(EventNum(1), Some(Stamp(1))));
    }
}
