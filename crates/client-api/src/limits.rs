//! How often a user, or an address, may do what.
//!
//! Each limit is a token bucket: `burst` at once, refilled at `per_second`. A bucket is one number, the time at
//! which it is full again (the generic cell rate algorithm), so that one that is full needs no memory: the
//! buckets live in a cache of bounded size whose least used entries are the first to go.

use crate::session::{ClientAddress, Session};
use crate::{ApiError, State};
use base::Clock;
use quick_cache::sync::Cache;
use records::RateOverride;
use ruma::{OwnedUserId, UserId};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many buckets are remembered. At about 150 bytes each that is 15 MiB.
const BUCKETS_MAX: usize = 100_000;
/// How many pairs of an account and an address that it logged in from are remembered. At about 150 bytes each
/// that is 15 MiB.
const KNOWN_MAX: usize = 100_000;
/// How often one account may be tried by all addresses together from which it has not logged in lately. Looser
/// than the limit of one address, which nobody passes: it is for guesses from many at once.
const GUESSES: Rate = Rate::new(0.5, 100);

/// How often one address gets mails that somebody else may have asked for.
const MAILS: Rate = Rate::new(1.0 / 300.0, 5);

base::config! {
    /// A token bucket: so many at once, and so many a second in the long run.
    #[required]
    pub struct Rate {
        /// How many a second in the long run; 0.1 is one in ten seconds.
        #[example = "1.0"]
        pub per_second: f64,
        /// How many at once.
        #[example = "10"]
        pub burst: u32,
    }
}

impl Rate {
    /// A rate.
    #[must_use]
    pub const fn new(per_second: f64, burst: u32) -> Self {
        Self { per_second, burst }
    }

    /// The milliseconds in which one token is refilled.
    fn refill_ms(&self) -> f64 {
        if self.per_second > 0.0 { 1000.0 / self.per_second } else { f64::MAX }
    }
}

base::config! {
    /// How often clients may do what. Whoever does more gets 429 `M_LIMIT_EXCEEDED` and is told how long to
    /// wait.
    #[check = Limits::check]
    pub struct Limits {
        /// Whether there are limits at all. Turn them off for tests and benchmarks only.
        pub enabled: bool = true,
        /// Logins, by address, and password checks, by user.
        pub login: Rate = Rate::new(0.2, 10),
        /// Registrations, by address.
        pub registration: Rate = Rate::new(0.1, 5),
        /// Events sent, by user.
        pub message: Rate = Rate::new(10.0, 50),
        /// Joins and knocks, by user.
        pub join: Rate = Rate::new(0.5, 20),
        /// Invitations, by user.
        pub invite: Rate = Rate::new(0.5, 30),
        /// Reports of events, rooms and users to the administrators, by user.
        pub report: Rate = Rate::new(0.1, 10),
        /// Everything else that changes something or costs much, by user, or by address for those who are
        /// not logged in.
        pub other: Rate = Rate::new(20.0, 100),
    }
}

impl Limits {
    fn check(&self, wrong: &mut base::config::Checks<'_, '_>) {
        let rates = [
            ("login", &self.login),
            ("registration", &self.registration),
            ("message", &self.message),
            ("join", &self.join),
            ("invite", &self.invite),
            ("report", &self.report),
            ("other", &self.other),
        ];
        for (key, rate) in rates {
            if rate.per_second <= 0.0 || rate.burst == 0 {
                wrong.key(key, "must allow something: per_second above 0 and a burst of at least 1");
            }
        }
    }
}

/// What is limited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Logins and password checks.
    Login,
    /// Logins to an account from addresses that are new to it.
    Guess,
    /// Registrations.
    Registration,
    /// Events sent.
    Message,
    /// Joins and knocks.
    Join,
    /// Invitations.
    Invite,
    /// Reports.
    Report,
    /// Mails to an address.
    Mail,
    /// Everything else.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(OwnedUserId),
    Address(IpAddr),
    Mailbox(String),
}

/// Who did how much lately.
pub struct RateLimits {
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// When each bucket is full again, in milliseconds.
    buckets: Cache<(Class, Who), Arc<AtomicU64>>,
    /// From where each account has logged in lately.
    known: Cache<(OwnedUserId, IpAddr), ()>,
}

impl RateLimits {
    /// Nobody has done anything yet.
    #[must_use]
    pub fn new(limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        Self { limits: limits.clone(), clock, buckets: Cache::new(BUCKETS_MAX), known: Cache::new(KNOWN_MAX) }
    }

    pub(crate) fn user(&self, class: Class, user: &UserId) -> Result<(), ApiError> {
        self.take(class, || Who::User(user.to_owned()))
    }

    pub(crate) fn address(&self, class: Class, address: ClientAddress) -> Result<(), ApiError> {
        self.take(class, || Who::Address(network(address.0)))
    }

    /// Counts a mail to an address.
    pub(crate) fn mailbox(&self, address: &str) -> Result<(), ApiError> {
        self.take(Class::Mail, || Who::Mailbox(address.to_owned()))
    }

    /// Counts a try to log in to an account. Guessing elsewhere does not lock out who has logged in from their
    /// address before: then only the limit of the address counts.
    pub(crate) fn login(&self, user: &UserId, address: ClientAddress) -> Result<(), ApiError> {
        if self.known.get(&(user.to_owned(), network(address.0))).is_some() {
            return Ok(());
        }
        self.user(Class::Guess, user)
    }

    /// Notes that somebody has logged in.
    pub(crate) fn logged_in(&self, user: &UserId, address: ClientAddress) {
        self.known.insert((user.to_owned(), network(address.0)), ());
    }

    fn take(&self, class: Class, who: impl FnOnce() -> Who) -> Result<(), ApiError> {
        if !self.limits.enabled {
            return Ok(());
        }
        let rate = match class {
            Class::Login => &self.limits.login,
            Class::Guess => &GUESSES,
            Class::Registration => &self.limits.registration,
            Class::Message => &self.limits.message,
            Class::Join => &self.limits.join,
            Class::Invite => &self.limits.invite,
            Class::Report => &self.limits.report,
            Class::Mail => &MAILS,
            Class::Other => &self.limits.other,
        };
        self.take_at(class, rate, who)
    }

    /// Counts an event of a user for whom administrators have set another rate. One of 0 is no limit.
    fn overridden(&self, user: &UserId, rate: RateOverride) -> Result<(), ApiError> {
        if !self.limits.enabled || rate.per_second == 0 {
            return Ok(());
        }
        let rate = Rate::new(rate.per_second.into(), rate.burst.max(1));
        self.take_at(Class::Message, &rate, || Who::User(user.to_owned()))
    }

    fn take_at(&self, class: Class, rate: &Rate, who: impl FnOnce() -> Who) -> Result<(), ApiError> {
        let bucket = self.buckets.get_or_insert_with(&(class, who()), || Ok::<_, ApiError>(Arc::default()))?;
        let refill = millis(rate.refill_ms()).max(1);
        let depth = refill.saturating_mul(u64::from(rate.burst.saturating_sub(1)));
        let now = self.clock.now().0;
        let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now);
            (full_at - now <= depth).then(|| full_at.saturating_add(refill))
        });
        taken.map(|_| ()).map_err(|full_at| {
            ApiError::limit_exceeded(Duration::from_millis(full_at.saturating_sub(now).saturating_sub(depth)))
        })
    }
}

impl State {
    /// Counts something that a logged-in user does.
    pub(crate) fn limit(&self, class: Class, session: &Session) -> Result<(), ApiError> {
        match session.sanctions.rate {
            Some(rate) if class == Class::Message => self.limits.overridden(&session.user_id, rate),
            _ => self.limits.user(class, &session.user_id),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, which is meant")]
fn millis(millis: f64) -> u64 {
    millis as u64
}

/// Who is behind an address: a network of IPv6 is one household, whose hosts choose their own lower half.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{FakeClock, UnixMillis};

    fn limits(enabled: bool) -> (Arc<FakeClock>, RateLimits) {
        let clock = Arc::new(FakeClock::new(UnixMillis(1_000_000)));
        let limits = Limits { enabled, join: Rate::new(0.5, 3), ..Limits::default() };
        (clock.clone(), RateLimits::new(&limits, clock))
    }

    fn address(text: &str) -> ClientAddress {
        ClientAddress(text.parse().unwrap())
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (clock, limits) = limits(true);
        let take = || limits.address(Class::Join, address("10.0.0.1")).is_ok();
        assert!(take() && take() && take());
        assert!(!take());
        clock.advance(Duration::from_millis(1999));
        assert!(!take());
        clock.advance(Duration::from_millis(1));
        assert!(take());
        assert!(!take());
        clock.advance(Duration::from_hours(1));
        assert!(take() && take() && take());
        assert!(!take());
    }

    #[test]
    fn buckets_are_apart_by_class_and_by_who() {
        let (_, limits) = limits(true);
        for _ in 0..3 {
            limits.address(Class::Join, address("2001:db8:1:2:3::1")).unwrap();
        }
        assert!(limits.address(Class::Join, address("2001:db8:1:2:ffff::2")).is_err());
        assert!(limits.address(Class::Join, address("2001:db8:1:3::1")).is_ok());
        assert!(limits.address(Class::Invite, address("2001:db8:1:2:3::1")).is_ok());
        assert!(limits.user(Class::Join, "@a:b".try_into().unwrap()).is_ok());
    }

    #[test]
    fn administrators_give_a_user_another_rate_or_none() {
        let (_, limits) = limits(true);
        let user: &UserId = "@a:b".try_into().unwrap();
        let take = |per_second, burst| limits.overridden(user, RateOverride { per_second, burst }).is_ok();
        assert!((0..1000).all(|_| take(0, 0)));
        assert!(take(1, 2) && take(1, 2) && !take(1, 2));
    }

    #[test]
    fn one_switch_turns_all_limits_off() {
        let (_, limits) = limits(false);
        assert!((0..1000).all(|_| limits.address(Class::Login, address("10.0.0.1")).is_ok()));
    }
}
