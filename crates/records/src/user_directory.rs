//! The user directory: by which words users are found.

use crate::codec::RecordsError;
use crate::tables::{FOUND_USER, FOUND_WORD};
use crate::{Changes, View};
use base::limits::SCAN_ROWS_MAX;
use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use store::Direction;
use store::key::{KeyReader, after_prefix};

/// What the user directory knows of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundUser {
    /// How they are called.
    pub display_name: Option<String>,
    /// Their picture's `mxc:` URI.
    pub avatar_url: Option<String>,
    /// The words by which they are found.
    pub words: BTreeSet<String>,
}

/// Which words are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// This one.
    Equal,
    /// This one, and those that begin with it.
    BeginWith,
}

/// A page of the users who have a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsersByWord {
    /// The users.
    pub users: Vec<OwnedUserId>,
    /// Where the next page begins; nowhere if this one is empty.
    pub last: Option<Vec<u8>>,
}

fn user_key(user: &UserId) -> Vec<u8> {
    FOUND_USER.key().text(user.as_str()).build()
}

fn word_key(word: &str, user: &UserId) -> Vec<u8> {
    FOUND_WORD.key().text(word).text(user.as_str()).build()
}

impl View {
    /// What the user directory knows of a user; nothing of those who are not in it.
    pub fn found_user(&self, user: &UserId) -> Result<Option<FoundUser>, RecordsError> {
        self.get(FOUND_USER, &user_key(user))
    }

    /// What the user directory knows of many users, in their order.
    pub fn found_users(&self, users: &[OwnedUserId]) -> Result<Vec<Option<FoundUser>>, RecordsError> {
        let keys: Vec<_> = users.iter().map(|user| user_key(user)).collect();
        let values = self.get_many(FOUND_USER, &keys)?;
        values.iter().map(|value| value.as_deref().map(|bytes| FOUND_USER.decode(bytes)).transpose()).collect()
    }

    /// The users who have a word, in the order of the words and then of their ids, at most `rows_max` of them.
    /// Who has several that fit comes several times.
    pub fn users_by_word(&self, word: &str, words: Words, rows_max: usize) -> Result<Vec<OwnedUserId>, RecordsError> {
        let (mut users, mut after) = (Vec::new(), None);
        // A scan has a limit of its own.
        while users.len() < rows_max {
            let wanted = (rows_max - users.len()).min(SCAN_ROWS_MAX);
            let page = self.users_by_word_after(word, words, after.as_deref(), wanted)?;
            let is_last = page.users.len() < wanted;
            users.extend(page.users);
            after = page.last;
            if is_last || after.is_none() {
                break;
            }
        }
        Ok(users)
    }

    /// The same from after a row on, which is the last of another page.
    pub fn users_by_word_after(
        &self,
        word: &str,
        words: Words,
        after: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<UsersByWord, RecordsError> {
        let (mut from, to) = match words {
            Words::Equal => FOUND_WORD.key().text(word).prefix_range(),
            Words::BeginWith => {
                let from = FOUND_WORD.key().fixed(word.as_bytes()).build();
                let to = after_prefix(&from);
                (from, to)
            }
        };
        if let Some(after) = after {
            from = [after, &[0]].concat();
        }
        let rows = self.scan(FOUND_WORD, (from, to), Direction::Forward, rows_max)?;
        let user = |key: &[u8]| {
            let mut reader = KeyReader::new(key);
            let user = reader.text().and_then(|_| reader.text());
            user.and_then(|user| user.try_into().ok()).ok_or_else(|| FOUND_WORD.corrupt())
        };
        let users = rows.iter().map(|(key, _)| user(key)).collect::<Result<_, _>>()?;
        Ok(UsersByWord { users, last: rows.into_iter().last().map(|(key, _)| key) })
    }
}

impl Changes {
    /// Puts a user into the user directory, as it is to know them from now on, or takes them out.
    pub fn put_found_user(&mut self, user: &UserId, found: Option<&FoundUser>) -> Result<(), RecordsError> {
        let key = user_key(user);
        let before: Option<FoundUser> = self.get(FOUND_USER, &key)?;
        if before.as_ref() == found {
            return Ok(());
        }
        self.expect_unchanged(FOUND_USER, key.clone())?;
        let (before, none) = (before.unwrap_or_default(), BTreeSet::new());
        let words = found.map_or(&none, |found| &found.words);
        for gone in before.words.difference(words) {
            self.clear(FOUND_WORD, word_key(gone, user));
        }
        for new in words.difference(&before.words) {
            self.put(FOUND_WORD, word_key(new, user), &());
        }
        match found {
            Some(found) => self.put(FOUND_USER, key, found),
            None => self.clear(FOUND_USER, key),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use std::sync::Arc;
    use store::MemoryEngine;

    async fn put(records: &Records, user: &str, words: Option<&[&str]>) {
        let mut changes = records.changes(&records.view());
        let found = words.map(|words| FoundUser {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            ..FoundUser::default()
        });
        changes.put_found_user(user.try_into().unwrap(), found.as_ref()).unwrap();
        records.commit(changes).await.unwrap();
    }

    fn find(records: &Records, word: &str, words: Words) -> Vec<String> {
        let found = records.view().users_by_word(word, words, 10).unwrap();
        found.into_iter().map(|user| user.localpart().to_owned()).collect()
    }

    #[tokio::test]
    async fn users_are_found_by_their_words_and_what_these_begin_with() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        put(&records, "@a:x", Some(&["ivan", "petrov"])).await;
        put(&records, "@b:x", Some(&["ivanka", "ivan"])).await;
        put(&records, "@c:x", Some(&["iv"])).await;
        assert_eq!(find(&records, "ivan", Words::Equal), ["a", "b"]);
        assert_eq!(find(&records, "ivan", Words::BeginWith), ["b", "a", "b"]);
        assert_eq!(find(&records, "iv", Words::BeginWith).len(), 4);
        assert_eq!(find(&records, "van", Words::BeginWith), [""; 0]);
        put(&records, "@a:x", Some(&["petrov", "oleg"])).await;
        assert_eq!(find(&records, "ivan", Words::Equal), ["b"]);
        assert_eq!(find(&records, "oleg", Words::Equal), ["a"]);
        put(&records, "@a:x", None).await;
        assert_eq!(find(&records, "petrov", Words::BeginWith), [""; 0]);
        assert_eq!(records.view().found_user("@a:x".try_into().unwrap()).unwrap(), None);
    }
}
