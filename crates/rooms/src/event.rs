//! Events as readers get them: parsed once, shared by a bounded cache.

use crate::RoomError;
use base::{EventNum, Order, Stamp};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use records::{EventRecord, View};
use rules::Pdu;
use ruma::room_version_rules::RoomVersionRules;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An event and what its room knows of it.
#[derive(Debug)]
pub struct StoredEvent {
    /// Its number.
    pub num: EventNum,
    /// Its place in the timeline; 0 if it is in none.
    pub order: Order,
    /// What the room knows of it. The `json` is empty here: it is the [`Pdu`]'s.
    pub record: EventRecord,
    /// The event.
    pub pdu: Arc<Pdu>,
    /// The count of its room's changes of relations when nothing related to the event; 0 if that is not known.
    unrelated_at: AtomicU64,
}

impl StoredEvent {
    pub(crate) fn new(num: EventNum, order: Order, mut record: EventRecord, pdu: Arc<Pdu>) -> Self {
        record.json = String::new();
        Self { num, order, record, pdu, unrelated_at: AtomicU64::new(0) }
    }

    /// Whether it is known that nothing related to the event when its room had this count of changes of relations.
    pub(crate) fn is_unrelated_at(&self, relations: u64) -> bool {
        relations == 0 || self.unrelated_at.load(Ordering::Relaxed) == relations
    }

    /// Nothing related to the event when its room had this count of changes of relations.
    pub(crate) fn set_unrelated_at(&self, relations: u64) {
        self.unrelated_at.store(relations, Ordering::Relaxed);
    }

    fn parse(
        num: EventNum,
        order: Order,
        mut record: EventRecord,
        rules: &RoomVersionRules,
    ) -> Result<Self, RoomError> {
        let rejected = record.status == records::EventStatus::Rejected;
        let json = std::mem::take(&mut record.json);
        let pdu = Pdu::parse_stored(record.event_id.clone(), json, rules, rejected).map_err(RoomError::internal)?;
        Ok(Self::new(num, order, record, Arc::new(pdu)))
    }
}

/// Weighs an event by the memory that it takes: its JSON and the parsed fields.
#[derive(Clone)]
struct Bytes;

impl Weighter<EventNum, Arc<StoredEvent>> for Bytes {
    fn weight(&self, _: &EventNum, event: &Arc<StoredEvent>) -> u64 {
        const FIELDS: u64 = 1024;
        FIELDS + event.pdu.json().len() as u64
    }
}

/// The events that were used last, in bounded memory.
pub(crate) struct Events {
    cache: Cache<EventNum, Arc<StoredEvent>, Bytes>,
    /// The stamp of the last redaction. Views from before it may show what was redacted, so what they read
    /// is not kept.
    redacted_at: AtomicU64,
}

impl Events {
    pub fn new(bytes_max: u64) -> Self {
        // An estimate only: the weight is what bounds the cache.
        let items = usize::try_from(bytes_max / 2048).unwrap_or(usize::MAX).max(16);
        Self { cache: Cache::with_weighter(items, bytes_max, Bytes), redacted_at: AtomicU64::new(0) }
    }

    /// Events by number, in their order. Those that don't exist are left out.
    pub fn get(
        &self,
        view: &View,
        rules: &RoomVersionRules,
        nums: &[EventNum],
    ) -> Result<Vec<Arc<StoredEvent>>, RoomError> {
        let mut found: Vec<Option<Arc<StoredEvent>>> = nums.iter().map(|num| self.cache.get(num)).collect();
        let unknown: Vec<EventNum> =
            nums.iter().zip(&found).filter(|(_, event)| event.is_none()).map(|(num, _)| *num).collect();
        if !unknown.is_empty() {
            let mut read = view.events(&unknown)?.into_iter().zip(&unknown);
            for place in found.iter_mut().filter(|place| place.is_none()) {
                let Some((Some((order, record)), num)) = read.next() else { continue };
                let event = Arc::new(StoredEvent::parse(*num, order, record, rules)?);
                self.keep(view.stamp(), &event);
                *place = Some(event);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// An event by number.
    pub fn get_one(
        &self,
        view: &View,
        rules: &RoomVersionRules,
        num: EventNum,
    ) -> Result<Option<Arc<StoredEvent>>, RoomError> {
        Ok(self.get(view, rules, &[num])?.pop())
    }

    /// Keeps an event that was just committed.
    pub fn put(&self, event: Arc<StoredEvent>) {
        self.cache.insert(event.num, event);
    }

    /// Forgets an event that was redacted at `stamp`.
    pub fn redact(&self, stamp: Stamp, num: EventNum) {
        self.redacted_at.fetch_max(stamp.0, Ordering::SeqCst);
        self.cache.remove(&num);
    }

    fn keep(&self, read_at: Stamp, event: &Arc<StoredEvent>) {
        self.cache.insert(event.num, event.clone());
        // Looked at after the insertion: a redaction in between either is seen here, or comes after the
        // insertion and removes the event itself.
        if self.redacted_at.load(Ordering::SeqCst) > read_at.0 {
            self.cache.remove(&event.num);
        }
    }
}
