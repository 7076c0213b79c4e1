//! The words of a text, as they are indexed and looked for: of one case and stemmed, Cyrillic words by the rules of
//! Russian and Latin words by those of English.
//!
//! Both stemmers see each word: neither changes one that has none of its letters, so the script of a word chooses its
//! language, whatever else the text is in.

use std::iter::Peekable;
use std::str::CharIndices;
use tantivy::tokenizer::{Language, Stemmer, TextAnalyzer, Token, TokenStream, Tokenizer};

/// The longest word, in bytes; longer ones are cut, in what is indexed and in what is looked for.
const WORD_BYTES_MAX: usize = 64;
/// What makes `й` of `и`, as some systems write it.
const BREVE: char = '\u{306}';

/// What turns texts into the words of the index.
pub(crate) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(Words::default())
        .filter(Stemmer::new(Language::Russian))
        .filter(Stemmer::new(Language::English))
        .build()
}

/// Splits a text into words of letters and digits, all of one case. Where Russian writes `ё` or `е` for the same, it
/// is `е`. Scripts that don't part words have a word for each character.
#[derive(Clone, Default)]
struct Words {
    token: Token,
}

struct WordStream<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream { text, chars: text.char_indices().peekable(), token: &mut self.token }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        self.token.text.clear();
        self.token.position = self.token.position.wrapping_add(1);
        while let Some((at, letter)) = self.chars.next() {
            if !letter.is_alphanumeric() {
                continue;
            }
            self.token.offset_from = at;
            push(&mut self.token.text, letter);
            if !stands_alone(letter) {
                let goes_on = |letter: char| (letter.is_alphanumeric() && !stands_alone(letter)) || is_mark(letter);
                while let Some((_, letter)) = self.chars.next_if(|(_, letter)| goes_on(*letter)) {
                    push(&mut self.token.text, letter);
                }
            }
            self.token.offset_to = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
            let end = self.token.text.floor_char_boundary(WORD_BYTES_MAX);
            self.token.text.truncate(end);
            return true;
        }
        false
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

fn push(word: &mut String, letter: char) {
    // What is longer is cut anyway; a "word" may be a whole message.
    if word.len() > WORD_BYTES_MAX {
        return;
    }
    match letter {
        BREVE if word.ends_with('и') => {
            word.pop();
            word.push('й');
        }
        letter if is_mark(letter) => {}
        letter => {
            let small = letter.to_lowercase().filter(|letter| !is_mark(*letter));
            word.extend(small.map(|letter| if letter == 'ё' { 'е' } else { letter }));
        }
    }
}

/// Whether this belongs to the letter before it.
fn is_mark(letter: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&letter)
}

/// Whether this is a word by itself: a character of Chinese, Japanese or Thai writing.
fn stands_alone(letter: char) -> bool {
    matches!(letter, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stems(text: &str) -> Vec<String> {
        let mut analyzer = analyzer();
        let mut stream = analyzer.token_stream(text);
        let mut found = Vec::new();
        while stream.advance() {
            found.push(stream.token().text.clone());
        }
        found
    }

    #[test]
    fn forms_of_a_word_are_one_word() {
        assert_eq!(stems("приказ приказа приказами ПРИКАЗУ"), ["приказ"; 4]);
        assert_eq!(stems("meeting meetings Meet"), ["meet"; 3]);
        assert_eq!(stems("Отчёты отчетов"), ["отчет"; 2]);
    }

    #[test]
    fn the_script_of_a_word_chooses_its_language() {
        assert_eq!(stems("documents документы documents"), ["document", "документ", "document"]);
    }

    #[test]
    fn words_are_letters_and_digits_however_they_are_composed() {
        assert_eq!(stems("№ 12-34/в, «file_7.txt»"), ["12", "34", "в", "file", "7", "txt"]);
        assert_eq!(stems("и\u{306}од е\u{308}ж"), ["йод", "еж"]);
        assert_eq!(stems("会議 の"), ["会", "議", "の"]);
        assert_eq!(stems(" -- "), [""; 0]);
    }

    #[test]
    fn a_word_of_any_length_is_cut() {
        let [word] = &stems(&"ъ".repeat(10_000))[..] else { panic!() };
        assert!(word.len() <= WORD_BYTES_MAX);
    }

    #[test]
    fn offsets_are_those_of_the_text() {
        let text = "О приказе, ё\u{301}лка!";
        let mut analyzer = analyzer();
        let mut stream = analyzer.token_stream(text);
        let mut found = Vec::new();
        while stream.advance() {
            let token = stream.token();
            found.push(&text[token.offset_from..token.offset_to]);
        }
        assert_eq!(found, ["О", "приказе", "ё\u{301}лка"]);
    }
}
