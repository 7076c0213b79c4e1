//! How a face tells the binary which endpoint answered.

use std::sync::Arc;

/// The template of the path that a request matched, such as `/_matrix/client/v3/rooms/{room_id}/leave`. A
/// face puts it into the extensions of its responses, and the metrics count by it; the path itself would be
/// a label without bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route(pub Arc<str>);
