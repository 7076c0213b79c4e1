//! A transaction: what a server is told at once.

use super::Item;
use super::destination::Volatile;
use super::edus::receipt_edus;
use crate::ask::Path;
use crate::{BackOff, Call, Federation, FederationError, PeerError};
use base::Stamp;
use bytes::Bytes;
use http::Method;
use ruma::{OwnedEventId, ServerName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// How long a server may take for a transaction.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[derive(Serialize)]
struct Transaction<'a> {
    origin: &'a ServerName,
    origin_server_ts: u64,
    pdus: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    edus: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    pdus: BTreeMap<OwnedEventId, Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    error: Option<String>,
}

impl Federation {
    /// Sends a transaction. Its id follows from what is in it, so that the other server knows one that comes again.
    pub(super) async fn transact(
        &self,
        server: &ServerName,
        batch: &[(Stamp, Item)],
        volatile: Volatile,
    ) -> Result<(), PeerError> {
        let internal = |error: FederationError| PeerError::Unreachable(error.to_string());
        let (pdus, mut edus) = self.contents(server, batch).map_err(internal)?;
        edus.extend(volatile.into_values());
        if pdus.is_empty() && edus.is_empty() {
            return Ok(());
        }
        let mut hasher = DefaultHasher::new();
        for text in pdus.iter().chain(&edus) {
            text.get().hash(&mut hasher);
        }
        let stamps = (batch.first().map_or(0, |(stamp, _)| stamp.0), batch.last().map_or(0, |(stamp, _)| stamp.0));
        let txn_id = format!("{}-{}-{:016x}", stamps.0, stamps.1, hasher.finish());
        let transaction =
            Transaction { origin: self.server_name(), origin_server_ts: self.0.clock.now().0, pdus, edus };
        let body = serde_json::to_vec(&transaction).map_err(|error| PeerError::Unreachable(error.to_string()))?;
        let call = Call {
            method: Method::PUT,
            path_and_query: Path::new("/_matrix/federation/v1/send").segment(&txn_id).text(),
            body: Some(Bytes::from(body)),
            timeout: TIMEOUT,
            body_bytes_max: ANSWER_BYTES_MAX,
            back_off: BackOff::Ignore,
        };
        let answer = tokio::time::timeout(TIMEOUT, self.0.peers.send(server, call)).await;
        let answer = answer.map_err(|_| PeerError::Unreachable("no answer in time".to_owned()))??;
        // A server that answers something else has the transaction all the same.
        let answer: Answer = serde_json::from_slice(&answer).unwrap_or(Answer { pdus: BTreeMap::new() });
        for (event_id, outcome) in answer.pdus {
            if let Some(error) = outcome.error {
                tracing::info!(%server, %event_id, %error, "a server has not taken in an event");
            }
        }
        Ok(())
    }

    /// The events of a batch, and what else there is.
    #[expect(clippy::type_complexity, reason = "events and the rest")]
    fn contents(
        &self,
        server: &ServerName,
        batch: &[(Stamp, Item)],
    ) -> Result<(Vec<Box<RawValue>>, Vec<Box<RawValue>>), FederationError> {
        let view = self.0.records.view();
        let (mut pdus, mut edus) = (Vec::new(), Vec::new());
        for (stamp, item) in batch {
            match item {
                Item::Event(num) => {
                    let Some((_, record)) = view.event(*num)? else { continue };
                    pdus.extend(RawValue::from_string(record.json).ok());
                }
                Item::Receipt { room, user } => edus.extend(receipt_edus(&view, *stamp, *room, user)?),
                Item::Devices(user) => edus.extend(self.device_edus(&view, *stamp, user)?),
                Item::Messages => {
                    let waiting = view.outgoing_edus(server, Stamp(stamp.0.saturating_sub(1)), 100)?;
                    let of_stamp = waiting.into_iter().take_while(|(at, _)| at == stamp);
                    edus.extend(of_stamp.filter_map(|(_, edu)| RawValue::from_string(edu).ok()));
                }
            }
        }
        Ok((pdus, edus))
    }

    /// Removes the messages to devices that a server has got with a batch.
    pub(super) async fn clear_messages(
        &self,
        server: &ServerName,
        batch: &[(Stamp, Item)],
    ) -> Result<(), FederationError> {
        let last = batch.iter().rev().find(|(_, item)| *item == Item::Messages);
        let Some((last, _)) = last else { return Ok(()) };
        let mut changes = self.0.records.changes(&self.0.records.view());
        changes.clear_outgoing_edus(server, *last);
        changes.derived();
        self.0.records.commit(changes).await?;
        Ok(())
    }
}
