//! The user directory: who is found by which words.
//!
//! Users are found by the words of their user id and of their display name, and by what these begin with. Names
//! that they have in single rooms are not in it. Who may find whom is the caller's to say.

use crate::{Accounts, Error};
use records::{Changes, FoundUser, Profile, View, Words};
use ruma::{OwnedUserId, UserId};
use std::collections::{BTreeSet, HashSet};

/// By how many words a user is found.
const WORDS_MAX: usize = 16;
/// The longest word, in bytes; longer ones are cut.
const WORD_BYTES_MAX: usize = 64;
/// How many words of a search count.
const SEARCH_WORDS_MAX: usize = 8;
/// How many rows of the index are read for one word: users who have it, or one that begins with it.
const ROWS_MAX: usize = 20_000;
/// How many are read at once while one word alone is looked for.
const PAGE: usize = 200;
/// Of how many users it is asked whether the asker may find them.
const ASKED_MAX: usize = 500;

/// Whom a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundUsers {
    /// The users; those who have the words as they are come first.
    pub users: Vec<(OwnedUserId, FoundUser)>,
    /// Whether there may be more.
    pub limited: bool,
}

/// What somebody types to find users: those who have all of its words, or such as begin with them.
#[derive(Clone, Debug)]
pub struct UserTerm {
    words: Vec<String>,
}

impl UserTerm {
    /// The words of a text. Of a user id, those of its localpart.
    #[must_use]
    pub fn of(term: &str) -> Self {
        let mut words: Vec<String> = split(searched(term)).take(SEARCH_WORDS_MAX).collect();
        words.sort_unstable();
        words.dedup();
        Self { words }
    }

    /// Whether nobody is looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether a user with these words is meant, and whether by words that are whole.
    #[must_use]
    pub fn fits(&self, words: &BTreeSet<String>) -> Option<Fit> {
        let begins = |word: &String| words.range(word.clone()..).next().is_some_and(|w| w.starts_with(word));
        if self.is_empty() || !self.words.iter().all(begins) {
            return None;
        }
        Some(if self.words.iter().all(|word| words.contains(word)) { Fit::Whole } else { Fit::Beginnings })
    }
}

/// How words fit. What fits better comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// All words are there as they are.
    Whole,
    /// All are there, or begin others.
    Beginnings,
}

/// The words by which a user is found.
#[must_use]
pub fn words_of(user: &UserId, display_name: Option<&str>) -> BTreeSet<String> {
    let names = [Some(user.localpart()), display_name];
    names.into_iter().flatten().flat_map(split).take(WORDS_MAX).collect()
}

impl Accounts {
    /// What the user directory knows of users of this server; nothing of those who are not in it.
    pub fn found_users(&self, users: &[OwnedUserId]) -> Result<Vec<Option<FoundUser>>, Error> {
        Ok(self.view().found_users(users)?)
    }

    /// Searches the user directory for users who are meant by a term, and whom `may_find` lets the asker find, at
    /// most `users_max`.
    ///
    /// Of one word that many have, only so many are read as are shown; of several, those who have the rarest are
    /// looked at. That goes wrong only where thousands have the rarest: then some are missed, and `limited` says so.
    pub fn find_users<E: From<Error>>(
        &self,
        term: &UserTerm,
        users_max: usize,
        mut may_find: impl FnMut(&UserId) -> Result<bool, E>,
    ) -> Result<FoundUsers, E> {
        let mut found = FoundUsers::default();
        let view = self.view();
        let mut candidates = Candidates::of(&view, term).map_err(Error::from)?;
        let (mut seen, mut asked) = (HashSet::new(), 0);
        loop {
            let page = candidates.page(&view).map_err(Error::from)?;
            if page.is_empty() {
                found.limited = candidates.is_cut;
                return Ok(found);
            }
            let known = view.found_users(&page).map_err(Error::from)?;
            for (user, known) in page.into_iter().zip(known) {
                let Some(known) = known.filter(|known| term.fits(&known.words).is_some()) else { continue };
                if !seen.insert(user.clone()) {
                    continue;
                }
                asked += 1;
                if may_find(&user)? {
                    if found.users.len() == users_max {
                        found.limited = true;
                        return Ok(found);
                    }
                    found.users.push((user, known));
                }
                if asked >= ASKED_MAX {
                    found.limited = true;
                    return Ok(found);
                }
            }
        }
    }
}

/// The users who may be meant, page by page: first those who have a word as it is, then those who have one that
/// begins with it.
struct Candidates {
    /// The word that is gone through in the index, if there is only one.
    word: Option<(String, Words, Option<Vec<u8>>)>,
    /// Those who have all words, as far as was looked.
    users: std::vec::IntoIter<OwnedUserId>,
    rows_left: usize,
    /// Whether there are more than were looked at.
    is_cut: bool,
}

impl Candidates {
    fn of(view: &View, term: &UserTerm) -> Result<Self, records::RecordsError> {
        let none = Self { word: None, users: Vec::new().into_iter(), rows_left: ROWS_MAX, is_cut: false };
        match term.words.as_slice() {
            [] => Ok(none),
            [word] => Ok(Self { word: Some((word.clone(), Words::Equal, None)), ..none }),
            words => {
                // Each word's users, the fewest first; what is common to all is left.
                let mut lists = Vec::with_capacity(words.len());
                for word in words {
                    lists.push(view.users_by_word(word, Words::BeginWith, ROWS_MAX)?);
                }
                let is_whole = |list: &Vec<OwnedUserId>| list.len() < ROWS_MAX;
                lists.sort_by_key(Vec::len);
                let is_cut = lists.first().is_some_and(|fewest| !is_whole(fewest));
                let mut lists = lists.into_iter();
                let mut users = lists.next().unwrap_or_default();
                // A list that is not whole says nothing of those who are not in it; what the directory knows of each
                // user decides then.
                for others in lists.filter(is_whole) {
                    let others: HashSet<OwnedUserId> = others.into_iter().collect();
                    users.retain(|user| others.contains(user));
                }
                Ok(Self { users: users.into_iter(), is_cut, ..none })
            }
        }
    }

    fn page(&mut self, view: &View) -> Result<Vec<OwnedUserId>, records::RecordsError> {
        let Some((word, words, after)) = &mut self.word else { return Ok(self.users.by_ref().take(PAGE).collect()) };
        loop {
            if self.rows_left == 0 {
                self.is_cut = true;
                return Ok(Vec::new());
            }
            let rows = view.users_by_word_after(word, *words, after.as_deref(), PAGE.min(self.rows_left))?;
            self.rows_left -= rows.users.len();
            match rows.last {
                Some(last) => {
                    *after = Some(last);
                    return Ok(rows.users);
                }
                None if *words == Words::Equal => (*words, *after) = (Words::BeginWith, None),
                None => return Ok(Vec::new()),
            }
        }
    }
}

/// Writes into the user directory what a user's profile is from now on.
pub(crate) fn put_found(changes: &mut Changes, user: &UserId, profile: &Profile) -> Result<(), Error> {
    let text = |field: &str| profile.get(field).and_then(|json| serde_json::from_str::<String>(json).ok());
    let (display_name, avatar_url) = (text("displayname"), text("avatar_url"));
    let words = words_of(user, display_name.as_deref());
    Ok(changes.put_found_user(user, Some(&FoundUser { display_name, avatar_url, words }))?)
}

/// What of a search term is looked for: of a user id its localpart, for all of a server's users have its name.
fn searched(term: &str) -> &str {
    match term.trim().strip_prefix('@') {
        Some(user_id) => user_id.split(':').next().unwrap_or_default(),
        None => term,
    }
}

/// The words of a text, all of one case. Where Russian writes `ё` or `е` for the same, it is `е`.
fn split(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(|word| {
        let mut word = word.to_lowercase().replace('ё', "е");
        word.truncate(word.floor_char_boundary(WORD_BYTES_MAX));
        word
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits_of_one_case() {
        let words = |text: &str| split(text).collect::<Vec<_>>();
        assert_eq!(words("Иван Семёнов-Петров, 2-й отдел"), ["иван", "семенов", "петров", "2", "й", "отдел"]);
        assert_eq!(words("i.petrov_3=x"), ["i", "petrov", "3", "x"]);
        assert_eq!(words(" -- "), [""; 0]);
        assert_eq!(words(&"я".repeat(100)), ["я".repeat(32)]);
    }

    #[test]
    fn a_term_fits_by_whole_words_or_their_beginnings() {
        let words = words_of("@i.petrov:x".try_into().unwrap(), Some("Иван Петров"));
        let fits = |term: &str| UserTerm::of(term).fits(&words);
        assert_eq!(fits("петров иван"), Some(Fit::Whole));
        assert_eq!(fits("Ив Петр"), Some(Fit::Beginnings));
        assert_eq!(fits("@i.petrov:elsewhere"), Some(Fit::Whole));
        assert_eq!((fits("иван сидоров"), fits("етров"), fits(" ")), (None, None, None));
    }

    #[test]
    fn of_a_user_id_the_localpart_is_looked_for() {
        assert_eq!(searched(" @i.petrov:example.org"), "i.petrov");
        assert_eq!(searched("@i.petrov"), "i.petrov");
        assert_eq!(searched("a @b"), "a @b");
    }
}
