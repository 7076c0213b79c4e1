//! The index on the disk: its fields, how it is opened, and what is noted with each commit.
//!
//! It can always be made again from the rooms, so whatever is wrong with it, it is thrown away. No text is stored in
//! it, only which words are where.

use crate::text::Text;
use crate::words::analyzer;
use base::{EventNum, Order, RoomNum, Stamp, UnixMillis};
use ruma::UserId;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tantivy::directory::MmapDirectory;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, NumericOptions, Schema, SchemaBuilder, TextFieldIndexing, TextOptions,
};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, TantivyError, Term};

/// The version of what is indexed and how. An index of another one is made anew.
const FORMAT: u32 = 1;
/// What the index calls its analyzer.
const WORDS: &str = "words";
/// From which part of deleted messages on a segment is written anew.
const DELETED_PART_MAX: f32 = 0.1;
/// The largest segment that is merged with others, in messages.
const MERGED_DOCS_MAX: usize = 5_000_000;

/// Where an index is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In memory, for tests: it is made anew with each start.
    Memory,
    /// In a folder of its own.
    Folder(PathBuf),
}

/// What was done up to a commit of the index, noted with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The version of what is indexed.
    pub format: u32,
    /// Tells this index from one that was made for another store.
    pub id: String,
    /// Everything that the log says up to here is in the index.
    pub up_to: Stamp,
    /// While the index is made: how far that has come. Of what came up to [`Progress::up_to`], only what is before
    /// this is in it.
    pub building: Option<Building>,
}

/// How far the making of an index has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Building {
    /// The rooms before this one are done.
    pub room: RoomNum,
    /// Of it, the events up to here.
    pub order: Order,
}

impl Progress {
    /// An index that is to have what there is up to a stamp, and has nothing yet.
    pub fn begin(id: String, up_to: Stamp) -> Self {
        let building = Some(Building { room: RoomNum(0), order: Order(i64::MIN) });
        Self { format: FORMAT, id, up_to, building }
    }
}

/// The fields of the index. One message is one document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub words: Field,
    pub room: Field,
    pub event: Field,
    /// The edit whose text it is.
    pub edit: Field,
    /// [`sender_hash`].
    pub sender: Field,
    pub order: Field,
    /// [`when`].
    pub when: Field,
    /// [`facts`].
    pub facts: Field,
}

/// An index in use.
#[derive(Clone)]
pub(crate) struct Opened {
    pub index: Index,
    pub reader: IndexReader,
    pub fields: Fields,
}

/// A document to be.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub room: RoomNum,
    pub event: EventNum,
    pub edit: Option<EventNum>,
    pub sender: u64,
    pub order: Order,
    pub at: UnixMillis,
    pub text: Text,
}

impl Fields {
    fn schema() -> (Schema, Self) {
        let mut schema = SchemaBuilder::new();
        let words = TextFieldIndexing::default()
            .set_tokenizer(WORDS)
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let found: NumericOptions = (FAST | INDEXED).into();
        let known: NumericOptions = FAST.into();
        let fields = Self {
            words: schema.add_text_field("words", TextOptions::default().set_indexing_options(words)),
            room: schema.add_u64_field("room", found.clone()),
            event: schema.add_u64_field("event", found.clone()),
            edit: schema.add_u64_field("edit", found),
            sender: schema.add_u64_field("sender", known.clone()),
            order: schema.add_i64_field("order", known.clone()),
            when: schema.add_u64_field("when", known.clone()),
            facts: schema.add_u64_field("facts", known),
        };
        (schema.build(), fields)
    }

    pub fn document(&self, entry: &Entry) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_text(self.words, &entry.text.text);
        document.add_u64(self.room, entry.room.0);
        document.add_u64(self.event, entry.event.0);
        if let Some(edit) = entry.edit {
            document.add_u64(self.edit, edit.0);
        }
        document.add_u64(self.sender, entry.sender);
        document.add_i64(self.order, entry.order.0);
        document.add_u64(self.when, when(entry.at, entry.order));
        document.add_u64(self.facts, facts(&entry.text));
        document
    }

    pub fn event_term(&self, event: EventNum) -> Term {
        Term::from_field_u64(self.event, event.0)
    }

    pub fn edit_term(&self, edit: EventNum) -> Term {
        Term::from_field_u64(self.edit, edit.0)
    }

    pub fn room_term(&self, room: RoomNum) -> Term {
        Term::from_field_u64(self.room, room.0)
    }
}

/// A number by which messages of all rooms sort as they were sent: their time, and of one millisecond their place.
pub(crate) fn when(at: UnixMillis, order: Order) -> u64 {
    const PLACE_BITS: u32 = 20;
    let place = order.0.cast_unsigned() & ((1 << PLACE_BITS) - 1);
    (at.0.min(u64::MAX >> PLACE_BITS) << PLACE_BITS) | place
}

/// The key in which the text is, and whether there is a `url`.
fn facts(text: &Text) -> u64 {
    text.key.number() | (u64::from(text.has_url) << 2)
}

/// A hash that stands for a user: some may share one, so it only sorts out (FNV-1a).
pub(crate) fn sender_hash(user: &UserId) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    user.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Opened {
    /// The index that is there, and what it says of itself. None if there is none, or none that is of use.
    pub fn existing(place: &Place) -> Option<(Self, Progress)> {
        let Place::Folder(folder) = place else { return None };
        if !folder.join("meta.json").exists() {
            return None;
        }
        match Self::read(folder) {
            Ok(found) => Some(found),
            Err(reason) => {
                tracing::warn!(%reason, folder = %folder.display(), "the search index can't be used, and is made anew");
                None
            }
        }
    }

    fn read(folder: &Path) -> Result<(Self, Progress), String> {
        let text = |error: TantivyError| error.to_string();
        let directory = MmapDirectory::open(folder).map_err(|error| error.to_string())?;
        let index = Index::open(directory).map_err(text)?;
        let (schema, _) = Fields::schema();
        if index.schema() != schema {
            return Err("it has other fields".to_owned());
        }
        let payload = index.load_metas().map_err(text)?.payload.ok_or("it was never finished")?;
        let progress: Progress = serde_json::from_str(&payload).map_err(|error| error.to_string())?;
        if progress.format != FORMAT {
            return Err("it is of another version".to_owned());
        }
        let damaged = index.validate_checksum().map_err(text)?;
        if !damaged.is_empty() {
            return Err(format!("{} of its files are damaged", damaged.len()));
        }
        Ok((Self::with(index).map_err(text)?, progress))
    }

    /// A new index in place of whatever is there.
    pub fn create(place: &Place) -> Result<Self, TantivyError> {
        let (schema, _) = Fields::schema();
        let index = match place {
            Place::Memory => Index::create_in_ram(schema),
            Place::Folder(folder) => {
                if folder.exists() {
                    std::fs::remove_dir_all(folder)?;
                }
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                Index::create_in_dir(folder, schema)?
            }
        };
        Self::with(index)
    }

    fn with(index: Index) -> Result<Self, TantivyError> {
        index.tokenizers().register(WORDS, analyzer());
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let (_, fields) = Fields::schema();
        Ok(Self { index, reader, fields })
    }

    /// The one that may write into it, with so much memory.
    pub fn writer(&self, memory_bytes: usize) -> Result<IndexWriter, TantivyError> {
        let options =
            IndexWriterOptions::builder().memory_budget_per_thread(memory_bytes).num_worker_threads(1).build();
        let writer = self.index.writer_with_options(options)?;
        let mut policy = LogMergePolicy::default();
        policy.set_max_docs_before_merge(MERGED_DOCS_MAX);
        policy.set_del_docs_ratio_before_merge(DELETED_PART_MAX);
        writer.set_merge_policy(Box::new(policy));
        Ok(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::user_id;

    #[test]
    fn messages_sort_by_time_and_then_by_place() {
        let ordered = [(5, -7), (6, 1), (6, 2), (7, 1)].map(|(at, order)| when(UnixMillis(at), Order(order)));
        assert!(ordered.is_sorted());
        assert!(when(UnixMillis(u64::MAX), Order(i64::MAX)) > when(UnixMillis(1 << 42), Order(0)));
    }

    #[test]
    fn users_have_hashes_that_differ() {
        assert_ne!(sender_hash(user_id!("@a:b")), sender_hash(user_id!("@b:a")));
    }

    #[test]
    fn what_is_no_index_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().join("search"));
        assert!(Opened::existing(&place).is_none());
        Opened::create(&place).unwrap();
        assert!(Opened::existing(&place).is_none(), "it was never finished");
        std::fs::write(folder.path().join("search/meta.json"), "{").unwrap();
        assert!(Opened::existing(&place).is_none());
        Opened::create(&place).unwrap();
    }
}
