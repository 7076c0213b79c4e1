//! The version of the layout.

use crate::codec::{self, RecordsError};
use crate::tables::SCHEMA;
use std::cmp::Ordering;
use store::{Batch, CommitError, Engine, Expect, StoreError, Write};

/// The layout that this program reads and writes.
pub const SCHEMA_VERSION: u32 = 3;

/// Why the records could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer Chancery wrote the store.
    #[error(
        "the data has schema version {found}, and this version of Chancery knows versions up to {SCHEMA_VERSION}: \
         run the version that wrote the data, or a newer one"
    )]
    Newer {
        /// The version of the data.
        found: u32,
    },
    /// An older Chancery wrote the store, in a layout that this one would misread.
    #[error(
        "the data has schema version {found}, and this version of Chancery reads only version {SCHEMA_VERSION}: \
         run the version that wrote the data"
    )]
    Older {
        /// The version of the data.
        found: u32,
    },
    /// The engine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine failed to commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The version itself is unreadable.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// Refuses any other layout, and marks an empty store with this one.
pub(crate) async fn check(engine: &dyn Engine) -> Result<(), OpenError> {
    let key = SCHEMA.key().build();
    if let Some(bytes) = engine.snapshot().get(SCHEMA.family, &key)? {
        let found: u32 = SCHEMA.decode(&bytes)?;
        return match found.cmp(&SCHEMA_VERSION) {
            Ordering::Less => Err(OpenError::Older { found }),
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(OpenError::Newer { found }),
        };
    }
    let batch = Batch {
        expects: vec![Expect { family: SCHEMA.family, key: key.clone(), value: None }],
        writes: vec![Write::Put {
            family: SCHEMA.family,
            key: key.into(),
            value: codec::encode(&SCHEMA_VERSION).into(),
        }],
        ..Batch::default()
    };
    match engine.commit(batch).await {
        Ok(_) | Err(CommitError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
