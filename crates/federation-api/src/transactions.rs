//! `PUT /send/{txnId}`: what another server has to tell (server-server API, "Transactions").
//!
//! The transactions of one server are worked on one after the other, each once: who sends one again gets the answer
//! of the first time. The work goes on when the sender has given up waiting.

use crate::{Origin, State, edus};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Within;
use face::ApiError;
use face::wire::{Args, refuse_json};
use quick_cache::sync::Cache;
use ruma::OwnedServerName;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell, Semaphore};

/// How many events a transaction has at most, and how many messages of other kinds.
const PDUS_MAX: usize = 50;
const EDUS_MAX: usize = 100;
/// How many transactions it is remembered of what was answered.
const REMEMBERED_MAX: usize = 2_000;
/// Of how many servers the transactions are kept in turn.
const SERVERS_MAX: usize = 20_000;
/// How many servers' transactions are worked on at the same time.
const AT_ONCE: usize = 64;
/// The longest id of a transaction, in bytes.
const ID_BYTES_MAX: usize = 255;

/// The transactions that are under way, and those that have just been.
pub struct Transactions {
    /// What was answered, or will be.
    answers: Cache<(OwnedServerName, String), Arc<OnceCell<Value>>>,
    turns: Cache<OwnedServerName, Arc<Mutex<()>>>,
    places: Semaphore,
}

impl Default for Transactions {
    fn default() -> Self {
        let (answers, turns) = (Cache::new(REMEMBERED_MAX), Cache::new(SERVERS_MAX));
        Self { answers, turns, places: Semaphore::new(AT_ONCE) }
    }
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transactions")
    }
}

impl Transactions {
    fn answer(&self, key: (OwnedServerName, String)) -> Arc<OnceCell<Value>> {
        if let Some(answer) = self.answers.get(&key) {
            return answer;
        }
        let answer = Arc::<OnceCell<Value>>::default();
        self.answers.insert(key, answer.clone());
        answer
    }

    fn turn(&self, server: &OwnedServerName) -> Arc<Mutex<()>> {
        if let Some(turn) = self.turns.get(server) {
            return turn;
        }
        let turn = Arc::<Mutex<()>>::default();
        self.turns.insert(server.clone(), turn.clone());
        turn
    }
}

/// A transaction. What it says of its origin and time is not looked at.
#[derive(Deserialize)]
struct Transaction {
    pdus: Vec<Box<RawValue>>,
    #[serde(default)]
    edus: Vec<Box<RawValue>>,
}

/// Takes a transaction, and answers what became of each of its events.
pub(crate) async fn send(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((txn_id,)): Args<(String,)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    if txn_id.len() > ID_BYTES_MAX {
        return Err(ApiError::invalid_param("the transaction id is too long"));
    }
    let transaction: Transaction = serde_json::from_slice(&body).map_err(|error| refuse_json(&error))?;
    if transaction.pdus.len() > PDUS_MAX || transaction.edus.len() > EDUS_MAX {
        let message = format!("a transaction has at most {PDUS_MAX} PDUs and {EDUS_MAX} EDUs");
        return Err(ApiError::invalid_param(message));
    }
    let answer = state.transactions.answer((origin.0.clone(), txn_id));
    let work = async move {
        let answer = answer.get_or_init(|| async {
            let turn = state.transactions.turn(&origin.0);
            let _turn = turn.lock().await;
            // It is never closed.
            let _place = state.transactions.places.acquire().await;
            take_in(&state, &origin, transaction).await
        });
        answer.await.clone()
    };
    tokio::spawn(work).await.map(Json).map_err(|error| ApiError::internal(&error))
}

async fn take_in(state: &State, origin: &Origin, transaction: Transaction) -> Value {
    let Transaction { pdus, edus } = transaction;
    // Messages to devices have the keys of encrypted events: they don't wait for what those events miss.
    let (outcomes, ()) = futures::join!(state.federation.receive(origin, &pdus), edus::take_in(state, origin, &edus));
    let pdus = outcomes.into_iter().map(|(event_id, outcome)| {
        let outcome = match outcome {
            Ok(()) => json!({}),
            Err(error) => json!({ "error": error }),
        };
        (event_id.to_string(), outcome)
    });
    json!({ "pdus": pdus.collect::<Map<_, _>>() })
}
