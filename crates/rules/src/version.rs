//! The room versions that this server takes part in, and the rules of each.
//!
//! Unstable and unknown versions have no rules here, whatever the library knows about them: a room of such
//! a version is refused at the door.

use ruma::RoomVersionId;
use ruma::room_version_rules::RoomVersionRules;

/// The version of a new room when nobody asks for another (client-server API, "Room versions").
pub const DEFAULT_ROOM_VERSION: RoomVersionId = RoomVersionId::V12;

/// Every supported version, oldest first.
pub const SUPPORTED: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The rules of `version`, or nothing if this server does not support it.
#[must_use]
pub fn room_rules(version: &RoomVersionId) -> Option<RoomVersionRules> {
    SUPPORTED.contains(version).then(|| version.rules()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_versions_1_to_12_have_rules() {
        for version in 1..=12 {
            let version = RoomVersionId::try_from(version.to_string()).unwrap();
            assert!(room_rules(&version).is_some(), "{version}");
        }
        for version in ["0", "13", "org.matrix.msc2870", "1.0", "V1"] {
            assert!(room_rules(&RoomVersionId::try_from(version).unwrap()).is_none(), "{version}");
        }
        assert!(SUPPORTED.contains(&DEFAULT_ROOM_VERSION));
    }
}
