//! Asking the index: which messages have the words that are looked for, in the order that is wanted, and how many.

use crate::index::{Opened, sender_hash};
use crate::scope::{Range, Scope};
use crate::terms::{Terms, all_of};
use crate::text::Key;
use base::{EventNum, Order, RoomNum};
use ruma::UserId;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;
use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::query::{BooleanQuery, ConstScoreQuery, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader, TantivyError};

/// With how many rooms these are a part of the query. With more, each hit is asked for its room.
const ROOMS_IN_QUERY_MAX: usize = 16;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// What fits best.
    Rank,
    /// What was sent last.
    Recent,
}

/// The place of a hit among all, the first having the greatest. It is the same in another search for the same, as
/// long as nothing new changes how well things fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64, pub u64);

/// Which messages are wanted, apart from their words and rooms.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// In which keys the words are looked for.
    pub keys: Vec<Key>,
    /// Whether they must have a `url`, or must have none.
    pub has_url: Option<bool>,
    senders: Option<HashSet<u64>>,
    /// Whose messages are left out, and whose state events are not.
    ignored: HashSet<u64>,
}

impl Wanted {
    /// Messages with words in these keys.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys, has_url: None, senders: None, ignored: HashSet::new() }
    }

    /// Those of these users only. It may let some of others through.
    #[must_use]
    pub fn sent_by<'a>(mut self, users: impl Iterator<Item = &'a UserId>) -> Self {
        self.senders = Some(users.map(sender_hash).collect());
        self
    }

    /// Messages of these users are not counted.
    #[must_use]
    pub fn ignoring<'a>(mut self, users: impl Iterator<Item = &'a UserId>) -> Self {
        self.ignored.extend(users.map(sender_hash));
        self
    }

    fn wants(&self, facts: u64, sender: u64) -> bool {
        let key = facts & 3;
        let has_url = facts & 4 != 0;
        self.keys.iter().any(|wanted| wanted.number() == key)
            && self.has_url.is_none_or(|wanted| wanted == has_url)
            && self.senders.as_ref().is_none_or(|senders| senders.contains(&sender))
            && !(key == Key::Body.number() && self.ignored.contains(&sender))
    }
}

/// A part of the hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(Part);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Room(u64),
    Sender(u64),
}

impl Group {
    /// Those in a room.
    #[must_use]
    pub fn room(room: RoomNum) -> Self {
        Self(Part::Room(room.0))
    }

    /// Those of a sender. There may be some of others among them.
    #[must_use]
    pub fn sender(sender: &UserId) -> Self {
        Self(Part::Sender(sender_hash(sender)))
    }
}

/// A search.
#[derive(Clone)]
pub struct Request {
    /// What is looked for.
    pub terms: Arc<Terms>,
    /// Where.
    pub scope: Arc<Scope>,
    /// Which messages are wanted.
    pub wanted: Arc<Wanted>,
    /// What comes first.
    pub ordering: Ordering,
    /// Only hits beyond this one.
    pub beyond: Option<Place>,
    /// Only those of this group.
    pub group: Option<Group>,
    /// How many hits are wanted.
    pub hits_max: usize,
    /// How many hits that the searcher may not be allowed to see are told for the sake of counting.
    pub doubtful_max: usize,
}

/// A message that has the words. Whether the searcher may see it is for others to say.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// Its place among the hits.
    pub place: Place,
    /// How well it fits: more is better.
    pub rank: f32,
    /// Its room.
    pub room: RoomNum,
    /// The message.
    pub event: EventNum,
    /// The edit of it that has the words.
    pub edit: Option<EventNum>,
}

impl PartialEq for Hit {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Hit {}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Hit {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    /// The first hits beyond the place that was asked for.
    pub hits: Vec<Hit>,
    /// How many messages there are, on all pages, that the searcher sees without doubt.
    pub certain: u64,
    /// The most recent of those that they may not be allowed to see, on all pages.
    pub doubtful: Vec<Hit>,
}

/// Asks the index.
pub(crate) fn ask(opened: &Opened, request: &Request) -> Result<Hits, TantivyError> {
    let fields = opened.fields;
    let Some(words) = all_of(request.terms.query(fields.words)) else { return Ok(Hits::default()) };
    let query = match request.scope.few(ROOMS_IN_QUERY_MAX) {
        Some(rooms) => {
            let of_room = |room: RoomNum| -> Box<dyn Query> {
                Box::new(TermQuery::new(fields.room_term(room), IndexRecordOption::Basic))
            };
            let rooms = BooleanQuery::union(rooms.map(of_room).collect());
            // The room says nothing of how well a message fits.
            let rooms: Box<dyn Query> = Box::new(ConstScoreQuery::new(Box::new(rooms), 0.0));
            Box::new(BooleanQuery::intersection(vec![words, rooms]))
        }
        None => words,
    };
    opened.reader.searcher().search(&query, &Collect { request: request.clone() })
}

/// The messages of which an edit is the text.
pub(crate) fn edited_by(opened: &Opened, edit: EventNum) -> Result<Vec<EventNum>, TantivyError> {
    let query = TermQuery::new(opened.fields.edit_term(edit), IndexRecordOption::Basic);
    let searcher = opened.reader.searcher();
    let found = searcher.search(&query, &tantivy::collector::DocSetCollector)?;
    let mut events = Vec::new();
    for address in found {
        let column = searcher.segment_reader(address.segment_ord).fast_fields().u64("event")?;
        events.extend(column.first(address.doc_id).map(EventNum));
    }
    Ok(events)
}

struct Collect {
    request: Request,
}

struct Segment {
    request: Request,
    columns: Columns,
    /// The room of the last hit, and the part of it in which is searched: hits of one room often follow each other.
    last: Option<(u64, Option<Range>)>,
    best: Best,
    certain: u64,
    doubtful: Best,
}

struct Columns {
    room: Column<u64>,
    event: Column<u64>,
    edit: Column<u64>,
    sender: Column<u64>,
    order: Column<i64>,
    when: Column<u64>,
    facts: Column<u64>,
}

impl Columns {
    fn of(segment: &SegmentReader) -> Result<Self, TantivyError> {
        let columns = segment.fast_fields();
        Ok(Self {
            room: columns.u64("room")?,
            event: columns.u64("event")?,
            edit: columns.u64("edit")?,
            sender: columns.u64("sender")?,
            order: columns.i64("order")?,
            when: columns.u64("when")?,
            facts: columns.u64("facts")?,
        })
    }
}

/// The greatest of many, in bounded memory.
struct Best {
    hits: BinaryHeap<Reverse<Hit>>,
    hits_max: usize,
}

impl Best {
    fn new(hits_max: usize) -> Self {
        Self { hits: BinaryHeap::new(), hits_max }
    }

    fn add(&mut self, hit: Hit) {
        if self.hits.len() < self.hits_max {
            self.hits.push(Reverse(hit));
        } else if let Some(mut least) = self.hits.peek_mut()
            && least.0 < hit
        {
            *least = Reverse(hit);
        }
    }

    fn sorted(self) -> Vec<Hit> {
        // The greatest come first, as they are reversed.
        self.hits.into_sorted_vec().into_iter().map(|Reverse(hit)| hit).collect()
    }
}

impl Collector for Collect {
    type Fruit = Hits;
    type Child = Segment;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> Result<Segment, TantivyError> {
        Ok(Segment {
            request: self.request.clone(),
            columns: Columns::of(segment)?,
            last: None,
            best: Best::new(self.request.hits_max),
            certain: 0,
            doubtful: Best::new(self.request.doubtful_max),
        })
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn merge_fruits(&self, segments: Vec<Hits>) -> Result<Hits, TantivyError> {
        let (mut best, mut doubtful) = (Best::new(self.request.hits_max), Best::new(self.request.doubtful_max));
        let mut certain = 0;
        for segment in segments {
            certain += segment.certain;
            segment.hits.into_iter().for_each(|hit| best.add(hit));
            segment.doubtful.into_iter().for_each(|hit| doubtful.add(hit));
        }
        Ok(Hits { hits: best.sorted(), certain, doubtful: doubtful.sorted() })
    }
}

impl SegmentCollector for Segment {
    type Fruit = Hits;

    fn collect(&mut self, doc: DocId, score: Score) {
        let Self { columns, request, .. } = self;
        let Some(room) = columns.room.first(doc) else { return };
        let range = match self.last {
            Some((last, range)) if last == room => range,
            _ => request.scope.range(RoomNum(room)),
        };
        self.last = Some((room, range));
        let Some(range) = range else { return };
        let number = |column: &Column<u64>| column.first(doc).unwrap_or_default();
        let order = Order(columns.order.first(doc).unwrap_or_default());
        let sender = number(&columns.sender);
        if order > range.up_to || !request.wanted.wants(number(&columns.facts), sender) {
            return;
        }
        let (event, when) = (number(&columns.event), number(&columns.when));
        let edit = columns.edit.first(doc).map(EventNum);
        let place = match request.ordering {
            // Of numbers above zero, the bits sort as the numbers do.
            Ordering::Rank => Place(u64::from(score.max(0.0).to_bits()), when),
            Ordering::Recent => Place(when, event),
        };
        let hit = Hit { place, rank: score, room: RoomNum(room), event: EventNum(event), edit };
        // Who has left may not have seen the edit, though it is of something that they saw.
        if range.is_certain(order) && (edit.is_none() || range.up_to == Order(i64::MAX)) {
            self.certain += 1;
        } else {
            self.doubtful.add(Hit { place: Place(when, event), ..hit });
        }
        let is_of_group = self.request.group.is_none_or(|group| match group.0 {
            Part::Room(wanted) => wanted == room,
            Part::Sender(wanted) => wanted == sender,
        });
        if is_of_group && self.request.beyond.is_none_or(|beyond| place < beyond) {
            self.best.add(hit);
        }
    }

    fn harvest(self) -> Hits {
        Hits { hits: self.best.sorted(), certain: self.certain, doubtful: self.doubtful.sorted() }
    }
}
