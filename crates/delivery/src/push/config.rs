//! The settings `[agency.push]`.

use base::config::{ByteSize, Checks};
use delivery_core::{Backoff, Limits};
use std::time::Duration;

base::config! {
    /// Push notifications: telling users' phones of messages through the push gateways of their apps.
    #[check = Config::check]
    pub struct Config {
        /// Whether gateways are told. Off, apps can still set pushers, which have no effect.
        pub enabled: bool = true,
        /// The host names of the gateways that may be told. Empty: any. An app whose gateway is not among them
        /// can't set a pusher.
        #[example = r#"["push.agency.example"]"#]
        pub gateways: Vec<String>,
        /// Whether gateways are told no more than the ids of an event and its room, whatever the app asks for.
        /// Apps that show messages fetch them then; other apps show that there is something.
        pub event_ids_only: bool = false,
        /// How long a gateway may take to answer.
        pub timeout: Duration = Duration::from_secs(10),
        /// How many requests one gateway gets at once.
        pub gateway_requests_max: usize = 32,
        /// How many requests there are at once, to all gateways together.
        pub requests_max: usize = 1024,
        /// How long it is waited after the first failure of a gateway. After each further one it is twice as long.
        pub retry_first: Duration = Duration::from_secs(5),
        /// How long it is waited at most.
        pub retry_max: Duration = Duration::from_mins(30),
        /// How old an event may be that a gateway is told of.
        pub give_up_after: Duration = Duration::from_hours(24),
        /// How much memory is kept for who in a room has pushers, so that it need not be looked up for each event.
        pub audience_memory: ByteSize = ByteSize::mib(32),
    }
}

/// How many events wait in memory for one pusher; what is beyond is read again when its turn comes.
const QUEUE_ITEMS_MAX: usize = 20;

impl Config {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        for (key, duration) in [
            ("timeout", self.timeout),
            ("retry_first", self.retry_first),
            ("retry_max", self.retry_max),
            ("give_up_after", self.give_up_after),
        ] {
            if duration.is_zero() {
                wrong.key(key, "must be longer than zero");
            }
        }
        for (key, number) in [("gateway_requests_max", self.gateway_requests_max), ("requests_max", self.requests_max)]
        {
            if number == 0 || number > 65_536 {
                wrong.key(key, "must be between 1 and 65536");
            }
        }
        if self.gateways.iter().any(|host| host.is_empty() || host.contains(['/', ':', ' '])) {
            wrong.key("gateways", "must be host names without scheme, port and path");
        }
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff { first: self.retry_first, max: self.retry_max }
    }

    /// Each push is a request of its own: a gateway is told of one event at a time.
    pub(super) fn limits() -> Limits {
        Limits { batch_items_max: 1, batch_weight_max: usize::MAX, queue_items_max: QUEUE_ITEMS_MAX }
    }
}
