//! What suspended users may not do (client-server API, "Account suspension"): say anything to anybody, come to where
//! they are not, change how they appear, or bring files. The rest is theirs: reading, leaving, taking back their own
//! words, their devices and keys, ending their account.
//!
//! What of others they may not redact is seen where events are redacted.

use crate::ApiError;
use http::Method;

/// Whether suspended users may use the endpoint at this path.
pub(crate) fn may_ask(method: &Method, path: &str) -> bool {
    let after_version = |prefix: &str| path.strip_prefix(prefix).and_then(|path| path.split_once('/'));
    if let Some((_, path)) = after_version("/_matrix/media/") {
        return *method == Method::GET || path == "config";
    }
    let Some((_, path)) = after_version("/_matrix/client/") else { return true };
    // What is not in the specification, or was not once, has the name of its proposal before the path.
    let path = path.split_once('/').filter(|(name, _)| name.contains('.')).map_or(path, |(_, rest)| rest);
    let segments: Vec<&str> = path.split('/').collect();
    match method.as_str() {
        "POST" => !matches!(
            *segments,
            ["createRoom"]
                | ["join" | "knock", _]
                | ["rooms", _, "join" | "invite" | "kick" | "ban" | "unban" | "upgrade"]
                | ["media", ..]
        ),
        "PUT" => match *segments {
            ["rooms", _, "send" | "delayed_event", kind, _] => kind == "m.room.redaction",
            ["rooms", _, "state", ..] | ["profile" | "directory" | "media", ..] => false,
            _ => true,
        },
        "DELETE" => !matches!(*segments, ["profile" | "directory", ..]),
        _ => true,
    }
}

/// What suspended users are told.
pub(crate) fn refused() -> ApiError {
    ApiError::user_suspended("your account is suspended: you may not do this")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suspended_may_read_and_leave_and_take_back_but_not_speak() {
        let may = |method: &str, path: &str| may_ask(&method.parse().unwrap(), &format!("/_matrix/{path}"));
        for (method, path) in [
            ("GET", "client/v3/sync"),
            ("POST", "client/v3/rooms/!r:x/leave"),
            ("PUT", "client/v3/rooms/!r:x/redact/$e/1"),
            ("PUT", "client/v3/rooms/!r:x/send/m.room.redaction/1"),
            ("PUT", "client/v3/room_keys/keys"),
            ("PUT", "client/v3/sendToDevice/m.key.verification.start/1"),
            ("POST", "client/v3/keys/upload"),
            ("POST", "client/v3/account/deactivate"),
            ("DELETE", "client/v3/devices/D"),
            ("GET", "media/v3/download/x/y"),
            ("PUT", "client/unstable/io.element.msc4306/rooms/!r:x/thread/$e/subscription"),
        ] {
            assert!(may(method, path), "{method} {path}");
        }
        for (method, path) in [
            ("POST", "client/v3/createRoom"),
            ("POST", "client/r0/join/!r:x"),
            ("POST", "client/v3/knock/!r:x"),
            ("POST", "client/v3/rooms/!r:x/join"),
            ("POST", "client/v3/rooms/!r:x/invite"),
            ("PUT", "client/v3/rooms/!r:x/send/m.room.message/1"),
            ("PUT", "client/v3/rooms/!r:x/state/m.room.topic/"),
            ("PUT", "client/v3/profile/@u:x/displayname"),
            ("DELETE", "client/v3/profile/@u:x/avatar_url"),
            ("PUT", "client/v3/directory/room/%23a:x"),
            ("PUT", "client/unstable/org.matrix.msc4140/rooms/!r:x/delayed_event/m.room.message/1"),
            ("PUT", "client/unstable/uk.tcpip.msc4133/profile/@u:x/displayname"),
            ("POST", "client/unstable/xyz.amorgan.knock/knock/!r:x"),
            ("POST", "media/v3/upload"),
        ] {
            assert!(!may(method, path), "{method} {path}");
        }
    }
}
