//! What clients need for calls: relays for those between two, and where conferences meet.

mod rtc;
mod turn;

use crate::State;
use crate::routes::Routes as _;
use axum::Router;
use axum::routing::get;
use base::Secret;
use base::config::Checks;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How short-lived credentials of a relay may be: a call outlives them only if the relay lets it.
const TTL_MIN: Duration = Duration::from_mins(1);

base::config! {
    /// What clients need for calls.
    pub struct Calls {
        /// The relay for calls between two who don't reach each other directly.
        pub turn: Turn,
        /// Where conferences meet (MatrixRTC), the preferred one first.
        pub transport: Vec<RtcTransport>,
    }
}

base::config! {
    /// The relay for calls between two who don't reach each other directly: a TURN server such as coturn. Without
    /// addresses, clients are told of none.
    #[check = Turn::check]
    pub struct Turn {
        /// Its addresses.
        #[example = r#"["turn:turn.agency.example:3478?transport=udp", "turns:turn.agency.example:5349?transport=tcp"]"#]
        pub uris: Vec<String>,
        /// The secret that it shares with this server (`static-auth-secret` of coturn): each user then gets
        /// credentials of their own that end by themselves.
        #[example = r#""a-long-random-secret""#]
        pub shared_secret: Option<Secret<String>>,
        /// Without a shared secret, the user name that everybody gets.
        #[example = r#""chancery""#]
        pub username: Option<String>,
        /// And the password.
        #[example = r#""a-long-random-password""#]
        pub password: Option<Secret<String>>,
        /// How long credentials are good for. Clients ask for new ones in time.
        pub ttl: Duration = Duration::from_hours(24),
        /// Whether guests get credentials too.
        pub guests: bool = false,
    }
}

base::config! {
    /// A place where conferences meet.
    #[check = RtcTransport::check]
    #[required]
    pub struct RtcTransport {
        /// The address of the service that lets Matrix users into LiveKit (lk-jwt-service).
        #[example = r#""https://rtc.agency.example""#]
        pub livekit_service_url: String,
    }
}

impl Calls {
    /// Where conferences meet, as clients are told (MSC4143, MSC4195).
    #[must_use]
    pub fn rtc_transports(&self) -> Vec<Value> {
        let transport = |transport: &RtcTransport| json!({ "type": "livekit", "livekit_service_url": transport.livekit_service_url });
        self.transport.iter().map(transport).collect()
    }
}

impl Turn {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        for uri in self.uris.iter().filter(|uri| !uri.starts_with("turn:") && !uri.starts_with("turns:")) {
            wrong.key("uris", format_args!("must be addresses that begin with \"turn:\" or \"turns:\", not \"{uri}\""));
        }
        if self.ttl < TTL_MIN {
            wrong.key("ttl", "must be at least \"1m\"");
        }
        let is_static = self.username.is_some() && self.password.is_some();
        if self.username.is_some() != self.password.is_some() {
            wrong.key("username", "and `password` belong together: set both or neither");
        } else if !self.uris.is_empty() && self.shared_secret.is_none() && !is_static {
            wrong.key("uris", "need credentials: set `shared_secret`, or `username` and `password`");
        }
    }
}

impl RtcTransport {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if !self.livekit_service_url.starts_with("https://") && !self.livekit_service_url.starts_with("http://") {
            wrong.key("livekit_service_url", "must be an address such as \"https://rtc.agency.example\"");
        }
    }
}

/// The endpoints of calls.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/voip/turnServer", get(turn::turn_server))
        .route("/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", get(rtc::transports))
}
