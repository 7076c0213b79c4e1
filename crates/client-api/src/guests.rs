//! What guests may ask (client-server API, "Guest Access"): nothing but what is listed there.

use http::Method;

/// Whether guests may use the endpoint at this path, whose session is required.
pub(crate) fn may_ask(method: &Method, path: &str) -> bool {
    // After the prefix comes the version.
    let Some((_, path)) = path.strip_prefix("/_matrix/client/").and_then(|path| path.split_once('/')) else {
        return false;
    };
    let segments: Vec<&str> = path.split('/').collect();
    if let ["org.matrix.msc4140", rest @ ..] = &*segments {
        // "Guest accounts": all of it.
        return matches!(rest, ["delayed_events", ..] | ["rooms", _, "delayed_event", ..]);
    }
    match method.as_str() {
        "GET" => matches!(
            *segments,
            ["sync" | "events" | "devices" | "capabilities"]
                | ["rooms", _, "messages" | "members" | "initialSync" | "state"]
                | ["rooms", _, "state" | "context" | "event", _]
                | ["rooms", _, "state", _, _]
                | ["media", "download" | "thumbnail", ..]
                | ["account", "whoami"]
                // Whether they may is a setting.
                | ["voip", "turnServer"]
                | ["devices", _]
        ),
        "POST" => {
            matches!(*segments, ["rooms", _, "join" | "leave"] | ["join", _] | ["keys", "upload" | "query" | "claim"])
        }
        "PUT" => matches!(
            *segments,
            ["rooms", _, "send" | "state", _, _]
                | ["rooms", _, "state", _]
                | ["sendToDevice", _, _]
                | ["devices", _]
                | ["profile", _, "displayname"]
        ),
        "DELETE" => matches!(*segments, ["profile", _, "displayname"]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_may_ask_what_is_listed_and_nothing_else() {
        let may = |method: &str, path: &str| may_ask(&method.parse().unwrap(), &format!("/_matrix/client/{path}"));
        for (method, path) in [
            ("GET", "v3/sync"),
            ("GET", "r0/rooms/!r:x/state"),
            ("PUT", "v3/rooms/!r:x/state/m.room.topic/"),
            ("POST", "v3/rooms/!r:x/join"),
            ("PUT", "v3/profile/@g:x/displayname"),
            ("GET", "v1/media/download/x/y/name.png"),
            ("POST", "v3/keys/claim"),
        ] {
            assert!(may(method, path), "{method} {path}");
        }
        for (method, path) in [
            ("POST", "v3/sync"),
            ("POST", "v3/createRoom"),
            ("POST", "v3/rooms/!r:x/invite"),
            ("PUT", "v3/profile/@g:x/avatar_url"),
            ("POST", "v3/account/password"),
            ("DELETE", "v3/devices/D"),
            ("POST", "v3/rooms/!r:x/join/more"),
            ("GET", "sync"),
        ] {
            assert!(!may(method, path), "{method} {path}");
        }
        assert!(!may_ask(&Method::GET, "/_synapse/client/v3/sync"));
    }
}
