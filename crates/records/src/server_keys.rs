//! The keys of other servers.

use crate::codec::RecordsError;
use crate::tables::{SERVER_KEY, SERVER_KEYS};
use crate::{Changes, View};
use base::UnixMillis;
use ruma::ServerName;
use serde::{Deserialize, Serialize};
use store::Direction;
use store::key::KeyReader;

/// The most keys of one server that are read.
const KEYS_MAX: usize = 1000;

/// A public key of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeyRecord {
    /// The Ed25519 key.
    pub key: Vec<u8>,
    /// Until when what it signs is valid.
    pub valid_until: UnixMillis,
}

/// What another server has published of its keys, as it signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedKeysRecord {
    /// The JSON.
    pub json: String,
    /// When it came.
    pub fetched_at: UnixMillis,
    /// Until when it says that it is valid.
    pub valid_until: UnixMillis,
}

impl View {
    /// The keys of a server by their ids, old ones too.
    pub fn server_keys(&self, server: &ServerName) -> Result<Vec<(String, ServerKeyRecord)>, RecordsError> {
        let range = SERVER_KEY.key().text(server.as_str()).prefix_range();
        let rows = self.scan(SERVER_KEY, range, Direction::Forward, KEYS_MAX)?;
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let mut parts = KeyReader::new(key);
            let _server = parts.text();
            let key_id = parts.text().ok_or_else(|| SERVER_KEY.corrupt())?.to_owned();
            Ok((key_id, SERVER_KEY.decode(value)?))
        };
        rows.iter().map(read).collect()
    }

    /// What a server has published of its keys.
    pub fn published_keys(&self, server: &ServerName) -> Result<Option<PublishedKeysRecord>, RecordsError> {
        self.get(SERVER_KEYS, &SERVER_KEYS.key().text(server.as_str()).build())
    }
}

impl Changes {
    /// Keeps a key of a server.
    pub fn put_server_key(&mut self, server: &ServerName, key_id: &str, record: &ServerKeyRecord) {
        self.put(SERVER_KEY, SERVER_KEY.key().text(server.as_str()).text(key_id).build(), record);
    }

    /// Keeps what a server has published of its keys.
    pub fn put_published_keys(&mut self, server: &ServerName, record: &PublishedKeysRecord) {
        self.put(SERVER_KEYS, SERVER_KEYS.key().text(server.as_str()).build(), record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::server_name;
    use std::sync::Arc;
    use store::MemoryEngine;

    #[tokio::test]
    async fn keys_are_kept_by_server() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let record = |valid_until| ServerKeyRecord { key: vec![7; 32], valid_until: UnixMillis(valid_until) };
        let mut changes = records.changes(&records.view());
        changes.put_server_key(server_name!("a.example"), "ed25519:1", &record(1));
        changes.put_server_key(server_name!("a.example"), "ed25519:2", &record(2));
        changes.put_server_key(server_name!("a.example.org"), "ed25519:1", &record(3));
        records.commit(changes).await.unwrap();
        let found = records.view().server_keys(server_name!("a.example")).unwrap();
        assert_eq!(found, [("ed25519:1".to_owned(), record(1)), ("ed25519:2".to_owned(), record(2))]);
    }
}
