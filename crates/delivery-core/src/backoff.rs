//! How long it is waited after a failure.

use std::time::Duration;

/// How long it is waited: so long after the first failure, and after each further one twice as long, up to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure, at most.
    pub first: Duration,
    /// At most ever.
    pub max: Duration,
}

/// Where in the range of possible times a retry falls, drawn anew each time: those who failed together should not
/// all come back together. Any number will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter(pub u16);

impl Backoff {
    /// How long to wait after this many failures in a row: between half and all of what they amount to.
    #[must_use]
    pub fn delay(&self, failures: u32, jitter: Jitter) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(31));
        let whole = self.first.saturating_mul(factor).min(self.max);
        let half = whole / 2;
        half + half.saturating_mul(u32::from(jitter.0)) / u32::from(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_limit_and_are_spread() {
        let backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_mins(1) };
        let late = Jitter(u16::MAX);
        let seconds: Vec<u64> = (1..=5).map(|failures| backoff.delay(failures, late).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 60, 60]);
        assert_eq!(backoff.delay(1, Jitter(0)), Duration::from_secs(5));
        assert_eq!(backoff.delay(u32::MAX, Jitter(0)), Duration::from_secs(30));
    }
}
