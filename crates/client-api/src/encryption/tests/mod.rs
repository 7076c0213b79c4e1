//! The endpoints of end-to-end encryption, through the real router.

mod to_device;

use crate::testing::{Server, User};
use serde_json::Value;

impl Server {
    /// A sync that does not wait.
    async fn sync_since(&self, user: &User, since: Option<&Value>) -> Value {
        let since = since.map(|before| format!("&since={}", before["next_batch"].as_str().unwrap()));
        let path = format!("/_matrix/client/v3/sync?timeout=0{}", since.unwrap_or_default());
        self.get(&path, Some(&user.token)).await.ok()
    }
}
