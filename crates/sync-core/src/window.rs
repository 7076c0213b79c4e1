//! Which events of a timeline a sync shows, and whether it leaves a gap.

use base::Order;
use std::ops::ControlFlow;

/// How many events of a room are shown if the filter does not say.
pub const TIMELINE_DEFAULT: usize = 10;
/// The most events of a room that are shown, whatever the filter says.
pub const TIMELINE_MAX: usize = 500;
/// The most events that one room is searched for those that the filter lets through. What lies beyond is left
/// to pagination.
pub const SEARCHED_MAX: usize = 2_000;

/// A piece of a timeline, up to where the sync goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window<T> {
    /// The events, oldest first.
    pub events: Vec<T>,
    /// The place before the first of them, or the end of the timeline if there is none: where pagination
    /// goes on backwards (`prev_batch`), and where the state that comes with the window is taken.
    pub start: Order,
    /// Whether events that the client should see are missing between what it has seen and `start`.
    pub limited: bool,
    /// Whether events after `start` were left out that may have changed the state, because the filter or the
    /// room's history visibility keeps them from the client.
    pub skipped: bool,
}

/// Builds a [`Window`] from events offered newest first.
#[derive(Debug)]
pub struct WindowBuilder<T> {
    events_max: usize,
    events: Vec<T>,
    start: Order,
    limited: bool,
    skipped: bool,
    searched: usize,
}

impl<T> WindowBuilder<T> {
    /// A window of at most `events_max` events that ends at `up_to`.
    #[must_use]
    pub fn new(events_max: usize, up_to: Order) -> Self {
        Self { events_max, events: Vec::new(), start: up_to, limited: false, skipped: false, searched: 0 }
    }

    /// Offers the next older event: `None` for one that the client does not see and that may have changed the state. Says whether to go on.
    pub fn offer(&mut self, order: Order, event: Option<T>) -> ControlFlow<()> {
        self.searched += 1;
        match event {
            Some(_) if self.events.len() >= self.events_max => {
                self.limited = true;
                return ControlFlow::Break(());
            }
            Some(event) => {
                self.events.push(event);
                self.start = Order(order.0.saturating_sub(1));
            }
            None => self.skipped = true,
        }
        self.go_on()
    }

    /// Passes over the next older event, which the client does not see and which changes nothing of the state.
    /// Says whether to go on.
    pub fn pass(&mut self) -> ControlFlow<()> {
        self.searched += 1;
        self.go_on()
    }

    fn go_on(&mut self) -> ControlFlow<()> {
        if self.searched >= SEARCHED_MAX {
            // There may be nothing more to see, but only pagination will find out.
            self.limited = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// How many more events are worth reading at once: enough to fill the window and see the gap.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let missing = self.events_max.saturating_sub(self.events.len()).saturating_add(1);
        // After a page that did not fill the window the filter is likely strict: read larger pages.
        missing.max(self.searched.min(256)).min(SEARCHED_MAX)
    }

    /// The window, when there are no more events to offer or none are wanted.
    #[must_use]
    pub fn build(mut self) -> Window<T> {
        self.events.reverse();
        Window { events: self.events, start: self.start, limited: self.limited, skipped: self.skipped }
    }
}

/// How many events a filter's `limit` stands for.
#[must_use]
pub fn events_max(limit: Option<u64>) -> usize {
    limit.map_or(TIMELINE_DEFAULT, |limit| usize::try_from(limit).unwrap_or(usize::MAX).min(TIMELINE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The window over events with the orders 1 and on, of which `seen` says what the client may see.
    fn window(seen: &[bool], events_max: usize) -> Window<i64> {
        let last = i64::try_from(seen.len()).unwrap();
        let mut builder = WindowBuilder::new(events_max, Order(last));
        for (order, seen) in (1..=last).rev().zip(seen.iter().rev()) {
            if builder.offer(Order(order), seen.then_some(order)).is_break() {
                break;
            }
        }
        builder.build()
    }

    #[test]
    fn all_that_is_new_fits_and_leaves_no_gap() {
        let expected = Window { events: vec![1, 2, 3], start: Order(0), limited: false, skipped: false };
        assert_eq!(window(&[true; 3], 3), expected);
    }

    #[test]
    fn one_event_too_many_makes_a_gap_that_starts_before_the_first_shown() {
        let expected = Window { events: vec![2, 3], start: Order(1), limited: true, skipped: false };
        assert_eq!(window(&[true; 3], 2), expected);
    }

    #[test]
    fn what_the_client_may_not_see_makes_no_gap() {
        let expected = Window { events: vec![2, 3], start: Order(1), limited: false, skipped: true };
        assert_eq!(window(&[false, true, true], 2), expected);
        let expected = Window { events: vec![], start: Order(2), limited: false, skipped: true };
        assert_eq!(window(&[false, false], 2), expected);
    }

    #[test]
    fn what_is_passed_over_leaves_no_trace() {
        let mut builder = WindowBuilder::new(5, Order(3));
        assert!(builder.offer(Order(3), Some(3)).is_continue() && builder.pass().is_continue());
        let expected = Window { events: vec![3], start: Order(2), limited: false, skipped: false };
        assert_eq!(builder.build(), expected);
    }

    #[test]
    fn a_limit_of_nothing_shows_nothing_and_says_so() {
        let expected = Window { events: vec![], start: Order(1), limited: true, skipped: false };
        assert_eq!(window(&[true], 0), expected);
        assert!(!window(&[], 0).limited);
    }

    #[test]
    fn the_search_ends_somewhere() {
        let window = window(&[false; SEARCHED_MAX + 5], 1);
        assert!(window.limited && window.events.is_empty());
    }

    #[test]
    fn limits_have_a_default_and_a_maximum() {
        assert_eq!(events_max(None), TIMELINE_DEFAULT);
        assert_eq!(events_max(Some(3)), 3);
        assert_eq!(events_max(Some(u64::MAX)), TIMELINE_MAX);
    }

    proptest! {
        #[test]
        fn a_window_and_the_pages_before_it_are_everything_that_is_seen(
            seen in proptest::collection::vec(any::<bool>(), 0..60),
            events_max in 0_usize..20,
        ) {
            let window = window(&seen, events_max);
            let all = (1_i64..).zip(&seen).filter(|(_, seen)| **seen).map(|(order, _)| order);
            let (before, shown): (Vec<_>, Vec<_>) = all.partition(|order| Order(*order) <= window.start);
            prop_assert_eq!(&window.events, &shown);
            prop_assert!(window.events.len() <= events_max);
            prop_assert_eq!(window.limited, !before.is_empty());
        }
    }
}
