//! The user directory: who is found by which words.
//!
//! Users are found by the words of their user id and of their display name, and by what these begin with. Names
//! that they have in single rooms are not in it. Who may find whom is the caller's to say.

use crate::{Accounts, Error};
use records::{Changes, FoundUser, Profile, Words};
use ruma::{OwnedUserId, UserId};
use std::collections::{BTreeSet, HashSet};

/// By how many words a user is found.
const WORDS_MAX: usize = 16;
/// The longest word, in bytes; longer ones are cut.
const WORD_BYTES_MAX: usize = 64;
/// How many words of a search count.
const SEARCH_WORDS_MAX: usize = 8;
/// How many users who have a word are looked at, by the word that the fewest have.
const CANDIDATES_MAX: usize = 1_000;

/// Whom a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundUsers {
    /// The users; those who have the words as they are come first.
    pub users: Vec<(OwnedUserId, FoundUser)>,
    /// Whether there may be more.
    pub limited: bool,
}

impl Accounts {
    /// Searches the user directory for users who have all of the words of `term` or such as begin with them, and
    /// whom `may_find` lets the asker find, at most `users_max`.
    pub fn find_users<E: From<Error>>(
        &self,
        term: &str,
        users_max: usize,
        mut may_find: impl FnMut(&UserId) -> Result<bool, E>,
    ) -> Result<FoundUsers, E> {
        let mut words: Vec<String> = split(searched(term)).collect();
        words.truncate(SEARCH_WORDS_MAX);
        let mut found = FoundUsers { users: Vec::new(), limited: false };
        let view = self.view();
        let mut candidates: Option<(Vec<OwnedUserId>, bool)> = None;
        for word in &words {
            let mut users = Vec::new();
            // Those who have the word itself come last in the order of the store, and first here.
            for words in [Words::Equal, Words::BeginWith] {
                users.extend(view.users_by_word(word, words, CANDIDATES_MAX).map_err(Error::from)?);
            }
            let is_cut = users.len() >= CANDIDATES_MAX;
            if candidates.as_ref().is_none_or(|(fewest, _)| users.len() < fewest.len()) {
                candidates = Some((users, is_cut));
            }
        }
        let Some((candidates, is_cut)) = candidates else { return Ok(found) };
        found.limited = is_cut;
        let mut seen = HashSet::new();
        for user in candidates {
            if !seen.insert(user.clone()) {
                continue;
            }
            let Some(known) = view.found_user(&user).map_err(Error::from)? else { continue };
            let has = |word: &String| known.words.range(word.clone()..).next().is_some_and(|w| w.starts_with(word));
            if !words.iter().all(has) || !may_find(&user)? {
                continue;
            }
            if found.users.len() == users_max {
                found.limited = true;
                break;
            }
            found.users.push((user, known));
        }
        Ok(found)
    }
}

/// Writes into the user directory what a user's profile is from now on.
pub(crate) fn put_found(changes: &mut Changes, user: &UserId, profile: &Profile) -> Result<(), Error> {
    let text = |field: &str| profile.get(field).and_then(|json| serde_json::from_str::<String>(json).ok());
    let (display_name, avatar_url) = (text("displayname"), text("avatar_url"));
    let names = [Some(user.localpart()), display_name.as_deref()];
    let words: BTreeSet<String> = names.into_iter().flatten().flat_map(split).take(WORDS_MAX).collect();
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
    fn of_a_user_id_the_localpart_is_looked_for() {
        assert_eq!(searched(" @i.petrov:example.org"), "i.petrov");
        assert_eq!(searched("@i.petrov"), "i.petrov");
        assert_eq!(searched("a @b"), "a @b");
    }
}
